"""An ONNX file as a layer among others, and streamed, beside ONNX Runtime and the same steps in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import StreamError
from rnngraph.ir import Array
from tests.frontends.onnx_graphs import info, model, runtime

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
UNITS, FEATURES, TOLERANCE = 4, 3, 1e-5


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def recurrent(kind: str, *, direction: str = "forward", states: bool = False) -> onnx.ModelProto:
    """A recurrence over x [time, batch, 3] and a projection of each step; with its final states, or without."""
    rows, both = GATES[kind] * UNITS, 2 if direction == "bidirectional" else 1
    weights = {"W": draw(both, rows, FEATURES), "R": draw(both, rows, UNITS, seed=1) * 0.5,
               "B": draw(both, 2 * rows, seed=2), "P": draw(UNITS, 2, seed=3), "axis": np.array([1])}
    final = ["h", "c"] if kind == "LSTM" else ["h"]
    nodes = [helper.make_node(kind, ["x", "W", "R", "B"], ["ys", *(final if states else [])], hidden_size=UNITS,
                              direction=direction),
             helper.make_node("Squeeze", ["ys", "axis"], ["steps"]) if both == 1 else
             helper.make_node("ReduceSum", ["ys", "axis"], ["steps"], keepdims=0),
             helper.make_node("MatMul", ["steps", "P"], ["y"])]
    return model(nodes, [info("x", ("time", "batch", FEATURES))], ["y", *(final if states else [])], weights)


def close(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(want).max())))


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_layer_of_a_sequential(kind: str, direction: str) -> None:
    """Layers before and after are numpy's; what is between is ONNX Runtime's. The name is in weights and report."""
    made = recurrent(kind, direction=direction)
    net = rg.Sequential([nn.Dense(FEATURES, activation="tanh", name="before"), rg.from_onnx(made),
                         nn.Dense(5, name="after")])
    compiled = rg.compile(net, rg.Input(("steps", "rows", 6), name="features"))
    assert str(compiled.program.plan.specs[0].type) == "f32[steps,rows,6]"
    weights = net.weights
    for steps, rows in ((7, 2), (1, 1), (4, 3)):
        x = draw(steps, rows, 6, seed=steps)
        inner = np.tanh(x @ weights["before/kernel"] + weights["before/bias"])
        (y,) = runtime(made, {"x": inner})
        close(np.asarray(compiled(x)), y @ weights["after/kernel"] + weights["after/bias"])


def test_two_files_in_one_model_and_one_twice() -> None:
    """Weights of the two are apart though their names are the same; a layer that is used twice is the same twice."""
    first, second = recurrent("LSTM"), recurrent("GRU")
    lstm, gru = rg.from_onnx(first), rg.from_onnx(second)
    a, b = rg.Input(("time", "batch", FEATURES), name="a"), rg.Input(("time", "batch", FEATURES), name="b")
    net = nn.Model([a, b], [lstm(a) + gru(b), lstm(b)])
    compiled = rg.compile(net)
    x, z = draw(6, 2, FEATURES, seed=5), draw(6, 2, FEATURES, seed=6)
    (p,), (q,), (r,) = runtime(first, {"x": x}), runtime(second, {"x": z}), runtime(first, {"x": z})
    got: Any = compiled(x, z)
    close(got[0], p + q)
    close(got[1], r)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("rows", [1, 3])
def test_streamed(kind: str, rows: int) -> None:
    """Step by step and in chunks: the outputs of ONNX Runtime for the whole, and its final states for each part."""
    made = recurrent(kind, states=True)
    compiled = rg.compile(made)
    x = draw(11, rows, FEATURES, seed=7)
    want, *finals = runtime(made, {"x": x})
    session = compiled.stream(batch=rows)
    steps = [session.step(x[t]) for t in range(11)]
    close(np.stack([y for y, *_ in steps]), want)
    for got, final in zip(steps[-1][1:], finals, strict=True):
        close(got, final)
    session = compiled.stream(batch=rows)
    at = 0
    for size in (1, 4, 6):
        y, *states = session.feed(x[at : at + size])
        close(y, want[at : at + size])
        at += size
        for got, final in zip(states, runtime(made, {"x": x[:at]})[1:], strict=True):
            close(got, final)


def test_a_sequential_with_a_file_is_streamed() -> None:
    made = recurrent("GRU")
    net = rg.Sequential([nn.Dense(FEATURES, name="before"), rg.from_onnx(made), nn.Dense(2, name="after")])
    compiled = rg.compile(net, rg.Input(("time", "batch", 6), name="features"))
    x = draw(9, 2, 6)
    session = compiled.stream(batch=2)
    close(np.stack([session.step(x[t]) for t in range(9)]), np.asarray(compiled(x)))


@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_what_needs_later_steps_is_not_streamed(direction: str) -> None:
    with pytest.raises(StreamError):
        rg.compile(recurrent("LSTM", direction=direction)).stream(batch=1)
