"""ConvLSTM against live Keras, the other convolutional cells against numpy written from their equations; in float64."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

from rnngraph import nn
from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import ops
from rnngraph.nn.trace import trace
from tests.nn.numpy_conv import contrib_lstm, conv, gru, mxnet, rnn, run
from tests.nn.support import Array, checked, close, output, outputs, randomize, some

SHAPES = {1: (7,), 2: (5, 6), 3: (4, 3, 5)}
LAYERS = {1: "ConvLSTM1D", 2: "ConvLSTM2D", 3: "ConvLSTM3D"}
FROM_KERAS = 2e-6  # Keras computes in float32


def keras_like(dims: int, x: Array, weights: list[Array], states: list[Array] | None = None, **options: Any) -> Any:
    layer = getattr(keras.layers, LAYERS[dims])(**options)
    layer.build(x.shape)
    layer.set_weights(weights)
    result = layer(x, initial_state=states)
    arrays = [np.asarray(r.detach()) for r in (result if isinstance(result, list | tuple) else [result])]
    return arrays if isinstance(result, list | tuple) else arrays[0]


def conv_lstm(dims: int, shape: tuple[int, ...], **options: Any) -> nn.Layer:
    return randomize(getattr(nn, LAYERS[dims])(**options), (None, None, *shape))


OPTIONS: list[tuple[int, dict[str, Any]]] = [
    (1, {"kernel_size": 3}),
    (1, {"kernel_size": 4, "padding": "same", "return_sequences": True}),
    (1, {"kernel_size": 3, "strides": 2, "padding": "same", "data_format": "channels_first"}),
    (2, {"kernel_size": 3, "padding": "same"}),
    (2, {"kernel_size": (3, 2), "strides": (1, 2)}),
    (2, {"kernel_size": (2, 3), "padding": "SAME", "strides": (2, 1), "return_sequences": True}),
    (2, {"kernel_size": 2, "dilation_rate": (2, 3), "padding": "same"}),
    (2, {"kernel_size": 2, "dilation_rate": 2, "go_backwards": True, "return_sequences": True}),
    (2, {"kernel_size": 3, "padding": "same", "data_format": "channels_first", "return_sequences": True}),
    (2, {"kernel_size": 3, "activation": "relu", "recurrent_activation": "hard_sigmoid", "use_bias": False}),
    (2, {"kernel_size": 1, "activation": None, "unit_forget_bias": False}),
    (3, {"kernel_size": 2, "padding": "same"}),
    (3, {"kernel_size": (2, 1, 3), "strides": (1, 2, 1), "data_format": "channels_first"}),
]


@pytest.mark.parametrize(("dims", "options"), OPTIONS)
def test_conv_lstm_is_that_of_keras(dims: int, options: dict[str, Any]) -> None:
    first = options.get("data_format") == "channels_first"
    shape = (3, *SHAPES[dims]) if first else (*SHAPES[dims], 3)
    x = some(2, 4, *shape)
    layer = conv_lstm(dims, shape, filters=4, **options)
    want = keras_like(dims, x, list(layer.weights.values()), filters=4, **options)
    close(output(layer, {"x": x}, nn.Input(("batch", "time", *shape))), want, FROM_KERAS)


@pytest.mark.parametrize("first", [False, True])
def test_states_in_and_out_are_those_of_keras(first: bool) -> None:
    shape, state = ((3, 5, 6), (4, 4, 4)) if first else ((5, 6, 3), (4, 4, 4))
    options: dict[str, Any] = {"filters": 4, "kernel_size": (2, 3), "return_state": True,
                               "data_format": "channels_first" if first else None}
    x, h, c = some(2, 4, *shape), some(2, *state, seed=3), some(2, *state, seed=4)
    layer = conv_lstm(2, shape, **options)
    want = keras_like(2, x, list(layer.weights.values()), [h, c], **options)
    feeds = {"x": x, "conv_lstm2d.h0": h, "conv_lstm2d.c0": c}
    got = outputs(layer, feeds, nn.Input(("batch", "time", *shape)), initial_state=True)
    for mine, theirs in zip(got.values(), want, strict=True):
        close(mine, theirs, FROM_KERAS)


def test_weights_and_names_are_those_of_keras() -> None:
    layer = nn.ConvLSTM2D(4, (3, 2))
    layer.build((None, None, 5, 6, 3))
    theirs = keras.layers.ConvLSTM2D(4, (3, 2))
    theirs.build((None, None, 5, 6, 3))
    assert {n: w.shape for n, w in layer.weights.items()} == {w.name: tuple(w.shape) for w in theirs.weights}
    np.testing.assert_array_equal(layer.weights["bias"], np.repeat([0, 1, 0, 0], 4))
    assert layer.path == "conv_lstm2d"


def test_dropout_has_a_mask_per_gate() -> None:
    layer = conv_lstm(2, (5, 6, 3), filters=4, kernel_size=2, dropout=0.5, recurrent_dropout=0.25)
    graph = trace(layer, nn.Input(("batch", "time", 5, 6, 3)), training=True)
    masks = [op.attrs for op in graph.walk() if op.name == "random_mask"]
    assert len(masks) == 8
    assert len({m.seed for m in masks}) == 8  # type: ignore[attr-defined]
    assert not [op for op in trace(layer, nn.Input(("batch", "time", 5, 6, 3))).walk() if op.name == "random_mask"]


# --- the cells of other systems -----------------------------------------------------------------------------------


def test_conv_rnn_cell() -> None:
    cell = nn.ConvRNNCell(2, 4, (3, 2), padding="same")
    layer = randomize(nn.RNN(cell, return_sequences=True), (None, None, 5, 6, 3))
    w = layer.weights
    x = some(2, 3, 5, 6, 3)
    want = run(x, [np.zeros((2, 5, 6, 4))], lambda xt, s: rnn(xt, s, w["kernel"], w["recurrent_kernel"], w["bias"]))
    close(output(layer, {"x": x}, nn.Input(("batch", "time", 5, 6, 3))), want, 1e-12)


@pytest.mark.parametrize("after", [False, True])
def test_conv_gru_cell(after: bool) -> None:
    cell = nn.ConvGRUCell(1, 4, 3, padding="same", reset_after=after)
    layer = randomize(nn.RNN(cell, return_sequences=True), (None, None, 7, 3))
    w = layer.weights
    x = some(2, 3, 7, 3)
    want = run(x, [np.zeros((2, 7, 4))],
               lambda xt, s: gru(xt, s, w["kernel"], w["recurrent_kernel"], w["bias"], after=after))
    close(output(layer, {"x": x}, nn.Input(("batch", "time", 7, 3))), want, 1e-12)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_contrib_conv_lstm_cell(dims: int, skip: bool) -> None:
    shape = (*SHAPES[dims], 3)
    cell = nn.ContribConvLSTMCell(dims, shape, 4, 3, skip_connection=skip, forget_bias=0.75)
    layer = randomize(nn.RNN(cell, return_sequences=True), (None, None, *shape))
    w = layer.weights
    x = some(2, 3, *shape)
    start = [np.zeros((2, *SHAPES[dims], 4))] * 2
    want = run(x, start, lambda xt, s: contrib_lstm(xt, s, w["kernel"], w["biases"], 0.75, skip=skip))
    close(output(layer, {"x": x}, nn.Input(("batch", "time", *shape))), want, 1e-12)


MXNET = [
    ("RNN", "NCHW", {}), ("LSTM", "NCHW", {}), ("GRU", "NCHW", {}), ("LSTM", "NHWC", {"i2h_pad": 0, "i2h_kernel": 2}),
    ("LSTM", "NCW", {"h2h_dilate": 2, "h2h_kernel": 3}), ("GRU", "NDHWC", {"i2h_dilate": 2, "i2h_kernel": 2}),
    ("RNN", "NWC", {"i2h_stride": 2, "activation": "softrelu"}), ("GRU", "NCHW", {"i2h_stride": (1, 2)}),
]


@pytest.mark.parametrize(("kind", "layout", "options"), MXNET)
def test_mxnet_conv_cells(kind: str, layout: str, options: dict[str, Any]) -> None:
    dims, first = len(layout) - 2, layout[1] == "C"
    shape = (3, *SHAPES[dims]) if first else (*SHAPES[dims], 3)
    cell = getattr(nn, f"MXNetConv{kind}Cell")(shape, 4, conv_layout=layout, **options)
    layer = randomize(nn.RNN(cell, return_sequences=True), (None, None, *shape))
    x = some(2, 3, *shape)
    want = mxnet(kind, np.moveaxis(x, 2, -1) if first else x, layer.weights, first, options, cell.state_size["h"])
    got = output(layer, {"x": x}, nn.Input(("batch", "time", *shape)))
    close(np.moveaxis(got, 2, -1) if first else got, want, 1e-6)  # the slope 0.2 is a float32


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_gluon_cells_have_other_defaults(kind: str) -> None:
    cell = getattr(nn, f"GluonConv{kind}Cell")((3, 5, 6), 4, 3, 3)
    layer = randomize(nn.RNN(cell, return_sequences=True), (None, None, 3, 5, 6))
    x = some(2, 3, 3, 5, 6)
    options = {"i2h_pad": 0, "activation": "tanh"}
    want = mxnet(kind, np.moveaxis(x, 2, -1), layer.weights, True, options, cell.state_size["h"])
    close(np.moveaxis(output(layer, {"x": x}, nn.Input(("batch", "time", 3, 5, 6))), 2, -1), want, 1e-12)


# --- ops.conv and a user's own cell -------------------------------------------------------------------------------


class Grouped(nn.Cell):
    """A user's cell: a depthwise step on the state, a strided view of the input."""

    input_rank = 2

    def build(self, shape: tuple[int, ...]) -> None:
        self.state_size = {"h": (-(-shape[0] // 2), 4)}
        self.w = self.add_weight("w", (3, shape[1], 4))
        self.r = self.add_weight("r", (3, 1, 4))

    def step(self, x: nn.Tensor, state: dict[str, nn.Tensor]) -> tuple[nn.Tensor, dict[str, nn.Tensor]]:
        h = ops.tanh(ops.conv(x, self.w, strides=2) + ops.conv(state["h"], self.r, groups=4))
        return h, {"h": h}


def test_a_users_cell() -> None:
    layer = randomize(nn.RNN(Grouped(), return_sequences=True), (None, None, 7, 3))
    x = some(2, 3, 7, 3)
    w, r = layer.weights["w"], layer.weights["r"]

    def step(xt: Array, states: list[Array]) -> tuple[Array, list[Array]]:
        own = np.concatenate([conv(states[0][..., g : g + 1], r[..., g : g + 1]) for g in range(4)], -1)
        h = np.tanh(conv(xt, w, strides=(2,)) + own)
        return h, [h]

    close(output(layer, {"x": x}, nn.Input(("batch", "time", 7, 3))), run(x, [np.zeros((2, 4, 4))], step), 1e-12)


def test_shapes_of_conv() -> None:
    class Call(nn.Layer):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            self.options = options

        def setup(self, shape: tuple[Any, ...]) -> None:
            self.kernel = self.add_weight("kernel", (3, 3, 2, 4))

        def call(self, x: nn.Tensor) -> nn.Tensor:
            return ops.conv(x, self.kernel, **self.options)

    x = nn.Input(("batch", 9, 8, 2))
    for options, size in (({}, (9, 8)), ({"padding": "valid"}, (7, 6)), ({"strides": (2, 3)}, (5, 3)),
                          ({"padding": 2}, (11, 10)), ({"padding": ((0, 1), (2, 0))}, (8, 8)),
                          ({"padding": (0, 1), "dilation": (1, 2)}, (7, 6))):
        assert checked(trace(Call(**options), x)).outputs[0].shape == ("batch", *size, 4)
    for bad, message in (({"strides": 0}, "strides must be a whole number >= 1"), ({"dilation": "2"}, "dilation"),
                         ({"padding": "full"}, "padding must be 'same', 'valid' or numbers"),
                         ({"padding": ((0, 1),)}, "padding must have 2 pairs"), ({"groups": 0}, "groups must be")):
        with pytest.raises(TraceError, match=message):
            trace(Call(**bad), x)
    with pytest.raises(ShapeError, match="2 group"):
        trace(Call(groups=2), x)
    with pytest.raises(ShapeError, match="larger than the padded"):
        trace(Call(padding="valid", dilation=4), x)


BAD = [
    (lambda: nn.ConvLSTM2D(0, 3), ShapeError, "filters must be an int >= 1, got 0"),
    (lambda: nn.ConvLSTM2D(4, (3, 3, 3)), TraceError, "kernel_size must be a whole number >= 1, or 2 of them"),
    (lambda: nn.ConvLSTM2D(4, 3, padding="causal"), TraceError, "padding must be 'valid' or 'same', got 'causal'"),
    (lambda: nn.ConvLSTM2D(4, 3, strides=2, dilation_rate=2), TraceError, "cannot both be above 1"),
    (lambda: nn.ConvLSTM2D(4, 3, data_format="NHWC"), TraceError, "data_format must be 'channels_last' or"),
    (lambda: nn.ConvLSTMCell(4, 4, 3), ShapeError, "expected 1, 2 or 3 spatial dims, got 4"),
    (lambda: nn.MXNetConvLSTMCell(None, 4, h2h_kernel=2), TraceError, "h2h_kernel must be odd"),
    (lambda: nn.MXNetConvLSTMCell(None, 4, conv_layout="HWC"), TraceError, "conv_layout must be one of NCW"),
    (lambda: nn.ContribConvLSTMCell(2, (5, 6), 4, 3), ShapeError, "input_shape must be 3 ints >= 1"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(("shape", "message"), [
    (("b", "t", 5, 6), "expected an input of rank 5"), (("b", "t", "rows", 6, 3), "only batch and time may be symbols"),
    (("b", "t", 2, 2, 3), "larger than the input's"), (("b", "t", 0, 6, 3), "integers >= 1"),
])
def test_bad_inputs(shape: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        trace(nn.ConvLSTM2D(4, 3), nn.Input(shape))


def test_states_are_known_before_an_input_where_it_is_declared() -> None:
    cell = nn.ConvLSTMCell(2, 4, 3, data_format="channels_first", input_shape=(3, 5, 6))
    assert cell.state_size == {"h": (4, 3, 4), "c": (4, 3, 4)}
    assert [i["layout"] for i in cell.state_info] == ["NCHW", "NCHW"]
    assert nn.MXNetConvGRUCell((1, 3, 5, 6), 4).state_size == {"h": (4, 5, 6)}
    with pytest.raises(TraceError, match="give input_shape= to ask for it before"):
        _ = nn.ConvLSTMCell(2, 4, 3).state_size


@pytest.mark.parametrize("first", [False, True])
def test_stacks_and_wrappers(first: bool) -> None:
    """Cells on top of each other in one loop are layers on top of each other."""
    layout, shape, between = ("channels_first", (3, 5, 6), (4, 5, 6)) if first else (None, (5, 6, 3), (5, 6, 4))
    options: dict[str, Any] = {"kernel_size": 3, "padding": "same", "data_format": layout}
    stack = nn.RNN([nn.ConvLSTMCell(2, 4, input_shape=shape, **options),
                    nn.ZoneoutCell(nn.ConvGRUCell(2, 2, input_shape=between, **options), 0.0, 0.2)],
                   return_sequences=True)
    layers = nn.Sequential([nn.ConvLSTM2D(4, return_sequences=True, **options),
                            nn.RNN(nn.ConvGRUCell(2, 2, **options), return_sequences=True)])
    x = some(2, 3, *shape)
    randomize(stack, (None, None, *shape))
    layers.build((None, None, *shape))
    layers.set_weights(list(stack.weights.values()))
    sequence = nn.Input(("batch", "time", *shape))
    close(output(stack, {"x": x}, sequence), output(layers, {"x": x}, sequence), 1e-12)


def test_declared_input_shape_must_fit() -> None:
    with pytest.raises(ShapeError, match=r"input_shape is \[5, 6, 3\], got a step's input of \[5, 6, 2\]"):
        trace(nn.RNN(nn.ContribConvLSTMCell(2, (5, 6, 3), 4, 3)), nn.Input(("b", "t", 5, 6, 2)))
