"""rnn nodes as calls of cuDNN, on the model of a call: memory, layouts, states, lengths, masks, precisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from rnngraph.backends.cupy.cudnn.abi import CudnnError
from rnngraph.backends.cupy.cudnn.bits import Bf16
from rnngraph.backends.cupy.cudnn.run import CudnnRun
from rnngraph.backends.cupy.cudnn.setting import Arrays, Recurrent, Setting
from rnngraph.backends.cupy.cudnn.variants import VARIANTS
from rnngraph.backends.cupy.cudnn.weight_space import Part, WeightSpace
from rnngraph.backends.cupy.plan import Plan
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.errors import CompileError, InputError
from rnngraph.ir import BF16, F16, F32, F64, Array, DType, RnnAttrs, evaluate
from rnngraph.ir.opdef import round_bf16
from tests.backends.cupy.rnn_nodes import call, cudnn_kernel, lengths_of, node_graph, node_of
from tests.backends.llvm.native import error
from tests.testing import random_inputs

STANDARD = "cupy.cudnn.standard"
TOLERANCE = 1e-5  # of the largest number of an output
MODES = ("lstm", "gru", "rnn_tanh", "rnn_relu")
DIRECTIONS = ("forward", "reverse", "bidirectional")
CASES = [RnnAttrs(mode, 5, layers, direction) for mode in MODES for layers in (1, 2) for direction in DIRECTIONS]
CASES += [RnnAttrs("lstm", 5, 2, d, proj=3) for d in DIRECTIONS]
CASES += [RnnAttrs("gru", 5, 3, d, dropout=0.4, seeds=(3, 9)) for d in DIRECTIONS]
LENGTHS = ([6, 2, 4], [1, 6, 3], [6, 6, 6], [0, 5, 1], [0, 0, 0])


def assert_runs(attrs: RnnAttrs, impl: str = STANDARD, dtype: DType = F32, *, tolerance: float = TOLERANCE,
                batch_major: bool = False) -> None:
    """Two sizes, the first of them twice: the second call of a size takes the plan of the first."""
    graph = node_graph(attrs, 4, dtype, batch_major=batch_major)
    kernel = cudnn_kernel(graph, impl)
    for seed, (steps, batch) in enumerate(((6, 3), (1, 1), (6, 3))):
        feeds = random_inputs(graph, {"T": steps, "B": batch}, seed)
        worst = error(call(graph, kernel, feeds), evaluate(graph, feeds, float64=True))
        assert worst <= tolerance, f"off by {worst:.2e} of the scale with {steps} steps of {batch} rows"


def ids(a: RnnAttrs) -> str:
    return f"{a.mode}-{a.num_layers}-{a.direction}-{a.proj}-{a.dropout}"


@pytest.mark.parametrize("batch_major", [False, True])
@pytest.mark.parametrize("attrs", CASES, ids=ids)
def test_nodes(attrs: RnnAttrs, batch_major: bool) -> None:
    assert_runs(attrs, batch_major=batch_major)


@pytest.mark.parametrize("attrs", CASES, ids=ids)
def test_rows_of_different_lengths(attrs: RnnAttrs) -> None:
    graph = node_graph(replace(attrs, lengths=True), 4)
    kernel = cudnn_kernel(graph, STANDARD)
    feeds = random_inputs(graph, {"T": 6, "B": 3})
    for lengths in LENGTHS:
        feeds = lengths_of(feeds, lengths)
        worst = error(call(graph, kernel, feeds), evaluate(graph, feeds, float64=True))
        assert worst <= TOLERANCE, f"off by {worst:.2e} of the scale with lengths {lengths}"


def test_lengths_that_are_too_long() -> None:
    graph = node_graph(RnnAttrs("gru", 5, lengths=True), 4)
    feeds = lengths_of(random_inputs(graph, {"T": 6, "B": 3}), [1, 7, 2])
    with pytest.raises(InputError, match=r"layer 'l': lengths must be in 0\.\.6"):
        call(graph, cudnn_kernel(graph, STANDARD), feeds)


@pytest.mark.parametrize("dims", [{"T": 0, "B": 2}, {"T": 3, "B": 0}], ids=str)
@pytest.mark.parametrize("lengths", [False, True])
def test_nothing_to_run(dims: dict[str, int], lengths: bool) -> None:
    graph = node_graph(RnnAttrs("lstm", 5, 2, "bidirectional", lengths=lengths), 4)
    feeds = random_inputs(graph, dims)
    got, want = call(graph, cudnn_kernel(graph, STANDARD), feeds), evaluate(graph, feeds)
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)


def test_what_cudnn_refuses_says_what_to_do() -> None:
    class Refusing(ShimDevice):
        def rnn(self, setting: Setting, arrays: Arrays, weights: Array) -> Recurrent:
            raise CudnnError("cudnn: cudnnBuildRNNDynamic: CUDNN_STATUS_NOT_SUPPORTED (3000)", 3000)

    graph = node_graph(RnnAttrs("gru", 5), 4)
    kernel = cudnn_kernel(graph, "cupy.cudnn.small_h", Refusing())
    words = (r"layer 'l': cupy\.cudnn\.small_h does not run 6 steps of 3 rows \(cudnn: .*NOT_SUPPORTED.*"
             r"compile\(without=\['cupy\.cudnn\.small_h'\]\) takes another implementation")
    with pytest.raises(CompileError, match=words):
        call(graph, kernel, random_inputs(graph, {"T": 6, "B": 3}))


@pytest.mark.parametrize(("impl", "attrs", "dtype"), [
    ("small_h", RnnAttrs("gru", 5), F64), ("persist_static", RnnAttrs("gru", 5), F64),
    ("persist_dynamic", RnnAttrs("lstm", 5, proj=3), F32), ("small_h", RnnAttrs("gru", 5, lengths=True), F32)])
def test_the_model_refuses_what_cudnn_does(impl: str, attrs: RnnAttrs, dtype: DType) -> None:
    graph = node_graph(attrs, 4, dtype)
    feeds = random_inputs(graph, {"T": 6, "B": 3})
    feeds = lengths_of(feeds, [6, 2, 3]) if attrs.lengths else feeds
    with pytest.raises(CompileError, match=r"cudnn \(model\): PERSIST_"):
        call(graph, cudnn_kernel(graph, f"cupy.cudnn.{impl}"), feeds)


# --- precisions ----------------------------------------------------------------------------------------------------

LSTM = RnnAttrs("lstm", 24, 2, "bidirectional")


@pytest.mark.parametrize(("impl", "dtype", "tolerance"), [
    *((name, F32, {"f32": TOLERANCE, "tf32": 2e-3, "bf16": 2e-2}[v.precision]) for name, v in VARIANTS.items()),
    (STANDARD, F64, 1e-14), ("cupy.cudnn.persist_dynamic", F64, 1e-14), (STANDARD, F16, 2e-3), (STANDARD, BF16, 2e-2),
])
def test_every_implementation(impl: str, dtype: DType, tolerance: float) -> None:
    assert_runs(LSTM, impl, dtype, tolerance=tolerance)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_what_was_asked_for_is_less_precise_than_f32(precision: str) -> None:
    graph = node_graph(LSTM, 4)
    feeds = random_inputs(graph, {"T": 6, "B": 3})
    assert error(call(graph, cudnn_kernel(graph, f"{STANDARD}.{precision}"), feeds), evaluate(graph, feeds)) > TOLERANCE


@pytest.mark.parametrize("attrs", [
    RnnAttrs("gru", 5, 2, "reverse", lengths=True, dropout=0.3, seeds=(5,)),
    RnnAttrs("lstm", 5, 2, "bidirectional", proj=3, lengths=True, dropout=0.3, seeds=(5,))], ids=ids)
def test_everything_at_once_in_bf16(attrs: RnnAttrs) -> None:
    graph = node_graph(attrs, 4)
    feeds = lengths_of(random_inputs(graph, {"T": 6, "B": 3}), [4, 0, 6])
    got, want = call(graph, cudnn_kernel(graph, f"{STANDARD}.bf16"), feeds), evaluate(graph, feeds, float64=True)
    assert error(got, want) <= 3e-2  # of the largest number of an output


def test_bits_of_bf16() -> None:
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, 1.00390625, 1.01171875, 3.4028235e38, 1e-40]
    numbers = np.array([*special, *np.random.default_rng(0).standard_normal(100)], np.float32)
    nans = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    x = np.concatenate([numbers, nans])
    bits, back = np.zeros(x.shape, np.uint16), np.zeros(x.shape, np.float32)
    convert = Bf16(np, x.shape)
    convert.narrow(x, bits)
    convert.widen(bits, back)
    np.testing.assert_array_equal(back, round_bf16(x))
    assert np.isnan(back[-3:]).all()


# --- what a plan may be recorded as --------------------------------------------------------------------------------


def test_a_plan_says_what_needs_the_host() -> None:
    for lengths, reasons in ((False, []), (True, ["layer 'l': cuDNN takes the lengths of rows from the host"])):
        graph = node_graph(RnnAttrs("gru", 5, lengths=lengths), 4)
        kernel = cudnn_kernel(graph, STANDARD)
        call(graph, kernel, random_inputs(graph, {"T": 3, "B": 2}))
        (plans,) = kernel.plans.values()
        assert [p.on_host for p in plans] == [reasons]


def test_x_and_y_stay_batch_first_where_cudnn_takes_them_so() -> None:
    graph = node_graph(RnnAttrs("gru", 5), 4, batch_major=True)
    for impl, copies in ((STANDARD, 0), ("cupy.cudnn.small_h", 1)):
        kernel = cudnn_kernel(graph, impl)
        call(graph, kernel, random_inputs(graph, {"T": 3, "B": 2}))
        (plan,) = (p for plans in kernel.plans.values() for p in plans)
        assert isinstance(plan, Plan)
        assert len(plan.calls[0].before) == copies


# --- defects are caught --------------------------------------------------------------------------------------------


def _swapped_gates(parts: list[Part]) -> Iterator[Part]:
    """The first two gates stand in each other's place."""
    for p in parts:
        yield replace(p, linear={0: 1, 1: 0}.get(p.linear, p.linear))


def _swapped_biases(parts: list[Part]) -> Iterator[Part]:
    """The recurrent biases stand before the input's."""
    count = len(parts)
    for k, p in enumerate(parts):
        yield replace(p, bias=parts[(k + count // 2) % count].bias)


def _next_gates(parts: list[Part]) -> Iterator[Part]:
    """The recurrent matrices stand one gate further."""
    half = len(parts) // 2
    for k, p in enumerate(parts):
        yield p if k < half else replace(p, matrix=parts[half + (k + 1) % half].matrix)


@pytest.mark.parametrize(("mode", "defect"), [
    ("lstm", _swapped_gates), ("gru", _swapped_gates), ("lstm", _next_gates), ("gru", _next_gates),
    ("gru", _swapped_biases),  # of an LSTM the two biases are added: their order says nothing
], ids=lambda d: str(getattr(d, "__name__", d)))
def test_weights_packed_elsewhere_are_caught(mode: str, defect: Callable[[list[Part]], Iterator[Part]],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed by a formula with the defect, read by the right one."""
    graph, space, right = node_graph(RnnAttrs(mode, 5), 4), WeightSpace(RnnAttrs(mode, 5), 4), WeightSpace.parts
    with monkeypatch.context() as m:
        m.setattr(WeightSpace, "parts", lambda self: defect(list(right(self))))
        packed = space.pack(node_of(graph))
    assert sorted(packed) == sorted(space.pack(node_of(graph)))
    monkeypatch.setattr(WeightSpace, "pack", lambda self, node, first=0: packed)
    feeds = random_inputs(graph, {"T": 4, "B": 2})
    got, want = call(graph, cudnn_kernel(graph, STANDARD), feeds), evaluate(graph, feeds, float64=True)
    assert error(got, want) > 100 * TOLERANCE


@pytest.mark.parametrize(("name", "wrong", "attrs"), [
    ("restore", lambda self, empty: None, RnnAttrs("gru", 5, lengths=True)),
    ("in_time", lambda self, array: array, RnnAttrs("gru", 5, direction="reverse")),
    ("in_time", lambda self, array: array[::-1], RnnAttrs("gru", 5, direction="reverse", lengths=True)),
    ("masked", lambda self, boundary, y, x: lambda lengths: self.put(x, y),
     RnnAttrs("gru", 5, 2, dropout=0.5, seeds=(3,))),
    ("lengths", lambda self: None, RnnAttrs("gru", 5, lengths=True)),
    ("in_batches", lambda self: True, RnnAttrs("gru", 5)),  # x lies steps first
], ids=lambda v: v if isinstance(v, str) else "")
def test_defects_of_a_call_are_caught(name: str, wrong: Callable[..., object], attrs: RnnAttrs,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    graph = node_graph(attrs, 4)
    feeds = random_inputs(graph, {"T": 6, "B": 3})
    feeds = lengths_of(feeds, [4, 0, 6]) if attrs.lengths else feeds
    want = evaluate(graph, feeds, float64=True)
    assert error(call(graph, cudnn_kernel(graph, STANDARD), feeds), want) <= TOLERANCE
    monkeypatch.setattr(CudnnRun, name, wrong)
    if name == "in_batches":
        with pytest.raises(CompileError, match="expected memory without gaps"):
            call(graph, cudnn_kernel(graph, STANDARD), feeds)
    else:
        assert error(call(graph, cudnn_kernel(graph, STANDARD), feeds), want) > 100 * TOLERANCE
