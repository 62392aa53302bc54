"""Bidirectional and stacked cells beside live Keras, natively compiled."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import rnngraph as rg
from rnngraph.errors import ShapeError
from rnngraph.nn import GRU, LSTM, RNN, Bidirectional, GRUCell, LSTMCell, SimpleRNN, SimpleRNNCell, trace
from rnngraph.nn.layer import Layer
from tests.nn.support import B, I, T, X, some

x = some(B, T, I)
k = keras.layers


def same(reference: Any, made: Layer) -> None:
    """The outputs of both, with Keras's weights; float32 on both sides."""
    want = reference(x)
    made.build((None, None, I))
    made.set_weights([v.value.detach().numpy() for v in reference.weights])
    compiled = rg.compile(made, X, target="cpu", threads=2)
    assert not any(op.impl.startswith("reference") for op in compiled.program.graph.block.ops)
    got = compiled(x)
    wanted = list(want) if isinstance(want, list | tuple) else [want]
    found = list(got) if isinstance(got, tuple) else [got]
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_merge_modes(mode: str | None, sequences: bool) -> None:
    reference = k.Bidirectional(k.LSTM(5, return_sequences=sequences, bias_initializer="uniform"), merge_mode=mode)
    same(reference, Bidirectional(LSTM(5, return_sequences=sequences), merge_mode=mode))


def test_other_kinds_and_sizes_in_each_direction() -> None:
    reference = k.Bidirectional(k.LSTM(5, return_sequences=True),
                                backward_layer=k.GRU(3, return_sequences=True, go_backwards=True))
    same(reference, Bidirectional(LSTM(5, return_sequences=True),
                                  backward_layer=GRU(3, return_sequences=True, go_backwards=True)))


def test_any_cell_in_both_directions() -> None:
    reference = k.Bidirectional(k.RNN([k.LSTMCell(5), k.GRUCell(4)], return_sequences=True))
    same(reference, Bidirectional(RNN([LSTMCell(5), GRUCell(4)], return_sequences=True)))


def test_stacked_cells() -> None:
    reference = k.RNN(k.StackedRNNCells([k.LSTMCell(5), k.GRUCell(4), k.SimpleRNNCell(3)]), return_sequences=True)
    same(reference, RNN([LSTMCell(5), GRUCell(4), SimpleRNNCell(3)], return_sequences=True))


def test_states_of_both_directions() -> None:
    reference = k.Bidirectional(k.GRU(5, return_state=True))
    same(reference, Bidirectional(GRU(5, return_state=True)))


def test_sizes_that_cannot_be_added() -> None:
    made = Bidirectional(GRU(5), merge_mode="sum", backward_layer=SimpleRNN(4, go_backwards=True), name="bi")
    with pytest.raises(ShapeError, match="layer 'bi': "):
        trace(made, X)
