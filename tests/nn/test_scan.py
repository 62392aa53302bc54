"""rg.scan: a function over time, inside a trace and in composition, and every way to break its contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import Layer, Model, Tensor, ops

X = np.random.default_rng(0).standard_normal((3, 7, 4)).astype(np.float32)
GIVEN = rg.Input(("batch", "time", 4))


def time_major(x: Tensor) -> Tensor:
    return ops.transpose(x, (1, 0, 2))


def compiled(outputs: Any) -> Any:
    made = rg.compile(Model(GIVEN, outputs), target="cpu", verify="numeric", threads=2)
    assert all(k.backend == "llvm" for k in made.report.kernels)
    return made(X)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_nested_carry_and_two_outputs(reverse: bool) -> None:
    weight = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32) * 0.5

    def step(carry: Any, x: Any) -> Any:
        h = ops.tanh(x["a"] + carry["h"] @ weight) - x["b"][0]
        return {"h": h, "rest": [carry["rest"][0] + h]}, (h, carry["h"])

    zero = ops.zeros_like(GIVEN[:, 0])
    xs = {"a": time_major(GIVEN), "b": [time_major(GIVEN * 0.25)]}
    finals, (y, before) = rg.scan(step, {"h": zero, "rest": [zero]}, xs, reverse=reverse)
    got = compiled([finals["h"], finals["rest"][0], y, before])

    h, total = np.zeros((3, 4)), np.zeros((3, 4))
    ys, befores = np.zeros((7, 3, 4)), np.zeros((7, 3, 4))
    for t in reversed(range(7)) if reverse else range(7):
        befores[t] = h
        h = np.tanh(X[:, t] + h @ weight.astype(np.float64)) - X[:, t] * 0.25
        total, ys[t] = total + h, h
    for a, b in zip(got, (h, total, ys, befores), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_constants_reach_every_step() -> None:
    first = GIVEN[:, 0]
    last, ys = rg.scan(lambda h, x, c: (h + x * c, None), ops.zeros_like(first), time_major(GIVEN), constants=[first])
    assert ys is None
    want = (X.astype(np.float64) * X[:, :1]).sum(axis=1)
    np.testing.assert_allclose(compiled(last), want, rtol=1e-5, atol=1e-5)


def test_inside_a_layer() -> None:
    class Total(Layer):
        def call(self, x: Tensor) -> Tensor:
            last, _ = rg.scan(lambda h, x: (h + x, None), ops.zeros_like(x[:, 0]), time_major(x))
            assert isinstance(last, Tensor)
            return last

    np.testing.assert_allclose(rg.compile(Total(), GIVEN)(X), X.sum(axis=1), rtol=1e-5, atol=1e-6)


def test_it_is_recognised() -> None:
    """An LSTM by hand, as a function: one rnn node."""
    w, r = (np.random.default_rng(s).standard_normal((4, 4, 4)).astype(np.float32) * 0.5 for s in (2, 3))

    def step(state: Any, x: Any) -> Any:
        h, c = state
        i, f, g, o = (x @ w[k] + h @ r[k] for k in range(4))
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return (h, c), h

    zero = ops.zeros_like(GIVEN[:, 0])
    _, y = rg.scan(step, (zero, zero), time_major(GIVEN))
    assert "the scan is an LSTM: now an rnn node" in rg.compile(Model(GIVEN, y)).explain()


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda x: rg.scan(lambda h, x: h, x[0], x), TraceError, r"step must return \(new carry, y\), got"),
    (lambda x: rg.scan(lambda h, x: (h[:, :2], None), x[0], x), TraceError,
     r"enters a step as \(f32\[batch,4\]\) and leaves it as \(f32\[batch,2\]\)"),
    (lambda x: rg.scan(lambda h, x: ((h, h), None), x[0], x), TraceError, "it keeps its shapes and dtypes"),
    (lambda x: rg.scan(lambda h, x: (h, None), x[0], ()), TraceError, "at least one sequence"),
    (lambda x: rg.scan(lambda h, x: (h, None), x[0], (x, time_major(x))), ShapeError, "must agree in their first axis"),
])
def test_what_does_not_fit(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(time_major(GIVEN))
