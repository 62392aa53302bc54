"""Models: composition, names, weights, inputs and outputs."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Interpreter, evaluate
from rnngraph.nn import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Embedding,
    Input,
    Layer,
    LayerNormalization,
    Model,
    Sequential,
    SimpleRNN,
    Tensor,
    ops,
    trace,
)
from tests.nn.numpy_cells import gru, lstm, run
from tests.nn.support import B, I, T, U, X, checked, close, output, outputs, randomize, some

x = some(B, T, I)


def test_sequential() -> None:
    model = Sequential([LSTM(U, return_sequences=True), GRU(3), Dense(2, "softmax")])
    randomize(model)
    w = model.weights
    seq, _ = run(lstm({k: v for k, v in w.items() if "lstm" in k}), x, [np.zeros((B, U))] * 2)
    _, (h,) = run(gru({k: v for k, v in w.items() if "gru" in k}, True), seq, [np.zeros((B, 3))])
    z = np.exp(h @ w["dense/kernel"].astype(np.float64) + w["dense/bias"])
    close(output(model, {"x": x}), z / z.sum(-1, keepdims=True), 1e-12)


def test_names_are_those_of_keras() -> None:
    model = Sequential([LSTM(3, return_sequences=True), Bidirectional(LSTM(3, return_sequences=True)),
                        LSTM(3, return_sequences=True, name="lstm_1"), LSTM(3, return_sequences=True), SimpleRNN(2),
                        LayerNormalization()])
    assert [layer.name for layer in model.layers] == ["lstm", "bidirectional", "lstm_1", "lstm_2", "simple_rnn",
                                                      "layer_normalization"]
    layers = {op.layer for op in trace(model, X).walk()}
    assert {"lstm", "lstm_1", "lstm_2", "bidirectional/forward", "bidirectional/backward"} <= layers
    assert model.get_layer("lstm_1") is model.layers[2]
    with pytest.raises(TraceError, match="no layer 'gru'"):
        model.get_layer("gru")


def test_one_layer_twice_in_a_row() -> None:
    shared = Dense(I, "tanh")
    model = Sequential([shared, shared])
    randomize(model)
    assert list(model.weights) == ["dense/kernel", "dense/bias"]
    k, bias = (w.astype(np.float64) for w in model.weights.values())
    close(output(model, {"x": x}), np.tanh(np.tanh(x @ k + bias) @ k + bias), 1e-12)


def test_two_layers_of_one_name() -> None:
    with pytest.raises(TraceError, match="two layers named 'a'"):
        Sequential([Dense(2, name="a"), Dense(2, name="a")])


@pytest.mark.parametrize("name", ["a/b", "", "two words", "x\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(TraceError, match="a layer's name is made of letters"):
        Dense(2, name=name)


def test_branches_shared_layers_and_operators() -> None:
    a, b = Input(("batch", "time", I), name="a"), Input(("batch", "time", I), name="b")
    shared = Dense(I, "tanh", name="shared")
    mixed = shared(a) * 0.5 + ops.sigmoid(shared(b)) - a / 2
    model = Model([a, b], [mixed, ops.mean(mixed, axis=-1), ops.concat([a, b])])
    assert [layer.name for layer in model.layers] == ["shared"]
    model.set_weights([some(I, I), some(I)])
    xa, xb = some(B, T, I, seed=1), some(B, T, I, seed=2)
    k, bias = (w.astype(np.float64) for w in model.weights.values())
    mixed_np = np.tanh(xa @ k + bias) * 0.5 + 1 / (1 + np.exp(-np.tanh(xb @ k + bias))) - xa.astype(np.float64) / 2
    got = outputs(model, {"a": xa, "b": xb}, None)
    assert list(got) == ["y0", "y1", "y2"]
    close(got["y0"], mixed_np, 1e-12)
    close(got["y1"], mixed_np.mean(-1), 1e-12)
    close(got["y2"], np.concatenate([xa, xb], -1), 0.0)


def test_a_shared_recurrent_layer_called_twice() -> None:
    a, b = Input(("batch", "time", I), name="a"), Input(("batch", "time", I), name="b")
    shared = GRU(U, return_state=True, name="g")
    (ya, ha), (_, hb) = shared(a), shared(b)
    graph = checked(trace(Model([a, b], [ya, ha, hb]), initial_state=True))
    assert graph.input_names == ("a", "b", "g.h0", "g.call1.h0")
    assert graph.output_names == ("y", "g.h", "g.call1.h")
    assert len([op for op in graph.walk() if op.name == "const"]) == 9 + 3 + 2  # weights once; a 1.0 per body + ...


def test_models_nest() -> None:
    inner = Sequential([GRU(U, return_sequences=True), Dense(3)], name="inner")
    a = Input(("batch", "time", I), name="a")
    model = Model(a, Sequential([GRU(2)], name="head")(inner(a)))
    assert list(model.weights)[:2] == ["inner/gru/kernel", "inner/gru/recurrent_kernel"]
    randomize(inner)
    layers = {op.layer for op in checked(trace(model)).walk() if op.layer}
    assert layers == {"inner/gru", "inner/dense", "head/gru"}
    assert output(model, {"a": x}, None).shape == (B, 2)


def test_states_are_outputs_and_pass_by_the_next_layer() -> None:
    model = Sequential([GRU(U, return_sequences=True, return_state=True), LSTM(3, return_state=True)])
    assert checked(trace(model, X)).output_names == ("y", "gru.h", "lstm.h", "lstm.c")


def test_two_outputs_into_one_layer() -> None:
    model = Sequential([Bidirectional(GRU(U), merge_mode=None), Dense(2)])
    with pytest.raises(TraceError, match="layer 'dense' takes one input, but the layer before it gives 2"):
        trace(model, X)


def test_inputs_of_the_model() -> None:
    model = Sequential([Input(("batch", "time", I), name="features"), GRU(U)])
    assert trace(model).input_names == ("features",)
    assert trace(model, Input((2, 7, I))).inputs[0].shape == (2, 7, I)
    with pytest.raises(TraceError, match="expected an Input or a tuple of them"):
        trace(Sequential([GRU(U)]))
    with pytest.raises(ShapeError, match=r"takes 1 input\(s\), got 2"):
        trace(model, (X, Input((3,), name="b")))
    with pytest.raises(TraceError, match="two inputs have one name"):
        trace(model, (X, X))
    with pytest.raises(TraceError, match="expected a layer or model"):
        trace("model", X)  # type: ignore[arg-type]


def test_a_model_whose_outputs_depend_on_another_input() -> None:
    a, b = Input((2, 3), name="a"), Input((2, 3), name="b")
    with pytest.raises(TraceError, match=r"depend on <Input b.*not among the inputs"):
        Model(a, a + b)
    with pytest.raises(TraceError, match="outputs must be"):
        Model(a, 3.0)  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="inputs must be Inputs"):
        Model(a + 1.0, b)  # type: ignore[arg-type]


def test_composition_checks_shapes_at_once() -> None:
    with pytest.raises(ShapeError, match="layer 'lstm': expected an input of rank 3"):
        LSTM(3)(Input((2, 3)))
    y = LSTM(3, return_sequences=True)(X)
    assert y.shape == ("batch", "time", 3)


@pytest.mark.parametrize("layers", [[], [3], [Dense(2), X]])
def test_sequential_of_something_else(layers: list[Layer]) -> None:
    with pytest.raises(TraceError, match="Sequential: expected layers"):
        Sequential(layers)


def test_arrays_are_not_inputs() -> None:
    with pytest.raises(TraceError, match="layer 'dense': expected a tensor or Input"):
        Dense(2)(x)


def test_lengths_without_a_recurrent_layer() -> None:
    with pytest.raises(TraceError, match="no recurrent layer"):
        trace(Dense(2), X, lengths=True)


@pytest.mark.parametrize("shape", [(2.5,), ("a b",), (True, 2), (-1, 3)])
def test_bad_input_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="dim"):
        Input(shape)
    with pytest.raises(TraceError, match="expected a dtype"):
        Input((2,), dtype="float32")


# --- weights ---------------------------------------------------------------------------------------------------


def test_weights_in_keras_order_and_by_name() -> None:
    layer = LSTM(2)
    layer.build((None, None, 3))
    shapes = {k: v.shape for k, v in layer.weights.items()}
    assert shapes == {"kernel": (3, 8), "recurrent_kernel": (2, 8), "bias": (8,)}
    values = [some(3, 8), some(2, 8), some(8)]
    layer.set_weights(values)
    np.testing.assert_array_equal(layer.weights["bias"], values[2])
    layer.set_weights({"bias": values[2] * 0, "kernel": values[0], "recurrent_kernel": values[1]})
    assert not layer.weights["bias"].any()
    with pytest.raises(ValueError, match="read-only"):
        layer.weights["bias"][0] = 1.0
    after = GRU(2)
    after.build((None, None, 3))
    assert after.weights["bias"].shape == (2, 6)


def test_wrong_weights_change_nothing() -> None:
    layer = GRU(2, reset_after=False, name="g")
    layer.build((None, None, 3))
    before = layer.weights
    good = [some(3, 6), some(2, 6), some(6)]
    for bad, message in [
        ([*good[:2], some(2, 6)], r"layer 'g': weight 'bias': expected shape \[6\], got \[2, 6\]"),
        (good[:2], r"layer 'g': expected 3 weights \(kernel, recurrent_kernel, bias\), got 2"),
        ([*good[:2], good[2].astype(np.float64)], r"expected float32, got float64; use .*astype\(np.float32\)"),
        ([*good[:2], [0.0] * 6], "expected float32, got float64"),
        ({"kernel": good[0]}, "layer 'g': expected the weights kernel, recurrent_kernel, bias, got kernel"),
    ]:
        with pytest.raises(ShapeError, match=message):
            layer.set_weights(bad)  # type: ignore[arg-type]
    for name, value in layer.weights.items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(TraceError, match="layer 'dense' has no weights yet; build it first"):
        Dense(2).set_weights([some(3, 2)])


def test_initial_weights() -> None:
    def make() -> Sequential:
        return Sequential([X, LSTM(U, return_sequences=True), LSTM(U, return_sequences=True)])

    first, second = make().weights, make().weights
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])  # the same in every process
        assert value.dtype == np.float32
    assert np.abs(first["lstm/recurrent_kernel"] - first["lstm_1/recurrent_kernel"]).max() > 0.1
    recurrent = first["lstm/recurrent_kernel"].astype(np.float64)
    close(recurrent @ recurrent.T, np.eye(U), 1e-6)
    assert np.abs(first["lstm/kernel"]).max() <= np.sqrt(6 / (I + 4 * U))
    np.testing.assert_array_equal(first["lstm/bias"], np.repeat([0, 1, 0, 0], U).astype(np.float32))
    assert not LSTM(U, unit_forget_bias=False).built


# --- layers beside the recurrent ones ----------------------------------------------------------------------------


def test_embedding() -> None:
    layer = Embedding(10, 3)
    ids = np.array([[1, 9], [0, 4]], np.int32)
    words = Input(("batch", "time"), "i32", "words")
    got = output(layer, {"words": ids}, words)
    close(got, layer.weights["embeddings"][ids].astype(np.float64), 0.0)
    assert checked(trace(Sequential([Embedding(10, 3), GRU(2)]), words, lengths=True)).output_names == ("y",)
    with pytest.raises(ShapeError, match="layer 'embedding': expected integer indices, got f32"):
        trace(Embedding(10, 3), X)


@pytest.mark.parametrize(("axis", "center", "scale"), [
    (-1, True, True), (-1, False, True), (-1, True, False), (1, True, True),
])
def test_layer_normalization(axis: int, center: bool, scale: bool) -> None:
    layer = LayerNormalization(axis=axis, center=center, scale=scale, epsilon=1e-2)
    randomize(layer, (B, T, I))
    v = x.astype(np.float64)
    expected = (v - v.mean(axis, keepdims=True)) / np.sqrt(v.var(axis, keepdims=True) + np.float32(1e-2))
    shape = (-1, 1) if axis == 1 else (-1,)
    expected = expected * (layer.weights["gamma"].reshape(shape) if scale else 1.0)
    expected = expected + (layer.weights["beta"].reshape(shape) if center else 0.0)
    close(output(layer, {"x": x}, Input((B, T, I))), expected, 1e-12)


def test_layer_normalization_needs_an_integer_axis() -> None:
    with pytest.raises(ShapeError, match="layer 'layer_normalization': axis 1 must be an axis of integer size"):
        trace(LayerNormalization(axis=1), X)


def test_dense_shapes() -> None:
    with pytest.raises(ShapeError, match=r"layer 'dense': expected \[batch, ..., features\]"):
        trace(Dense(2), Input((3,)))
    layer = Dense(2, use_bias=False)
    layer.build((None, 3))
    assert list(layer.weights) == ["kernel"]
    with pytest.raises(ShapeError, match="layer 'dense': expected 3 features, got 4"):
        trace(layer, X)


def test_a_layer_of_the_user() -> None:
    class Scale(Layer):
        def setup(self, shape: tuple[int | str, ...]) -> None:
            assert isinstance(shape[-1], int)
            self.scale = self.add_weight("scale", (shape[-1],), "ones")

        def call(self, v: Tensor) -> Tensor:
            return v * self.scale

    model = Sequential([Scale(), Activation(ops.relu)])
    close(output(model, {"x": x}), np.maximum(x, 0).astype(np.float64), 0.0)
    assert list(model.weights) == ["scale/scale"]


# --- training ----------------------------------------------------------------------------------------------------


def masks(model: Layer, **options: bool | int) -> list[tuple[int, str, tuple[int | str, ...]]]:
    graph = checked(trace(model, X, **options))  # type: ignore[arg-type]
    return [(op.attrs.seed, op.layer, op.attrs.shape)  # type: ignore[attr-defined]
            for op in graph.walk() if op.name == "random_mask"]


def dropping() -> Sequential:
    return Sequential([Dropout(0.5), Bidirectional(LSTM(U, dropout=0.25, recurrent_dropout=0.5, return_sequences=True)),
                       GRU(3, recurrent_dropout=0.1, return_sequences=True), Dropout(0.5)])


def test_dropout_vanishes_without_training() -> None:
    assert masks(dropping()) == []


def test_masks_of_training() -> None:
    found = masks(dropping(), training=True)
    assert [(layer, shape) for _, layer, shape in found] == [
        ("dropout", ("batch", "time", I)),
        ("bidirectional/forward", ("batch", I)), ("bidirectional/forward", ("batch", U)),
        ("bidirectional/backward", ("batch", I)), ("bidirectional/backward", ("batch", U)),
        ("gru", ("batch", 3)),
        ("dropout_1", ("batch", "time", 3)),
    ]
    seeds = [seed for seed, *_ in found]
    assert len(set(seeds)) == len(seeds)
    assert found == masks(dropping(), training=True)
    assert not set(seeds) & {s for s, *_ in masks(dropping(), training=True, seed=1)}


@pytest.mark.parametrize("unroll", [False, True])
def test_dropout_numbers(unroll: bool) -> None:
    """One input mask and one recurrent mask per sequence; z h is not masked."""
    layer = GRU(U, dropout=0.5, recurrent_dropout=0.5, unroll=unroll)
    layer.build((None, T, I))
    graph = checked(trace(layer, Input((B, T, I)), training=True, seed=3))
    mask_ops = [op for op in graph.walk() if op.name == "random_mask"]
    assert len(mask_ops) == 2
    assert all(op.parent is graph.block for op in mask_ops)
    run_masks = Interpreter({}, float64=True)
    mx, mh = (np.asarray(op.opdef.evaluate(run_masks, op, [])[0]) for op in mask_ops)
    assert set(np.unique(mx)) <= {0.0, 2.0}
    w = {k: v.astype(np.float64) for k, v in layer.weights.items()}
    h = np.zeros((B, U))
    for t in range(T):
        xz, xr, xh = np.split((x[:, t] * mx) @ w["kernel"] + w["bias"][0], 3, 1)
        hz, hr, hh = np.split((h * mh) @ w["recurrent_kernel"] + w["bias"][1], 3, 1)
        z, r = 1 / (1 + np.exp(-xz - hz)), 1 / (1 + np.exp(-xr - hr))
        h = z * h + (1 - z) * np.tanh(xh + r * hh)
    close(evaluate(graph, {"x": x}, float64=True)["y"], h, 1e-12)
