"""Stacked cells inside wrappers that ask how wide their cell's output is."""

from __future__ import annotations

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
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


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("stacked", [False, True])
def test_zoneout_of_the_output_of_an_image_cell(layout: str, stacked: bool) -> None:
    """The output before is an image in the cell's own layout; outside of training the numbers are the plain cell's."""
    shape = (2, 6, 5) if layout == "channels_first" else (6, 5, 2)
    cell = nn.ConvLSTMCell(2, 4, 3, padding="same", data_format=layout, input_shape=shape)
    inner = nn.StackedCells([cell]) if stacked else nn.ResidualCell(cell, lambda x, y: y)
    x = np.random.default_rng(0).standard_normal((2, 3, *shape)).astype(np.float32)
    given = rg.Input(("batch", "time", *shape))
    zoned = nn.RNN(nn.ZoneoutCell(inner, zoneout_outputs=0.2), return_sequences=True)
    got = np.asarray(rg.compile(zoned, given)(x))
    plain = nn.RNN(nn.ConvLSTMCell(2, 4, 3, padding="same", data_format=layout), return_sequences=True)
    plain.build((None, None, *shape))
    plain.set_weights(list(zoned.weights.values()))
    np.testing.assert_allclose(got, np.asarray(rg.compile(plain, given)(x)), rtol=0, atol=1e-6)
    assert rg.trace(zoned, given, training=True).outputs[0].shape == ("batch", "time", *got.shape[2:])
