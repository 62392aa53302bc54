"""Which of cuDNN's candidates take which nodes on which GPUs, and the sentences of those that do not."""

from __future__ import annotations

import pytest

from rnngraph import backends
from rnngraph.backends.cupy.caps import DESCRIBED
from rnngraph.backends.cupy.cudnn.variants import ALGORITHMS, VARIANTS
from rnngraph.backends.registry import Candidate, Device, Registry
from rnngraph.ir import BF16, F16, F32, F64, DType, RnnAttrs, parse
from tests.backends.cupy.rnn_nodes import node_graph, op_of

GPUS = ("t4", "a100", "h100", "h200")
DIMS = {"T": 100, "B": 8}
EVERY = tuple(ALGORITHMS)
STANDARD, STATIC, DYNAMIC, SMALL_H = EVERY


def described(name: str) -> Device:
    """A GPU that is not there, as `discover` would describe it."""
    caps = DESCRIBED[name]
    return Device("gpu", name, True, frozenset({"gpu", "cupy", "kernels", "cudnn", caps.arch.rstrip("a")}), {},
                  {"sms": caps.sms, "shared": caps.shared})


def consider(attrs: RnnAttrs, dtype: DType = F32, gpu: str = "h200", precision: str = "f32", inputs: int = 64) -> dict[
        str, Candidate]:
    registry = Registry(backends.load("cupy").implementations(), devices={"gpu": lambda: described(gpu)},
                        precision=precision)
    return {c.name: c for c in registry.consider(op_of(node_graph(attrs, inputs, dtype)), "gpu", DIMS)}


def fitting(candidates: dict[str, Candidate]) -> set[str]:
    return {name.removeprefix("cupy.cudnn.") for name, c in candidates.items() if name in VARIANTS and not c.failures}


NODES = [  # the node, its dtype, and the algorithms that take it
    (RnnAttrs("lstm", 64), F32, EVERY), (RnnAttrs("gru", 64, 3, "bidirectional"), F32, EVERY),
    (RnnAttrs("rnn_tanh", 64), F16, EVERY), (RnnAttrs("rnn_relu", 64, direction="reverse"), BF16, EVERY),
    (RnnAttrs("gru", 64), F64, (STANDARD, DYNAMIC)),
    (RnnAttrs("lstm", 64, proj=32), F32, (STANDARD,)), (RnnAttrs("lstm", 64, proj=32), F64, (STANDARD,)),
    (RnnAttrs("lstm", 64, proj=64), F32, ()), (RnnAttrs("lstm", 64, proj=65), F32, ()),
    (RnnAttrs("lstm", 64, lengths=True), F32, (STANDARD,)), (RnnAttrs("gru", 64, lengths=True), F16, (STANDARD,)),
    (RnnAttrs("lstm", 64, lengths=True, pad="repeat"), F32, ()),
    (RnnAttrs("lstm", 64, pad="repeat"), F32, EVERY),  # without lengths nothing is padded
    (RnnAttrs("gru", 64, reset_after=False), F32, ()), (RnnAttrs("lstm", 64, reset_after=False), F32, EVERY),
    (RnnAttrs("gru", 64, 2, dropout=0.5, seeds=(1,)), F32, EVERY),
    (RnnAttrs("rnn_tanh", 2048), F32, EVERY),  # no limit of sizes is documented; trials find them
]


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize(("attrs", "dtype", "takes"), NODES, ids=lambda v: getattr(v, "mode", str(v)))
def test_which_algorithms_take_a_node(gpu: str, attrs: RnnAttrs, dtype: DType, takes: tuple[str, ...]) -> None:
    assert fitting(consider(attrs, dtype, gpu)) == set(takes)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("gpu", GPUS)
def test_a_precision_is_asked_for_and_needs_tensor_cores(gpu: str, precision: str) -> None:
    node = RnnAttrs("lstm", 64)
    asked = set() if gpu == "t4" else {f"{label}.{precision}" for label in EVERY}
    assert fitting(consider(node, F32, gpu, precision)) == {*EVERY, *asked}
    assert fitting(consider(node, F32, gpu)) == set(EVERY)
    assert fitting(consider(node, F16, gpu, precision)) == set(EVERY)  # f16 is f16 whatever is asked for


SENTENCES = [
    (RnnAttrs("gru", 8, reset_after=False), F32, STANDARD,
     ["reset-after: cuDNN's GRU multiplies the reset gate onto R h + bR, not onto h (reset_after is false)"]),
    (RnnAttrs("lstm", 8, lengths=True, pad="repeat"), F32, STANDARD,
     ["pad: cuDNN writes zeros past a row's length, it does not repeat the last output (pad is 'repeat')"]),
    (RnnAttrs("lstm", 8, proj=8), F32, STANDARD,
     ["projection: cuDNN projects h to fewer features than the LSTM's units (h is projected from 8 features to 8)"]),
    (RnnAttrs("lstm", 8, proj=3), F32, STATIC,
     ["no-projection: cuDNN's persist_static does no projection (h is projected to 3)"]),
    (RnnAttrs("lstm", 8, lengths=True), F64, SMALL_H,
     ["dtype: cuDNN's small_h takes f32, f16 and bf16 (x is f64)",
      "same-lengths: cuDNN's small_h takes rows of one length (each row has its own)"]),
    (RnnAttrs("gru", 8), F64, f"{DYNAMIC}.tf32",
     ["precision: products in tf32 are what compile(precision='tf32') asks for (it is f32)",
      "tensor-cores: tensor cores multiply TF32 and bf16 from sm_80 on (it is sm_75)",
      "f32-node: the precision is that of products of f32 nodes (x is f64)"]),
]


@pytest.mark.parametrize(("attrs", "dtype", "label", "failures"), SENTENCES, ids=lambda v: getattr(v, "mode", ""))
def test_sentences(attrs: RnnAttrs, dtype: DType, label: str, failures: list[str]) -> None:
    assert list(consider(attrs, dtype, "t4")[f"cupy.cudnn.{label}"].failures) == failures


def test_weights_that_are_computed() -> None:
    graph = parse("""graph @g(%x: f32[T,B,3], %h: f32[1,B,2], %w: f32[3,2]) {
      %r = const splat(0.25) : f32[2,2]
      %b = const splat(0.0) : f32[2]
      %y, %hn = rnn %x, %h, %w, %r, %b, %b {mode = rnn_tanh, hidden = 2} : f32[T,B,2], f32[1,B,2]
      return y = %y
    }""")
    registry = Registry(backends.load("cupy").implementations(), devices={"gpu": lambda: described("h100")})
    sentence = "constant-weights: weights are packed at compile time (W of layer 0 is computed at run time)"
    for c in registry.consider(op_of(graph), "gpu", DIMS):
        assert (sentence in c.failures) == (c.name != "cupy.rnn.ops")  # which takes what no kernel does


@pytest.mark.parametrize(("attrs", "dtype", "precision", "chosen"), [
    (RnnAttrs("lstm", 192), F32, "f32", SMALL_H), (RnnAttrs("lstm", 193), F32, "f32", STANDARD),
    (RnnAttrs("gru", 192), F32, "f32", SMALL_H), (RnnAttrs("gru", 256), F16, "f32", STANDARD),
    (RnnAttrs("rnn_relu", 384), F32, "f32", SMALL_H), (RnnAttrs("rnn_relu", 385), F32, "f32", STANDARD),
    (RnnAttrs("lstm", 256), F16, "f32", STATIC), (RnnAttrs("lstm", 320), F16, "f32", STANDARD),
    (RnnAttrs("lstm", 256, 2), F16, "f32", STANDARD), (RnnAttrs("lstm", 256), BF16, "f32", STANDARD),
    (RnnAttrs("lstm", 100), F64, "f32", STANDARD), (RnnAttrs("lstm", 100, lengths=True), F32, "f32", STANDARD),
])
def test_the_estimates_choose_what_pytorch_does(attrs: RnnAttrs, dtype: DType, precision: str, chosen: str) -> None:
    """Of cuDNN's algorithms; see get_algo in PyTorch's aten/src/ATen/native/cudnn/RNN.cpp."""
    found = {n: c.seconds for n, c in consider(attrs, dtype, "h100", precision, 128).items()
             if c.seconds is not None and n in VARIANTS}
    assert min(found, key=lambda n: found[n]) == f"cupy.cudnn.{chosen}"


def test_cudnn_is_estimated_faster_than_a_kernel_for_every_phase() -> None:
    for layers, direction in ((1, "forward"), (2, "forward"), (3, "bidirectional")):
        found = consider(RnnAttrs("lstm", 512, layers, direction))
        own, cudnn = found["cupy.rnn"].seconds, found["cupy.cudnn.standard"].seconds
        assert own is not None
        assert cudnn is not None
        assert cudnn < own
