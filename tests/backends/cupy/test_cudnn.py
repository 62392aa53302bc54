"""cuDNN without a GPU: where weights lie, the model of a call, signatures and descriptors of an installed library."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from rnngraph.backends.cupy.cudnn import abi
from rnngraph.backends.cupy.cudnn.abi import Algorithm, CudnnError
from rnngraph.backends.cupy.cudnn.model import forward
from rnngraph.backends.cupy.cudnn.network import describe
from rnngraph.backends.cupy.cudnn.weight_space import WeightSpace
from rnngraph.ir import (
    BF16,
    F16,
    F32,
    F64,
    I32,
    RNN,
    Builder,
    DType,
    Graph,
    Rnn,
    RnnAttrs,
    TensorType,
    Value,
    build_graph,
    evaluate,
    make_op,
)
from tests.testing import random_inputs

MODES = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def graph(attrs: RnnAttrs, inputs: int) -> Graph:
    """One rnn node with random constant weights."""
    a, rng = attrs, np.random.default_rng(0)
    count, wide = a.num_layers * len(a.reverses), a.gates * a.hidden
    types = {"x": TensorType(F32, ("T", "B", inputs)), "h": TensorType(F32, (count, "B", a.features))}
    if a.has_cell:
        types["c"] = TensorType(F32, (count, "B", a.hidden))

    if a.lengths:
        types["lengths"] = TensorType(I32, ("B",))

    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        weights = list[Value]()
        for k in range(count):
            features = inputs if k < len(a.reverses) else a.features * len(a.reverses)
            shapes: list[tuple[int, ...]] = [(features, wide), (a.features, wide), (wide,), (wide,)]
            shapes += [(a.hidden, a.proj)] if a.proj else []
            weights += [b.const(rng.uniform(-0.5, 0.5, s).astype(np.float32)) for s in shapes]
        results = b.insert(make_op(RNN, [*v.values(), *weights], a)).results
        return dict(zip(("y", "h_n", "c_n"), results, strict=False))

    return build_graph(types, body)


def node_of(made: Graph) -> Rnn:
    return Rnn(next(op for op in made.walk() if op.name == "rnn"))


CASES = [RnnAttrs(mode, 5, layers, direction) for mode in MODES for layers in (1, 2)
         for direction in ("forward", "bidirectional")]
CASES += [RnnAttrs("lstm", 5, 2, "bidirectional", proj=3), RnnAttrs("lstm", 4, lengths=True),
          RnnAttrs("gru", 4, 2, "bidirectional", lengths=True)]


@pytest.mark.parametrize("attrs", CASES, ids=lambda a: f"{a.mode}-{a.num_layers}-{a.direction}-{a.proj}-{a.lengths}")
def test_the_packed_weights_mean_the_node(attrs: RnnAttrs) -> None:
    made = graph(attrs, 6)
    node, space = node_of(made), WeightSpace(attrs, 6)
    feeds = random_inputs(made, {"T": 7, "B": 3})
    want = evaluate(made, feeds, float64=True)
    wide = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in feeds.items()}
    got = forward(space, space.pack(node).astype(np.float64), wide["x"], wide["h"], wide.get("c"), wide.get("lengths"))
    for name, array in zip(("y", "h_n", "c_n"), got, strict=True):
        if array is not None:
            np.testing.assert_allclose(array, want[name], rtol=0, atol=1e-12)


def test_parts_tile_the_space() -> None:
    space = WeightSpace(RnnAttrs("lstm", 5, 2, "bidirectional", proj=3), 6)
    taken = np.zeros(space.size, int)
    for part in space.parts():
        rows, columns = part.shape
        taken[part.matrix : part.matrix + rows * columns] += 1
        if part.bias is not None:
            taken[part.bias : part.bias + 5] += 1
    assert (taken == 1).all()


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
def test_pytorchs_weights_in_pytorchs_order(kind: type[torch.nn.LSTM | torch.nn.GRU]) -> None:
    """PyTorch's flat weights hold the same gates, matrices of a layer and then its biases."""
    torch.manual_seed(0)
    module = kind(6, 5, 2, bidirectional=True)
    mode = "lstm" if kind is torch.nn.LSTM else "gru"
    space = WeightSpace(RnnAttrs(mode, 5, 2, "bidirectional"), 6)
    named = dict(module.named_parameters())
    flat = [named[f"{what}_{side}_l{layer}{d}"].detach().numpy().ravel() for what in ("weight", "bias")
            for layer in range(2) for d in ("", "_reverse") for side in ("ih", "hh")]
    x, h = np.random.default_rng(0).standard_normal((4, 3, 6)), np.zeros((4, 3, 5))
    y, *_ = forward(space, np.concatenate(flat).astype(np.float64), x, h, h if mode == "lstm" else None)
    want, _ = module.double()(torch.from_numpy(x))
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=0, atol=1e-12)


# --- an installed library ------------------------------------------------------------------------------------------

needs_library = pytest.mark.skipif(abi.path() is None, reason="libcudnn.so.9 is not installed")


@needs_library
def test_signatures_match_the_headers() -> None:
    found = abi.path()
    assert found is not None
    folder = Path(found).resolve().parent.parent / "include"
    texts = [h.read_text() for h in sorted(folder.glob("cudnn*.h"))]
    if not texts:
        pytest.skip("the headers are not beside the library")
    kinds = {"int": ctypes.c_int, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32, "size_t": ctypes.c_size_t}
    for name, arguments in abi.SIGNATURES.items():
        (declared,) = {m.group(1) for t in texts for m in [re.search(rf"\b{name}\(([^)]*)\)", t)] if m}
        parts = [re.sub(r"/\*.*?\*/|\bconst\b", "", part).strip() for part in declared.split(",")]
        assert len(parts) == len(arguments), name
        for part, argument in zip(parts, arguments, strict=True):
            pointer = "*" in part or "[" in part or re.match(r"cudnn\w+Descriptor_t|cudnnHandle_t|cudaStream_t", part)
            expected = ctypes.c_void_p if pointer else kinds.get(part.split()[0], ctypes.c_int)
            size = ctypes.sizeof(argument)
            assert size == ctypes.sizeof(expected), f"{name}: {part}"


SUPPORTED = {  # of the descriptors alone, as measured with 9.19: which algorithms take a dtype
    F32: {0, 1, 2, 3}, F16: {0, 1, 2, 3}, BF16: {0, 1, 2, 3}, F64: {0, 2},
}


@needs_library
@pytest.mark.parametrize("dtype", list(SUPPORTED), ids=str)
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_what_descriptors_take(dtype: DType, algorithm: Algorithm) -> None:
    if algorithm in SUPPORTED[dtype]:
        describe(RnnAttrs("lstm", 64, 2, "bidirectional"), 32, dtype, algorithm)
        return
    with pytest.raises(CudnnError) as e:
        describe(RnnAttrs("lstm", 64, 2, "bidirectional"), 32, dtype, algorithm)
    assert e.value.not_supported


@needs_library
def test_projections_are_the_standard_algorithms() -> None:
    attrs = RnnAttrs("lstm", 64, proj=32)
    describe(attrs, 32, F32, Algorithm.STANDARD)
    with pytest.raises(CudnnError):
        describe(attrs, 32, F32, Algorithm.PERSIST_STATIC)
