"""Repeated calls go the short way, and leave it for arrays that are not as they were."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.llvm import hot as hot_module
from rnngraph.backends.llvm.hot import HotCall, offsets
from rnngraph.errors import InputError
from rnngraph.ir import Array, evaluate
from rnngraph.runtime.program import MAX_HOT

RNG = np.random.default_rng(0)


class OneOutput:
    """A model whose calls give one array."""

    def __init__(self) -> None:
        self.made = rg.compile(nn.GRU(6, return_sequences=True), rg.Input(("batch", "time", 3)), target="cpu",
                               threads=1)
        self.program = self.made.program

    def __call__(self, x: object) -> Array:
        y = self.made(x)
        assert isinstance(y, np.ndarray)
        return y


def model() -> OneOutput:
    return OneOutput()


def array(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def expected(made: OneOutput, x: Array) -> Array:
    program = made.program
    return evaluate(program.graph, {program.input_names[0]: np.asarray(x, np.float32)})[program.output_names[0]]


def test_the_second_call_is_hot_and_gives_new_arrays() -> None:
    made, x = model(), array(2, 4, 3)
    first = made(x)
    assert list(made.program.hot) == [((2, 4, 3),)]
    second, other = made(x), made(array(2, 4, 3))
    assert np.array_equal(first, second)
    assert not np.shares_memory(second, other)
    assert np.abs(second - expected(made, x)).max() < 1e-6
    assert second.flags.writeable


def test_where_numpy_keeps_things_is_known_here() -> None:
    assert offsets() is not None


@pytest.mark.parametrize("given", [
    pytest.param(lambda x: x.astype(np.float64).astype(">f4"), id="big-endian"),
    pytest.param(lambda x: np.asfortranarray(x), id="fortran"),
    pytest.param(lambda x: np.repeat(x, 2, axis=2)[..., ::2], id="strided"),
    pytest.param(lambda x: x[::-1, :, ::-1][::-1, :, ::-1], id="views-of-views"),
    pytest.param(lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape),
                 id="misaligned"),
    pytest.param(lambda x: x.view(np.recarray), id="subclass"),
    pytest.param(lambda x: memoryview(x), id="buffer"),
])
def test_arrays_that_lie_otherwise(given: object) -> None:
    made, x = model(), array(2, 4, 3)
    want = made(x)
    assert callable(given)
    for _ in range(2):
        assert np.array_equal(made(given(x)), want)


def test_wrong_arrays_are_refused_as_ever() -> None:
    made, x = model(), array(2, 4, 3)
    made(x)
    with pytest.raises(InputError, match="expected f32"):
        made(x.astype(np.complex64))
    with pytest.raises(InputError, match="expected f32"):
        made(x.astype(np.float64))
    with pytest.raises(InputError, match="3"):
        made(array(2, 4, 4))
    assert made(np.empty((0, 4, 3), np.float32)).shape == (0, 4, 6)
    assert made(x).shape == (2, 4, 6)


def test_several_inputs_and_outputs() -> None:
    made = rg.compile("graph @g(%x: f32[B,4], %z: f32[B,4]) { %y = add %x, %z : f32[B,4]  %w = mul %x, %z : f32[B,4]  "
                      "return y = %y, w = %w }", target="cpu", threads=1)
    x, z = array(3, 4), array(3, 4)
    for _ in range(3):
        y, w = made(x, z)
        assert np.array_equal(y, x + z)
        assert np.array_equal(w, x * z)
        y, w = made(x, x)
        assert np.array_equal(w, x * x)


def test_many_shapes() -> None:
    made = model()
    arrays = [array(1, t, 3) for t in range(1, MAX_HOT + 8)]
    for _ in range(2):
        for x in arrays:
            assert np.abs(made(x) - expected(made, x)).max() < 1e-6
    assert len(made.program.hot) <= MAX_HOT


def test_a_call_that_threads_share() -> None:
    layer, given = nn.LSTM(128, return_sequences=True), rg.Input(("batch", "time", 128))
    made = rg.compile(layer, given, target="cpu", threads=2)
    x = array(4, 30, 128)
    want = np.asarray(made(x))
    for k in range(5):
        assert np.array_equal(np.asarray(made(x)), want), f"call {k}"
    (hot,) = made.program.hot.values()
    assert isinstance(hot, HotCall)
    assert hot.pool is not None
    assert np.array_equal(want, np.asarray(rg.compile(layer, given, target="cpu", threads=1)(x)))


def test_threads_share_a_model() -> None:
    made = model()
    arrays = [array(1, 8, 3) for _ in range(8)]
    wants = [made(x) for x in arrays]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(200):
            for got, want in zip(pool.map(made, arrays), wants, strict=True):
                assert np.array_equal(got, want)


def test_where_numpy_is_otherwise_calls_go_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot_module, "offsets", lambda: None)
    made, x = model(), array(2, 4, 3)
    assert np.array_equal(made(x), made(x))
    assert not made.program.hot


def test_a_plan_that_was_dropped_is_not_waited_for() -> None:
    made, x = model(), array(2, 4, 3)
    want = made(x)
    kernel = made.program.direct
    kernel.plans.clear()  # type: ignore[union-attr]
    (hot,) = made.program.hot.values()
    assert isinstance(hot, HotCall)
    hot.free.clear()
    assert np.array_equal(made(x), want)
    assert np.array_equal(made(x), want)


def test_plans_that_a_hot_call_has_taken_meanwhile() -> None:
    """Hot calls take plans from the kernel's lists without its lock."""
    made, x = model(), array(2, 4, 3)
    want = made(x)
    kernel: Any = made.program.direct
    (key,) = kernel.plans
    (plan,) = kernel.plans[key]
    kernel.plans[key].clear()
    dims = dict(plan.dims)
    assert kernel.hot(dims) is None
    assert kernel.take(dims, 1) is not plan
    assert np.array_equal(made(x), want)
