"""Convolutional recurrence compiled: native alone, the numbers of Keras and of the float64 reference, in bounds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.llvm import plan
from rnngraph.ir import Array, evaluate
from rnngraph.nn import ops
from tests.backends.llvm.native import PLANNERS
from tests.nn.support import randomize, some

TOLERANCE = 1e-5  # of the largest number of an output
LAYERS = {1: "ConvLSTM1D", 2: "ConvLSTM2D", 3: "ConvLSTM3D"}


def image(shape: Sequence[int]) -> rg.Input:
    return rg.Input(("batch", "time", *shape))


def compiled(layer: nn.Layer, shape: Sequence[int], **options: Any) -> rg.CompiledModel:
    """Compiled for this step's shape, all of it native."""
    model = rg.compile(layer, image(shape), **options)
    assert {k.backend for k in model.report.kernels} == {"llvm"}, model.explain()
    return model


def close(got: Any, want: Any) -> None:
    for g, w in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=0, atol=TOLERANCE * max(1e-3, float(np.abs(w).max(initial=0))))


def reference(layer: nn.Layer, shape: Sequence[int], feeds: dict[str, Array], **options: Any) -> list[Array]:
    return list(evaluate(rg.trace(layer, image(shape), **options), feeds, float64=True).values())


# --- against Keras ------------------------------------------------------------------------------------------------

OPTIONS: list[tuple[int, tuple[int, ...], dict[str, Any]]] = [
    (1, (7, 3), {"kernel_size": 3}),
    (1, (9, 2), {"kernel_size": 4, "padding": "same", "filters": 17, "return_sequences": True}),
    (1, (8, 3), {"kernel_size": 3, "strides": 2, "padding": "same"}),
    (2, (5, 6, 3), {"kernel_size": 3, "padding": "same", "return_sequences": True}),
    (2, (6, 7, 3), {"kernel_size": (3, 2), "strides": (1, 2), "return_sequences": True, "go_backwards": True}),
    (2, (6, 7, 3), {"kernel_size": 2, "dilation_rate": (2, 3), "padding": "same", "return_sequences": True}),
    (2, (5, 6, 3), {"kernel_size": 3, "activation": "relu", "recurrent_activation": "hard_sigmoid",
                    "use_bias": False}),
    (2, (3, 6, 5), {"kernel_size": 3, "padding": "same", "data_format": "channels_first", "return_sequences": True}),
    (3, (2, 3, 4, 3), {"kernel_size": 2, "data_format": "channels_first", "go_backwards": True}),
    (2, (5, 6, 3), {"kernel_size": 1, "return_sequences": True, "unroll": True}),
    (3, (4, 3, 5, 2), {"kernel_size": 2, "padding": "same", "return_sequences": True}),
    (3, (4, 3, 5, 2), {"kernel_size": (2, 1, 3), "strides": (1, 2, 1)}),
]


@pytest.mark.parametrize(("dims", "shape", "options"), OPTIONS)
def test_conv_lstm_is_that_of_keras(dims: int, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    options = {"filters": 5} | options
    unroll = options.get("unroll", False)
    layer = randomize(getattr(nn, LAYERS[dims])(**options), (None, 4 if unroll else None, *shape))
    theirs = getattr(keras.layers, LAYERS[dims])(**{k: v for k, v in options.items() if k != "unroll"})
    theirs.build((None, 4, *shape))
    theirs.set_weights(list(layer.weights.values()))
    model = rg.compile(layer, rg.Input(("batch", 4 if unroll else "time", *shape)))
    assert {k.backend for k in model.report.kernels} == {"llvm"}
    x = some(3, 4, *shape)
    close(model(x), [np.asarray(theirs(x).detach())])


# --- every cell, sizes, options of a call -------------------------------------------------------------------------


class Grouped(nn.Cell):
    """A user's cell: a depthwise convolution of the state, its mean over channels, a place's own weight."""

    input_rank = 2

    def build(self, shape: tuple[int, ...]) -> None:
        self.state_size = {"h": (shape[0], 4)}
        self.w, self.r = self.add_weight("w", (3, shape[1], 4)), self.add_weight("r", (3, 1, 4))
        self.place = self.add_weight("place", (shape[0], 4))

    def step(self, x: nn.Tensor, state: dict[str, nn.Tensor]) -> tuple[nn.Tensor, dict[str, nn.Tensor]]:
        h = state["h"]
        own = ops.conv(h, self.r, groups=4) * self.place
        h = ops.tanh(ops.conv(x, self.w) + own + ops.mean(h, -1, keepdims=True))
        return h, {"h": h}


class Joined(nn.Cell):
    """A user's cell: one convolution of [x, h], as in the paper; the state is three times as large as the output."""

    input_rank = 3

    def build(self, shape: tuple[int, ...]) -> None:
        self.state_size = {"h": (*shape[:-1], 6)}
        self.w = self.add_weight("w", (3, 3, shape[-1] + 6, 6))
        self.out = self.add_weight("out", (6, 2))

    def step(self, x: nn.Tensor, state: dict[str, nn.Tensor]) -> tuple[nn.Tensor, dict[str, nn.Tensor]]:
        h = ops.tanh(ops.conv(ops.concat([x, state["h"]]), self.w))
        return h @ self.out, {"h": h}


CELLS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "lstm": (lambda: nn.ConvLSTMCell(2, 6, 3, padding="same"), (5, 4, 3)),
    "lstm5": (lambda: nn.ConvLSTMCell(2, 9, 5, padding="same"), (4, 6, 2)),
    "valid": (lambda: nn.ConvLSTMCell(2, 17, 2), (5, 4, 3)),
    "rnn": (lambda: nn.ConvRNNCell(1, 6, 3, padding="same"), (7, 3)),
    "gru": (lambda: nn.ConvGRUCell(2, 6, 3, padding="same"), (5, 4, 3)),
    "gru_after": (lambda: nn.ConvGRUCell(2, 6, 3, reset_after=True), (5, 4, 3)),
    "gru3": (lambda: nn.ConvGRUCell(3, 4, 3, padding="same"), (3, 2, 4, 2)),
    "contrib": (lambda: nn.ContribConvLSTMCell(2, (5, 4, 3), 6, 3, skip_connection=True), (5, 4, 3)),
    "mx_rnn": (lambda: nn.MXNetConvRNNCell((5, 4, 3), 6, conv_layout="NHWC"), (5, 4, 3)),
    "mx_lstm": (lambda: nn.MXNetConvLSTMCell((5, 4, 3), 6, i2h_pad=0, conv_layout="NHWC", h2h_dilate=2), (5, 4, 3)),
    "mx_gru": (lambda: nn.MXNetConvGRUCell((5, 4, 3), 6, i2h_stride=2, conv_layout="NHWC"), (5, 4, 3)),
    "mx_first": (lambda: nn.MXNetConvLSTMCell((3, 5, 4), 6), (3, 5, 4)),
    "mx_gru_first": (lambda: nn.MXNetConvGRUCell(None, 6, conv_layout="NCW"), (3, 7)),
    "gluon": (lambda: nn.GluonConvLSTMCell((9, 3), 6, 3, 5, conv_layout="NWC"), (9, 3)),
    "grouped": (Grouped, (7, 3)),
    "joined": (Joined, (4, 5, 3)),
}


def layer_of(kind: str, **options: Any) -> tuple[nn.RNN, tuple[int, ...]]:
    make, shape = CELLS[kind]
    layer = nn.RNN(make(), return_sequences=True, return_state=True, name="r", **options)
    randomize(layer, (None, None, *shape))
    return layer, shape


@pytest.mark.parametrize("kind", CELLS)
def test_every_cell_is_native(kind: str) -> None:
    layer, shape = layer_of(kind)
    model = compiled(layer, shape)
    for batch, time in ((2, 5), (1, 1), (9, 3), (3, 0)):
        x = some(batch, time, *shape, seed=batch)
        close(model(x), reference(layer, shape, {"x": x}))


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn", "mx_first"])
@pytest.mark.parametrize("backwards", [False, True])
def test_lengths_and_initial_states(kind: str, backwards: bool) -> None:
    layer, shape = layer_of(kind, go_backwards=backwards)
    model = compiled(layer, shape)
    x, lengths = some(4, 5, *shape), np.array([5, 0, 3, 1], np.int32)
    states = {f"r.{n}0": some(4, *s, seed=7) for n, s in layer.cell.state_size.items()}
    want = reference(layer, shape, {"x": x, "lengths": lengths, **states}, lengths=True, initial_state=True)
    close(model(x, lengths=lengths, initial_state=list(states.values())), want)


@pytest.mark.parametrize("kind", ["lstm", "gru", "mx_first"])
def test_masks(kind: str) -> None:
    layer, shape = layer_of(kind)
    model = compiled(layer, shape)
    x, mask = some(3, 4, *shape), np.array([[1, 0, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    close(model(x, mask=mask), reference(layer, shape, {"x": x, "mask": mask}, mask=True))


def test_cells_on_top_of_each_other_in_one_loop() -> None:
    cells = [nn.ConvLSTMCell(2, 4, 3, padding="same", input_shape=(5, 4, 3)),
             nn.ZoneoutCell(nn.ConvGRUCell(2, 4, 3, padding="same", input_shape=(5, 4, 4)), 0.0, 0.2)]
    layer = nn.RNN([cells[0], nn.ResidualCell(cells[1])], return_sequences=True)
    randomize(layer, (None, None, 5, 4, 3))
    x = some(3, 4, 5, 4, 3)
    close(compiled(layer, (5, 4, 3))(x), reference(layer, (5, 4, 3), {"x": x}))


@pytest.mark.parametrize("kind", ["lstm", "gru", "valid", "grouped"])
def test_threads_change_no_bit(kind: str) -> None:
    layer, shape = layer_of(kind)
    x = some(7, 6, *shape)
    want = [np.asarray(a) for a in compiled(layer, shape, threads=1)(x)]
    for threads in (2, 3):
        model = compiled(layer, shape, threads=threads)
        for _ in range(3):
            for got, expected in zip(model(x), want, strict=True):
                np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("kind", ["lstm", "gru", "valid", "contrib"])
def test_a_call_leaves_nothing_behind(kind: str) -> None:
    """Infinities of one call are not in the padding that the next one reads."""
    layer, shape = layer_of(kind)
    model = compiled(layer, shape)
    x = some(3, 4, *shape)
    want = [np.array(a) for a in model(x)]
    for bad in (np.inf, np.nan):
        model(np.full_like(x, bad))
        for got, expected in zip(model(x), want, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_layers_on_top_of_each_other_and_both_ways() -> None:
    model = rg.Sequential([
        nn.Bidirectional(nn.ConvLSTM2D(4, 3, padding="same", return_sequences=True)),
        nn.ConvLSTM2D(5, (1, 3), padding="same", return_sequences=True),
        nn.ConvLSTM2D(3, 2),
    ])
    randomize(model, (None, None, 5, 4, 3))
    x = some(2, 4, 5, 4, 3)
    close(compiled(model, (5, 4, 3))(x), reference(model, (5, 4, 3), {"x": x}))


@pytest.mark.parametrize("mode", ["rows", "lanes", "wave"])
def test_a_stack_on_threads_changes_no_bit(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when each layer runs on a thread of its own, a few steps behind the one below, on whose grid it reads."""
    model = rg.Sequential([nn.ConvLSTM2D(n, 3, padding="same", return_sequences=True) for n in (9, 4, 17)])
    randomize(model, (None, None, 5, 4, 3))
    x = some(3, 9, 5, 4, 3)
    want = compiled(model, (5, 4, 3), threads=1)(x)
    monkeypatch.setattr(plan, "Planner", PLANNERS[mode])
    for threads in (2, 3):
        shared = compiled(model, (5, 4, 3), threads=threads)
        for _ in range(3):
            np.testing.assert_array_equal(shared(x), want)


def test_convolution_without_a_loop() -> None:
    class Convolution(nn.Layer):
        def setup(self, shape: tuple[Any, ...]) -> None:
            self.kernel = self.add_weight("kernel", (3, 2, shape[-1], 20))

        def call(self, x: nn.Tensor) -> nn.Tensor:
            return ops.relu(ops.conv(x, self.kernel, strides=(2, 1), padding=((0, 2), (1, 0)))) + 1.0

    layer = randomize(Convolution(), (None, 7, 5, 3))
    model = rg.compile(layer, rg.Input(("batch", 7, 5, 3)))
    assert {k.backend for k in model.report.kernels} == {"llvm"}
    for batch in (1, 5):
        x = some(batch, 7, 5, 3)
        want = evaluate(rg.trace(layer, rg.Input(("batch", 7, 5, 3))), {"x": x}, float64=True)
        close(model(x), want.values())


class Pooled(nn.Cell):
    """The mean over the image: rows that depend on other rows."""

    input_rank = 2

    def build(self, shape: tuple[int, ...]) -> None:
        self.state_size = {"h": shape}
        self.r = self.add_weight("r", (3, shape[1], shape[1]))

    def step(self, x: nn.Tensor, state: dict[str, nn.Tensor]) -> tuple[nn.Tensor, dict[str, nn.Tensor]]:
        h = ops.tanh(x + ops.conv(state["h"], self.r) + ops.mean(state["h"], 1, keepdims=True))
        return h, {"h": h}


def test_what_has_no_native_form_says_so() -> None:
    layer = randomize(nn.RNN(Pooled(), name="pooled"), (None, None, 7, 3))
    model = rg.compile(layer, image((7, 3)))
    assert "missed: lower-conv: pooled: op reduce_mean (f32[batch,3]) in a step goes over the cells of an image" in \
        model.explain()
    x = some(2, 4, 7, 3)
    close(model(x), reference(layer, (7, 3), {"x": x}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_numbers_spread_as_far_as_a_kernel(value: float) -> None:
    """One NaN reaches its neighbours, one more cell per step, and no other image of the batch."""
    layer, shape = layer_of("rnn")
    x = some(3, 2, *shape)
    x[1, 0, 3, 0] = value
    got = np.asarray(compiled(layer, shape)(x)[0])
    want = reference(layer, shape, {"x": x})[0]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    assert not np.isnan(got[[0, 2]]).any()
