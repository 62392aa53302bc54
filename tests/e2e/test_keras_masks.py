"""Masks and options beside live Keras (torch backend), with the weights of our layers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import rnngraph as rg
from rnngraph import nn
from rnngraph.ir import Array

B, T, F, U = 6, 5, 4, 8
MASK = np.array([[c == "1" for c in row] for row in ("11111", "11000", "00111", "10101", "01010", "00000")])
X = np.random.default_rng(0).standard_normal((B, T, F), np.float32)
KINDS = ("LSTM", "GRU", "SimpleRNN")


def close(got: Any, want: Any) -> None:
    got, want = (list(v) if isinstance(v, list | tuple) else [v] for v in (got, want))
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        expected = w.detach().cpu().numpy()
        np.testing.assert_allclose(g, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


def both(ours: nn.Layer, theirs: Any, x: Array = X, mask: Array | None = MASK, dtype: str = "f32") -> None:
    compiled = rg.compile(ours, rg.Input(("batch", "time", *x.shape[2:]), dtype))
    given = {} if mask is None else {"mask": mask}
    theirs(x, **given)  # builds it
    rng = np.random.default_rng(1)
    values = [rng.standard_normal(w.shape, np.float32) * np.float32(0.3) for w in ours.weights.values()]
    ours.set_weights(values)
    theirs.set_weights(values)
    compiled = rg.compile(ours, rg.Input(("batch", "time", *x.shape[2:]), dtype))
    close(compiled(x, mask=mask), theirs(x, **given))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_layers_under_a_mask(kind: str, backwards: bool, zeros: bool, sequences: bool) -> None:
    options: dict[str, Any] = {"return_sequences": sequences, "return_state": True, "go_backwards": backwards,
                               "zero_output_for_mask": zeros}
    both(getattr(nn, kind)(U, **options), getattr(keras.layers, kind)(U, **options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave"])
def test_bidirectional_under_a_mask(kind: str, mode: str) -> None:
    both(nn.Bidirectional(getattr(nn, kind)(U, return_sequences=True), mode),
         keras.layers.Bidirectional(getattr(keras.layers, kind)(U, return_sequences=True), mode))


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_masking_in_a_stack(value: float) -> None:
    x = np.where(MASK[:, :, None], X, np.float32(value))
    layers = ((nn.Masking(value), keras.layers.Masking(value)),
              (nn.LSTM(U, return_sequences=True, go_backwards=True),
               keras.layers.LSTM(U, return_sequences=True, go_backwards=True)),
              (nn.Dense(5), keras.layers.Dense(5)), (nn.GRU(U), keras.layers.GRU(U)))
    both(nn.Sequential([a for a, _ in layers]), keras.Sequential([b for _, b in layers]), x, None)


def test_embedding_with_mask_zero() -> None:
    words = np.where(MASK, np.arange(1, T + 1), 0).astype(np.int32)
    both(nn.Sequential([nn.Embedding(9, F, mask_zero=True), nn.Bidirectional(nn.LSTM(U))]),
         keras.Sequential([keras.layers.Embedding(9, F, mask_zero=True),
                           keras.layers.Bidirectional(keras.layers.LSTM(U))]), words, None, "i32")
