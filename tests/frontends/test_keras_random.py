"""Random Keras 3 architectures: what they become here computes what they compute, from memory and from every format."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.frontends.keras_support import check, keras, randomized

L = keras.layers
ACTIVATIONS = ("tanh", "relu", "sigmoid", "elu", "hard_sigmoid", "softsign", "silu")


def cell(rng: random.Random) -> Any:
    kind = rng.choice((L.LSTMCell, L.GRUCell, L.SimpleRNNCell))
    return kind(rng.randint(1, 5), activation=rng.choice(ACTIVATIONS), use_bias=rng.random() < 0.8)


def recurrent(rng: random.Random, sequences: bool, backwards: bool | None = None) -> Any:
    """A recurrent layer with options of all kinds."""
    back = rng.random() < 0.3 if backwards is None else backwards
    shared = {"return_sequences": sequences, "go_backwards": back, "name": f"r{rng.randrange(10**9)}"}
    kind = rng.randrange(4)
    if kind == 3:
        return L.RNN([cell(rng) for _ in range(rng.randint(1, 3))], **shared)
    options = {"activation": rng.choice(ACTIVATIONS), "use_bias": rng.random() < 0.8, "dropout": rng.choice((0.0, 0.2))}
    units = rng.randint(1, 5)
    if kind == 2:
        return L.SimpleRNN(units, **options, **shared)
    options["recurrent_activation"] = rng.choice(("sigmoid", "hard_sigmoid"))
    if kind == 1:
        return L.GRU(units, reset_after=rng.random() < 0.5, **options, **shared)
    return L.LSTM(units, **options, **shared)


def bidirectional(rng: random.Random, sequences: bool) -> Any:
    mode = rng.choice(("concat", "sum", "mul", "ave"))
    layer = recurrent(rng, sequences, False)
    other = recurrent(rng, sequences, True)
    if getattr(layer, "units", -1) == getattr(other, "units", -2):  # Keras counts on it in the shape of its output
        return L.Bidirectional(layer, backward_layer=other, merge_mode=mode)
    return L.Bidirectional(layer, merge_mode=mode)


def on_sequences(rng: random.Random) -> list[Callable[[Any], Any]]:
    """Layers from a sequence to a sequence."""
    n = rng.randint(1, 5)
    return [
        recurrent(rng, True), recurrent(rng, True), bidirectional(rng, True),
        L.Dense(n, activation=rng.choice(ACTIVATIONS)),
        L.Conv1D(n, rng.randint(1, 3), padding=rng.choice(("same", "causal")), dilation_rate=rng.randint(1, 2)),
        L.SeparableConv1D(n, 2, padding="same"), L.BatchNormalization(), L.LayerNormalization(), L.Dropout(0.2),
        L.TimeDistributed(L.Dense(n)), L.ZeroPadding1D((rng.randint(0, 2), 1)), L.UpSampling1D(2), L.LeakyReLU(0.1),
        L.MaxPooling1D(2, strides=1, padding="same"), lambda x: L.Attention()([x, x]),
        lambda x: L.MultiHeadAttention(rng.randint(1, 2), n)(x, x), lambda x: L.Add()([x, L.Dense(x.shape[-1])(x)]),
        lambda x: L.Concatenate()([x, recurrent(rng, True, False)(x)]),
        keras.Sequential([recurrent(rng, True), L.Dense(n), L.LayerNormalization()]),
        lambda x: x * 0.5 + 0.1,
    ]


def to_vectors(rng: random.Random) -> list[Callable[[Any], Any]]:
    """Layers from a sequence to a vector."""
    return [recurrent(rng, False), bidirectional(rng, False), L.GlobalMaxPooling1D(), L.GlobalAveragePooling1D()]


def states(rng: random.Random, x: Any) -> Any:
    """The output of a layer that begins where another one ended."""
    n = rng.randint(1, 4)
    kind = rng.choice((L.LSTM, L.GRU))
    _, *found = kind(n, return_state=True)(x)
    return kind(n, return_sequences=True)(x, initial_state=found if len(found) > 1 else found[0])


def architecture(seed: int) -> Any:
    """A random functional model."""
    rng = random.Random(seed)
    time = rng.choice((None, None, 6))
    if rng.random() < 0.3:
        given = keras.Input((time,), dtype="int32")
        x = L.Embedding(9, rng.randint(2, 5))(given)
    else:
        given = x = keras.Input((time, rng.randint(1, 5)))
    for _ in range(rng.randint(1, 4)):
        x = states(rng, x) if rng.random() < 0.15 else rng.choice(on_sequences(rng))(x)
    outputs = [x] if rng.random() < 0.5 else []
    x = rng.choice(to_vectors(rng))(x)
    for _ in range(rng.randint(0, 2)):
        x = rng.choice([L.Dense(3, activation=rng.choice(ACTIVATIONS)), L.BatchNormalization(), L.Softmax(),
                        L.UnitNormalization()])(x)
    if rng.random() < 0.3:
        x = L.RepeatVector(3)(x)
    return keras.Model(given, [*outputs, x] if outputs else x)


def checked(seed: int, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = randomized(architecture(seed), seed)
    check(model, folder, seed, tolerance=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_a_random_model_computes_what_it_computed(seed: int, tmp_path: Path) -> None:
    checked(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_many_random_models_compute_what_they_computed(seed: int, tmp_path: Path) -> None:
    checked(seed, tmp_path)
