"""TimeDistributed: a layer on every step, at once, in a loop, or step by step; against Keras and numpy."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import rnngraph as rg
from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Embedding,
    Input,
    Layer,
    LayerNormalization,
    Sequential,
    TimeDistributed,
    ops,
    trace,
)
from tests.nn.numpy_cells import lstm, run
from tests.nn.support import B, I, T, X, close, output, outputs, randomize, some

x = some(B, T, I)
frames = some(B, T, 3, I)


class Centered(Layer):
    """A layer of a user: the features without their mean, and the mean."""

    def call(self, x: Any) -> Any:
        mean = ops.mean(x, -1, keepdims=True)
        return x - mean, mean


def kinds(layer: Layer, inputs: Input = X) -> set[str]:
    return {op.name for op in trace(layer, inputs).walk()}


@pytest.mark.parametrize("inner", [
    lambda: Dense(6, "tanh"), lambda: Sequential([Dense(6), Activation("relu"), LayerNormalization(), Dense(2)]),
    lambda: TimeDistributed(Dense(2))])
def test_layers_of_the_last_axis_run_at_once(inner: Any) -> None:
    given = Input(("batch", "time", 3, I))
    made = TimeDistributed(inner())
    randomize(made, (None, None, 3, I))
    assert "scan" not in kinds(made, given)
    alone = made.layer
    want = np.stack([output(alone, {"x": frames[:, t]}, Input(("batch", 3, I))) for t in range(T)], 1)
    close(output(made, {"x": frames}, given), want, 1e-12)


def test_a_norm_over_another_axis_is_a_loop() -> None:
    given = Input(("batch", "time", 3, I))
    made = TimeDistributed(LayerNormalization(axis=1))
    randomize(made, (None, None, 3, I))
    assert "scan" in kinds(made, given)
    w = made.weights
    mean, var = frames.mean(2, keepdims=True), frames.astype(np.float64).var(2, keepdims=True)
    normed = (frames - mean) / np.sqrt(var + 1e-3)
    close(output(made, {"x": frames}, given), normed * w["gamma"][:, None] + w["beta"][:, None], 1e-6)


def test_a_layer_of_a_user_is_a_native_loop() -> None:
    made = TimeDistributed(Centered(), name="td")
    assert kinds(made) >= {"scan"}
    got = outputs(made, {"x": x})
    close(got["y0"], x - x.mean(-1, keepdims=True, dtype=np.float64), 1e-12)
    close(got["y1"], x.mean(-1, keepdims=True, dtype=np.float64), 1e-12)
    compiled = rg.compile(made, X, target="cpu")
    assert not any(op.impl.startswith("reference") for op in compiled.program.graph.block.ops)
    np.testing.assert_allclose(compiled(x)[0], got["y0"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("time", [T, "time"])
def test_a_recurrent_layer_within_time(time: Any) -> None:
    """With an integer number of steps the layer is native; with a symbol it is a loop in a loop."""
    given = Input(("batch", time, 3, I))
    made = TimeDistributed(LSTM(2, return_state=True))
    randomize(made, (None, None if time == "time" else T, 3, I))
    got = outputs(made, {"x": frames}, given)
    for t in range(T):
        _, (h, _) = run(lstm(made.weights), frames[:, t], [np.zeros((B, 2))] * 2)
        close(got["y0"][:, t], h, 1e-12)
    compiled = rg.compile(made, given, target="cpu")
    native = not any(op.impl.startswith("reference") for op in compiled.program.graph.block.ops)
    assert native == (time == T)
    np.testing.assert_allclose(compiled(frames)[0], got["y0"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("theirs", "ours"), [
    (lambda: keras.layers.Dense(6, "tanh"), lambda: Dense(6, "tanh")),
    (lambda: keras.layers.LSTM(5), lambda: LSTM(5)),
    (lambda: keras.layers.Bidirectional(keras.layers.GRU(5)), lambda: Bidirectional(GRU(5)))])
def test_as_keras(theirs: Any, ours: Any) -> None:
    reference = keras.layers.TimeDistributed(theirs())
    want = np.asarray(reference(frames).detach())
    made = TimeDistributed(ours())
    made.build((None, T, 3, I))
    made.set_weights([v.value.detach().numpy() for v in reference.weights])
    got = rg.compile(made, Input((B, T, 3, I)), target="cpu")(frames)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_the_mask_goes_on() -> None:
    model = Sequential([Embedding(9, I, mask_zero=True), TimeDistributed(Dense(I)), LSTM(3)])
    words = np.array([[1, 2, 0, 0], [3, 4, 5, 6]], np.int32)
    compiled = rg.compile(model, Input(("batch", "time"), "i32"))
    close(np.asarray(compiled(words))[:1], np.asarray(compiled(words[:1, :2])), 1e-6)


def test_errors() -> None:
    with pytest.raises(TraceError, match="layer 'time_distributed': expected a layer to apply to every step"):
        TimeDistributed(3)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"layer 'td': expected an input \[batch, time, ...\], got f32\[batch\]"):
        trace(TimeDistributed(Dense(2), name="td"), Input(("batch",)))
    with pytest.raises(ShapeError, match=r"expected .*features"):
        trace(TimeDistributed(Dense(2), name="td"), Input(("batch", "time")))
