"""Stacked cells inside wrappers that ask how wide their cell's output is."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.nn import (
    RNN,
    AttentionCell,
    BahdanauAttentionCell,
    Cell,
    GRUCell,
    Input,
    LSTMCell,
    Model,
    SequentialCell,
    StackedCells,
    ZoneoutCell,
    trace,
)
from tests.nn.support import B, I, T, close, outputs, randomize, some

x = some(B, T, I)
EXACT = 1e-12


def cells() -> list[Cell]:
    """A wide cell below a narrow one that is projected."""
    return [GRUCell(7), LSTMCell(5, proj_size=3)]


def test_the_output_of_a_stack_is_that_of_its_last_cell() -> None:
    assert StackedCells(cells()).output_size == 3
    assert StackedCells([GRUCell(2), StackedCells(cells())]).output_size == 3


def test_zoneout_of_the_output_of_a_stack() -> None:
    plain = RNN(StackedCells(cells()), return_sequences=True)
    randomize(plain)
    zoned = RNN(ZoneoutCell(StackedCells(cells()), zoneout_outputs=0.5), return_sequences=True)
    randomize(zoned)
    zoned.set_weights(dict(zip(zoned.weights, plain.weights.values(), strict=True)))
    close(outputs(zoned, {"x": x})["y"], outputs(plain, {"x": x})["y"], EXACT)


@pytest.mark.parametrize("length", [1, 3])
def test_attention_over_the_last_outputs_of_a_stack(length: int) -> None:
    """As around a SequentialCell, whose weights and states are the same."""
    got = []
    for make in (StackedCells, SequentialCell):
        layer = RNN(AttentionCell(make(cells()), length), return_sequences=True)
        randomize(layer)
        assert layer.weights["output_kernel"].shape == (6, 3)
        got.append(outputs(layer, {"x": x})["y"])
    assert got[0].shape == (B, T, 3)
    assert np.abs(got[0]).max() > 0
    close(got[0], got[1], EXACT)


def test_attention_over_a_memory_of_a_stack() -> None:
    given, memory = Input(("batch", "time", I)), Input(("batch", 4, 6), name="memory")
    layer = RNN(BahdanauAttentionCell(StackedCells(cells()), 4, memory_size=6, attention_layer_size=8))
    graph = trace(Model([given, memory], layer(given, constants=memory)))
    assert graph.outputs[0].shape == ("batch", 8)
    assert layer.weights["query_kernel"].shape == (3, 4)
