"""Streams of further cells, wrappers and functions: chunks give what the whole sequence gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.ir import Array
from rnngraph.nn import ops

B, T, F = 3, 9, 8
X = np.random.default_rng(0).standard_normal((B, T, F)).astype(np.float32)


def cell(make: Callable[[], nn.Cell]) -> Callable[[], nn.Layer]:
    return lambda: nn.RNN(make(), return_sequences=True)


def scanned() -> nn.Layer:
    x = nn.Input(("batch", "time", F))
    last, y = rg.scan(lambda h, x: (0.9 * h + x, h * x), ops.zeros_like(x[:, 0]), ops.transpose(x, (1, 0, 2)))
    return nn.Model(x, [last, y])


MODELS: dict[str, Callable[[], nn.Layer]] = {
    "phased": cell(lambda: nn.PhasedLSTMCell(F)),
    "nas": cell(lambda: nn.NASCell(F)),
    "sru": cell(lambda: nn.SRUv2Cell(F)),
    "normalized": cell(lambda: nn.LayerNormLSTMCell(F)),
    "independent": cell(lambda: nn.IndyGRUCell(F)),
    "attention": cell(lambda: nn.AttentionCell(nn.LSTMCell(6), attn_length=4)),
    "residual": cell(lambda: nn.ResidualCell(nn.GRUCell(F))),
    "projected": lambda: nn.LSTM(F, proj_size=5, return_sequences=True),
    "masking": lambda: nn.Sequential([nn.Masking(), nn.LSTM(F, return_sequences=True), nn.GRU(4)]),
    "scan": scanned,
}


def in_chunks(model: Any, x: Array) -> tuple[list[Array], list[Array]]:
    """The outputs of the whole sequence, and of three chunks."""
    whole = model(x)
    session, pieces = model.stream(len(x)), []
    for a, b in ((0, 2), (2, 3), (3, T)):
        got = session.feed(x[:, a:b])
        pieces.append(got if isinstance(got, tuple) else (got,))
    axes = model.variant(stream=True).stream.axes
    joined = [parts[-1] if axis is None else np.concatenate(parts, axis)
              for parts, axis in zip(zip(*pieces, strict=True), axes, strict=True)]
    return list(whole) if isinstance(whole, tuple) else [whole], joined


@pytest.mark.parametrize("name", MODELS)
def test_chunks_give_the_bits_of_the_whole_sequence(name: str) -> None:
    layer = MODELS[name]()
    model = rg.compile(layer) if isinstance(layer, nn.Model) else rg.compile(layer, rg.Input(("batch", "time", F)))
    x = np.where(np.random.default_rng(1).random((B, T, 1)) < 0.3, np.float32(0.0), X) if name == "masking" else X
    for want, got in zip(*in_chunks(model, x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_images() -> None:
    layer = nn.ConvLSTM2D(4, 3, padding="same", return_sequences=True)
    x = np.random.default_rng(2).standard_normal((2, T, 5, 6, 2)).astype(np.float32)
    for want, got in zip(*in_chunks(rg.compile(layer, rg.Input(("batch", "time", 5, 6, 2))), x), strict=True):
        np.testing.assert_allclose(got, want, rtol=0.0, atol=1e-6)


def test_two_states_that_a_whole_sequence_needs_once() -> None:
    """Other arithmetic, the same up to rounding: see docs/running.md."""
    layer = nn.RNN(nn.ZoneoutCell(nn.GRUCell(F), 0.1), return_sequences=True)
    for want, got in zip(*in_chunks(rg.compile(layer, rg.Input(("batch", "time", F))), X), strict=True):
        np.testing.assert_allclose(got, want, rtol=0.0, atol=1e-6)
