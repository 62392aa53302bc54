"""Functional Keras models: shared layers, models in models, states, masks, several inputs and outputs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import ImportModelError
from tests.frontends.keras_support import arrays_for, check, compare, keras, randomized, saved

L = keras.layers


def encoder_decoder() -> Any:
    x, y = keras.Input((None, 5), name="question"), keras.Input((None, 3), name="answer")
    _, *states = L.LSTM(4, return_state=True, name="encoder")(x)
    out = L.LSTM(4, return_sequences=True, name="decoder")(y, initial_state=states)
    return keras.Model([x, y], L.Dense(2, activation="softmax")(out))


def bidirectional_states() -> Any:
    x = keras.Input((None, 5))
    y, *states = L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True))(x)
    out = L.Bidirectional(L.LSTM(4))(y, initial_state=states)
    return keras.Model(x, [out, states[0]])


def gru_state() -> Any:
    x, h = keras.Input((None, 5), name="x"), keras.Input((4,), name="h")
    return keras.Model([x, h], L.GRU(4, return_state=True)(x, initial_state=h))


def shared() -> Any:
    a, b = keras.Input((None, 5), name="a"), keras.Input((None, 5), name="b")
    lstm, dense = L.LSTM(4), L.Dense(3)
    return keras.Model([a, b], L.Dot(1)([dense(lstm(a)), dense(lstm(b))]))


def nested() -> Any:
    x = keras.Input((None, 5))
    inner = keras.Sequential([L.Conv1D(4, 2), L.BatchNormalization(), L.LSTM(3, return_sequences=True)], name="inner")
    y = keras.Input((None, 3))
    head = keras.Model(y, L.Add()([L.Dense(3)(y), y]), name="head")
    deeper = keras.Sequential([L.Dense(2), L.GRU(2)], name="deeper")
    return keras.Model(x, [deeper(inner(x)), head(inner(x)), head(head(inner(x)))])


def frozen() -> Any:
    x = keras.Input((None, 5))
    inner = keras.Sequential([L.Dense(5), L.BatchNormalization(), L.Dense(5), L.Dense(5)], name="inner")
    inner(x)
    inner.layers[0].trainable = False
    inner.layers[2].trainable = False
    return keras.Model(x, L.LSTM(3, trainable=False)(inner(x)))


def words() -> Any:
    x = keras.Input((None,), dtype="int32")
    y = L.Embedding(9, 4, mask_zero=True)(x)
    y = L.Bidirectional(L.LSTM(3, return_sequences=True))(y)
    y = L.Dropout(0.3)(y)
    return keras.Model(x, L.GRU(3)(y))


def masked() -> Any:
    x = keras.Input((None, 5))
    y = L.Masking(0.0)(x)
    sequence = L.LSTM(3, return_sequences=True)(y)
    return keras.Model(x, [sequence, L.GlobalAveragePooling1D()(sequence), L.TimeDistributed(L.Dense(2))(sequence)])


def merged_masks() -> Any:
    x, z = keras.Input((None,), dtype="int32", name="x"), keras.Input((None,), dtype="int32", name="z")
    a, b = L.Embedding(9, 4, mask_zero=True)(x), L.Embedding(9, 4, mask_zero=True)(z)
    return keras.Model([x, z], [L.LSTM(3)(L.Add()([a, b])), L.LSTM(3)(L.Concatenate()([a, b])),
                                L.LSTM(3)(L.Concatenate(axis=1)([a, b]))])


def masked_attention() -> Any:
    x = keras.Input((None,), dtype="int32")
    y = L.Embedding(9, 4, mask_zero=True)(x)
    return keras.Model(x, L.Attention()([y, y]))


def masked_heads() -> Any:
    x = keras.Input((None,), dtype="int32")
    y = L.Embedding(9, 4, mask_zero=True)(x)
    return keras.Model(x, L.MultiHeadAttention(2, 3)(y, y))


def masked_heads_with_scores() -> Any:
    x = keras.Input((None,), dtype="int32")
    y = L.Embedding(9, 4, mask_zero=True)(x)
    return keras.Model(x, L.MultiHeadAttention(2, 3)(y, y, return_attention_scores=True))


def explicit_mask() -> Any:
    x, m = keras.Input((None, 5), name="x"), keras.Input((None,), dtype="bool", name="mask")
    return keras.Model([x, m], L.LSTM(3, return_sequences=True)(x, mask=m))


def odd_names() -> Any:
    x = keras.Input((None, 5), name="an input")
    y = L.LSTM(3, name="l s:tm", return_sequences=True)(x)
    return keras.Model(x, L.Dense(2, name="l_s_tm")(y), name="a model")


def late_input() -> Any:
    """A layer that another one feeds stands before it in the file."""
    x = keras.Input((4,), name="x")
    second = L.Dense(4, name="second")
    first = L.Dense(4, name="first")
    return keras.Model(x, second(first(second(x))))


@pytest.mark.parametrize("make", [
    encoder_decoder, bidirectional_states, gru_state, shared, nested, frozen, odd_names, explicit_mask, late_input])
def test_a_graph_computes_what_keras_computes(make: Any, tmp_path: Path) -> None:
    check(randomized(make()), tmp_path)


@pytest.mark.parametrize("make", [
    words, masked, merged_masks, masked_attention, masked_heads, masked_heads_with_scores])
def test_masks_go_where_keras_sends_them(make: Any, tmp_path: Path) -> None:
    model = randomized(make())
    xs = [x * (np.random.default_rng(2).random(x.shape[:2] + (1,) * (x.ndim - 2)) < 0.6).astype(x.dtype)
          for x in arrays_for(model, np.random.default_rng(1))]
    for x in xs:
        x[:, 0] = x[:, 0] + (x[:, 0] == 0)  # Keras divides by the number of steps that count
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compare(model, rg.from_keras(model), xs, 1e-5)
        text = rg.trace(rg.from_keras(model)).to_text()
        assert all(rg.trace(rg.from_keras(saved(model, f, tmp_path))).to_text() == text for f in ("keras", "h5"))


def test_sequential_models(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((None, 5)), L.LSTM(4, return_sequences=True), L.Dense(2)])
    check(randomized(model), tmp_path)


def test_a_sequential_that_was_built_by_a_call_says_its_shape(tmp_path: Path) -> None:
    model = keras.Sequential([L.LSTM(4), L.Dense(2)])
    model(np.zeros((2, 3, 5), np.float32))
    model = randomized(model)
    path = saved(model, "keras", tmp_path)
    x = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    compare(model, rg.from_keras(path, inputs=rg.Input(("batch", "time", 5))), [x], 1e-5)


def test_stateful_layers_keep_their_states(tmp_path: Path) -> None:
    model = randomized(keras.Sequential([keras.Input(batch_shape=(2, 3, 5)), L.LSTM(4, stateful=True),
                                         L.Dense(2)]))
    model.reset_states() if hasattr(model, "reset_states") else model.layers[0].reset_state()
    sources = [model, saved(model, "keras", tmp_path), saved(model, "h5", tmp_path)]
    x = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    expected = [model(x).detach().numpy() for _ in range(3)]
    for source in sources:
        compiled = rg.compile(rg.from_keras(source))
        for e in expected:
            assert float(np.abs(np.asarray(compiled(x)) - e).max()) <= 1e-5


def test_compile_takes_models_and_paths(tmp_path: Path) -> None:
    model = randomized(encoder_decoder())
    xs = arrays_for(model, np.random.default_rng(0))
    expected = model(xs).detach().numpy()
    for source in (model, saved(model, "keras", tmp_path), str(saved(model, "h5", tmp_path))):
        compiled = rg.compile(source)
        assert float(np.abs(np.asarray(compiled(*xs)) - expected).max()) <= 1e-5
        assert compiled.report.inputs == ("question: f32[batch,time,5]", "answer: f32[batch,time1,3]")
        assert "encoder" in compiled.explain()


def test_inputs_can_be_said_by_name() -> None:
    model = rg.from_keras(encoder_decoder(), inputs={"answer": rg.Input(("batch", 7, 3), name="reply")})
    assert [repr(x) for x in model.inputs] == ["<Input question: f32[batch,time,5]>", "<Input reply: f32[batch,7,3]>"]


def test_weights_alone_take_a_configuration(tmp_path: Path) -> None:
    model = randomized(nested())
    xs = arrays_for(model, np.random.default_rng(0))
    (tmp_path / "model.json").write_text(model.to_json())
    for name in ("w.weights.h5",):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save_weights(tmp_path / name)
        with pytest.raises(ImportModelError, match=f"{name}: these are weights alone"):
            rg.from_keras(tmp_path / name)
        for config in (model.to_json(), tmp_path / "model.json"):
            compare(model, rg.from_keras(tmp_path / name, config), xs, 1e-5)


def test_weights_in_bfloat16(tmp_path: Path) -> None:
    x = keras.Input((5,))
    model = keras.Model(x, L.Dense(3, dtype="bfloat16")(x))
    got = rg.from_keras(saved(model, "keras", tmp_path)).layers[0].weights["kernel"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model.layers[1].get_weights()[0].astype(np.float32)
    assert bool((got == expected).all())


def test_a_layer_of_ones_own(tmp_path: Path) -> None:
    def build(self: Any, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    Scale = type("Scale", (keras.layers.Layer,), {"build": build, "call": lambda self, x: x * self.scale})

    class Scaled(rg.nn.Layer):
        def setup(self, shape: Any) -> None:
            self.scale = self.add_weight("scale", (shape[-1],))

        def call(self, x: rg.nn.Tensor) -> rg.nn.Tensor:
            return x * self.scale

    x = keras.Input((None, 5))
    model = randomized(keras.Model(x, L.LSTM(3)(Scale(name="mine")(x))))
    xs = arrays_for(model, np.random.default_rng(0))
    for source in (model, saved(model, "h5", tmp_path)):
        with pytest.raises(ImportModelError, match=r"layer 'mine' \(Scale\): this class of layer is not supported"):
            rg.from_keras(source)
        compare(model, rg.from_keras(source, layers={"Scale": lambda config: Scaled()}), xs, 1e-5)
