"""The calls that a network makes, into a double of libcudnn that keeps its descriptors and computes by the model.

Arguments pass through C's calling convention, by the signatures that the headers confirm (`test_cudnn_library`).
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rnngraph.backends.cupy.cudnn import abi, network
from rnngraph.backends.cupy.cudnn.abi import Algorithm, DataLayout, DataType, MathType, Mode
from rnngraph.backends.cupy.cudnn.model import ModelNetwork
from rnngraph.backends.cupy.cudnn.network import Network
from rnngraph.backends.cupy.cudnn.setting import Arrays, Recurrent, Setting
from rnngraph.backends.cupy.cudnn.weight_space import WeightSpace
from rnngraph.backends.cupy.gpu import CupyDevice
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.errors import CompileError
from rnngraph.ir import BF16, F16, F32, F64, Array, DType, RnnAttrs, evaluate
from tests.backends.cupy.fake_cupy import Namespace, installed
from tests.backends.cupy.fake_cupy.stream import Stream
from tests.backends.cupy.rnn_nodes import call, cudnn_kernel, lengths_of, node_graph
from tests.backends.llvm.native import error
from tests.testing import random_inputs

STREAM = 77
TYPES = {DataType.FLOAT: F32, DataType.DOUBLE: F64, DataType.HALF: F16, DataType.BFLOAT16: BF16}
MODES = {Mode.LSTM: "lstm", Mode.GRU: "gru", Mode.RNN_TANH: "rnn_tanh", Mode.RNN_RELU: "rnn_relu"}
SPARE = 32  # bytes that this library wants behind the weights


class Functions:
    """The library's functions on numbers and pointers.

    shift   bytes that the library keeps biases further on
    put     gives work to the stream of a number; here it is done at once
    """

    def __init__(self) -> None:
        self.stream = 0
        self.put: Callable[[int, Callable[[], None]], None] = lambda stream, work: work()
        self.objects: dict[int, Any] = {}
        self.called: list[str] = []
        self.error = ""
        self.shift = 0

    def function(self, name: str) -> Callable[..., int]:
        def run(*arguments: Any) -> int:
            self.called.append(name)
            try:
                if name.startswith("cudnnCreate"):
                    key = len(self.objects) + 1
                    self.objects[key] = None
                    arguments[0][0] = key
                elif name.startswith("cudnnDestroy"):
                    del self.objects[arguments[0]]
                    self.objects[-len(self.called)] = None  # no number is given twice
                else:
                    getattr(self, name)(*arguments)
            except Exception as e:  # nothing may leave a callback
                self.error = f"{type(e).__name__}: {e}"
                return 2000
            return 0

        return run

    def cudnnSetStream(self, handle: int, stream: int) -> None:
        self.stream = stream

    def cudnnSetRNNDescriptor_v8(self, at: int, *fields: Any) -> None:
        algorithm, cell, bias, direction, mode, dtype, sums, math, inputs, hidden, proj, layers, dropout, flags = fields
        assert (bias, mode, dropout, flags) == (2, 0, None, 1)
        assert sums == (DataType.DOUBLE if dtype == DataType.DOUBLE else DataType.FLOAT)
        attrs = RnnAttrs(MODES[Mode(cell)], hidden, layers, "bidirectional" if direction else "forward",
                         proj=0 if proj == hidden else proj)
        self.objects[at] = (WeightSpace(attrs, inputs), TYPES[DataType(dtype)], Algorithm(algorithm), MathType(math))

    def cudnnSetRNNDataDescriptor(self, at: int, dtype: int, layout: int, steps: int, batch: int, features: int,
                                  lengths: Any, fill: int) -> None:
        ends = lengths[:batch]
        assert all(1 <= n <= steps for n in ends)
        self.objects[at] = (TYPES[DataType(dtype)], layout, steps, batch, features, ends)

    def cudnnSetTensorNdDescriptor(self, at: int, dtype: int, rank: int, shape: Any, strides: Any) -> None:
        count, batch, features = shape[:rank]
        assert strides[:rank] == [batch * features, features, 1]
        self.objects[at] = (TYPES[DataType(dtype)], count, batch, features)

    def cudnnGetRNNWeightSpaceSize(self, handle: int, rnn: int, size: Any) -> None:
        space, dtype, *_ = self.objects[rnn]
        size[0] = space.size * dtype.itemsize + SPARE

    def cudnnGetRNNTempSpaceSizes(self, handle: int, rnn: int, mode: int, x: int, work: Any, reserve: Any) -> None:
        assert mode == 0
        work[0], reserve[0] = 48, 0

    def cudnnGetRNNWeightParams(self, handle: int, rnn: int, pseudo: int, size: int, weights: int, linear: int,
                                m: int, matrix: Any, b: int, bias: Any) -> None:
        space, dtype, *_ = self.objects[rnn]
        assert size == space.size * dtype.itemsize + SPARE
        part = next(p for p in space.parts() if (p.pseudo, p.linear) == (pseudo, linear))
        matrix[0] = weights + part.matrix * dtype.itemsize
        bias[0] = None if part.bias is None else weights + part.bias * dtype.itemsize + self.shift

    def cudnnBuildRNNDynamic(self, handle: int, rnn: int, batch: int) -> None:
        assert self.objects[rnn][2] is Algorithm.PERSIST_DYNAMIC

    def cudnnRNNForward(self, handle: int, rnn: int, mode: int, lengths: int | None, x: int, px: int, y: int, py: int,
                        h: int, ph: int, phn: int, c: int, pc: int, pcn: int, size: int, weights: int, work: int,
                        pw: int, reserve: int, pr: int | None) -> None:
        space, dtype, algorithm, math = self.objects[rnn]
        dx, layout, steps, batch, inputs, ends = self.objects[x]
        directions = len(space.attrs.reverses)
        assert self.objects[y] == (dx, layout, steps, batch, space.attrs.features * directions, ends)
        assert self.objects[h] == (dx, space.pseudo_layers, batch, space.attrs.features)
        assert self.objects[c] == (dx, space.pseudo_layers, batch, space.attrs.hidden)
        assert (dx, inputs, mode, lengths, work, reserve, pr) == (dtype, space.inputs, 0, None, 48, 0, None)
        assert pw
        s = Setting(space, dtype, algorithm, steps, batch, math is MathType.DEFAULT,
                    layout == DataLayout.BATCH_MAJOR_UNPACKED)
        states = [(a, (space.pseudo_layers, batch, n)) for a, n in (
            (ph, space.attrs.features), (phn, space.attrs.features), (pc, space.attrs.hidden),
            (pcn, space.attrs.hidden))]
        arrays = Arrays(memory(px, s.sequence(inputs), s), memory(py, s.sequence(self.objects[y][4]), s),
                        *(memory(a, shape, s) if a else None for a, shape in states))  # type: ignore[arg-type]
        held = memory(weights, (space.size,), s)
        self.put(self.stream, lambda: ModelNetwork(s, arrays, held).run(ends))


def memory(address: int, shape: tuple[int, ...], s: Setting) -> Array:
    """What lies at an address."""
    count = int(np.prod(shape)) * s.held.itemsize
    held = np.frombuffer(memoryview((ctypes.c_char * count).from_address(address)).cast("B"), s.held)
    return held.reshape(shape)


class Calling(ShimDevice):
    """The stand-in, whose networks are those of a GPU."""

    def rnn(self, setting: Setting, arrays: Arrays, weights: Array) -> Recurrent:
        return Network(setting, arrays, weights, self, STREAM)


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    """In the library's place."""
    made = Functions()
    library = {name: ctypes.CFUNCTYPE(ctypes.c_int, *signature)(made.function(name))
               for name, signature in abi.SIGNATURES.items()}

    def words(buffer: Any, size: int) -> None:
        buffer.value = made.error.encode()[: size - 1]

    double = SimpleNamespace(**library, cudnnGetErrorString=lambda status: b"BAD_PARAM", cudnnGetLastErrorString=words)
    monkeypatch.setattr(abi, "library", lambda: double)
    network.session.cache_clear()
    yield made
    network.session.cache_clear()


@pytest.mark.parametrize(("attrs", "impl", "dtype", "tolerance"), [
    (RnnAttrs("lstm", 5, 2, "bidirectional", proj=3), "standard", F32, 1e-5),
    (RnnAttrs("gru", 5, 2), "persist_dynamic", F64, 1e-13), (RnnAttrs("rnn_tanh", 5), "small_h", F16, 2e-3),
    (RnnAttrs("lstm", 5, direction="reverse"), "persist_static.tf32", F32, 2e-3),
    (RnnAttrs("gru", 5, 2, "bidirectional", dropout=0.5, seeds=(3,)), "standard.bf16", F32, 2e-2)],
    ids=lambda v: getattr(v, "mode", str(v)))
@pytest.mark.parametrize("batch_major", [False, True])
def test_networks(functions: Functions, attrs: RnnAttrs, impl: str, dtype: DType, tolerance: float,
                  batch_major: bool) -> None:
    graph = node_graph(attrs, 4, dtype, batch_major=batch_major)
    kernel = cudnn_kernel(graph, f"cupy.cudnn.{impl}", Calling())
    for seed in range(2):
        feeds = random_inputs(graph, {"T": 6, "B": 3}, seed)
        worst = error(call(graph, kernel, feeds), evaluate(graph, feeds, float64=True))
        assert worst <= tolerance, f"off by {worst:.2e} of the scale"
    assert functions.called.count("cudnnRNNForward") == 2 * (2 if attrs.dropout else 1)
    assert functions.called.count("cudnnCreate") == 1
    assert functions.stream == STREAM
    assert functions.called.count("cudnnBuildRNNDynamic") == (impl == "persist_dynamic")


def test_lengths_are_described_again_when_they_change(functions: Functions) -> None:
    graph = node_graph(RnnAttrs("lstm", 5, 2, lengths=True), 4)
    kernel = cudnn_kernel(graph, "cupy.cudnn.standard", Calling())
    feeds = random_inputs(graph, {"T": 6, "B": 3})
    described = []
    for lengths in ([6, 6, 6], [0, 4, 6], [0, 4, 6], [0, 0, 0], [6, 6, 6]):
        given = lengths_of(feeds, lengths)
        before = functions.called.count("cudnnSetRNNDataDescriptor")
        worst = error(call(graph, kernel, given), evaluate(graph, given, float64=True))
        assert worst <= 1e-5, f"off by {worst:.2e} of the scale with {lengths}"
        described.append(functions.called.count("cudnnSetRNNDataDescriptor") - before)
    assert described == [2, 2, 0, 2, 2]


def test_another_order_of_weights_is_an_error(functions: Functions) -> None:
    functions.shift = 4
    graph = node_graph(RnnAttrs("gru", 5), 4)
    with pytest.raises(CompileError, match=r"the bias of pseudo-layer 0, linear layer 0 lies at byte .*, expected"):
        call(graph, cudnn_kernel(graph, "cupy.cudnn.standard", Calling()), random_inputs(graph, {"T": 6, "B": 3}))


def test_descriptors_are_destroyed_with_their_network(functions: Functions) -> None:
    graph = node_graph(RnnAttrs("gru", 5), 4)
    kernel = cudnn_kernel(graph, "cupy.cudnn.standard", Calling())
    call(graph, kernel, random_inputs(graph, {"T": 6, "B": 3}))
    del kernel
    gc.collect()
    made = [name for name in functions.called if name.startswith("cudnnCreate") and name != "cudnnCreate"]
    destroyed = [name for name in functions.called if name.startswith("cudnnDestroy")]
    assert sorted(n.replace("Create", "Destroy") for n in made) == sorted(destroyed)


# --- on a double of CuPy: streams whose work is done late, captures that refuse what CUDA refuses --------------------


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, functions: Functions) -> Namespace:
    functions.put = lambda stream, work: Stream.known[stream].put(work)
    return installed(monkeypatch)


@pytest.mark.parametrize(("attrs", "impl", "tolerance"), [
    (RnnAttrs("lstm", 5, 2, "bidirectional", proj=3), "standard", 1e-5),
    (RnnAttrs("gru", 5, 2, "bidirectional", dropout=0.5, seeds=(3,)), "standard.bf16", 2e-2),
    (RnnAttrs("lstm", 5, 2, "reverse", dropout=0.5, seeds=(3,)), "small_h.tf32", 2e-3),
    (RnnAttrs("gru", 5, direction="reverse"), "standard.bf16", 2e-2)], ids=lambda v: getattr(v, "mode", str(v)))
@pytest.mark.parametrize("batch_major", [False, True])
def test_captured(cupy: Namespace, functions: Functions, attrs: RnnAttrs, impl: str, tolerance: float,
                  batch_major: bool) -> None:
    """A call is launched, then captured, then repeated: what would not be captured fails there."""
    graph = node_graph(attrs, 4, batch_major=batch_major)
    kernel = cudnn_kernel(graph, f"cupy.cudnn.{impl}", CupyDevice())
    for seed in range(4):
        feeds = random_inputs(graph, {"T": 6, "B": 3}, seed)
        worst = error(call(graph, kernel, feeds), evaluate(graph, feeds, float64=True))
        assert worst <= tolerance, f"off by {worst:.2e} of the scale in call {seed}"
    assert "a CUDA graph" in kernel.artifacts()["launches.txt"]
    assert functions.called.count("cudnnRNNForward") == 2 * (2 if attrs.dropout else 1)


@pytest.mark.parametrize("attrs", [
    RnnAttrs("lstm", 5, 2, "bidirectional", lengths=True), RnnAttrs("gru", 5, 2, "reverse", lengths=True),
    RnnAttrs("lstm", 5, 2, "reverse", lengths=True, dropout=0.5, seeds=(3,))], ids=lambda a: f"{a.mode}-{a.dropout}")
def test_lengths_keep_a_call_from_being_captured(cupy: Namespace, attrs: RnnAttrs) -> None:
    graph = node_graph(attrs, 4)
    kernel = cudnn_kernel(graph, "cupy.cudnn.standard", CupyDevice())
    for seed, lengths in enumerate(([6, 2, 4], [0, 5, 1], [6, 6, 6], [0, 0, 0])):
        feeds = lengths_of(random_inputs(graph, {"T": 6, "B": 3}, seed), lengths)
        worst = error(call(graph, kernel, feeds), evaluate(graph, feeds, float64=True))
        assert worst <= 1e-5, f"off by {worst:.2e} of the scale with {lengths}"
    assert "cuDNN takes the lengths of rows from the host" in kernel.artifacts()["launches.txt"]
