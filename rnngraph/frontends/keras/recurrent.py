"""Recurrent layers and their wrappers: Keras's configuration -> ours."""

from __future__ import annotations

from collections.abc import Callable

from rnngraph import nn
from rnngraph.frontends.keras.activations import activation
from rnngraph.frontends.keras.config import Config
from rnngraph.frontends.keras.names import Counter, identifier, snake_case
from rnngraph.frontends.keras.variables import Made, Variables, from_cudnn, inside
from rnngraph.nn import Cell
from rnngraph.nn.recurrent import RNN, SequenceOptions

WEIGHTS = ("kernel", "recurrent_kernel", "bias")


def _targets(c: Config) -> tuple[str, ...]:
    return WEIGHTS if c.flag("use_bias", True) else WEIGHTS[:2]


def lstm_cell(c: Config) -> tuple[Cell, tuple[Variables, ...]]:
    cudnn = c.class_name == "CuDNNLSTM"
    cell = nn.LSTMCell(c.whole("units"), activation(c, default="tanh"),
                       activation(c, "recurrent_activation", "sigmoid" if c.keras >= 3 or cudnn else "hard_sigmoid"),
                       c.flag("use_bias", True), dropout=c.number("dropout", 0.0),
                       recurrent_dropout=c.number("recurrent_dropout", 0.0))
    return cell, (Variables("", _targets(c), conversion=from_cudnn),)


def gru_cell(c: Config) -> tuple[Cell, tuple[Variables, ...]]:
    cudnn = c.class_name == "CuDNNGRU"
    units = c.whole("units")
    after = c.flag("reset_after") if c.has("reset_after") else cudnn or _has_two_biases(c, units)
    cell = nn.GRUCell(units, activation(c, default="tanh"),
                      activation(c, "recurrent_activation", "sigmoid" if c.keras >= 3 or cudnn else "hard_sigmoid"),
                      c.flag("use_bias", True), dropout=c.number("dropout", 0.0),
                      recurrent_dropout=c.number("recurrent_dropout", 0.0), reset_after=after)
    c.get("reset_after", None)
    return cell, (Variables("", _targets(c), conversion=from_cudnn),)


def _has_two_biases(c: Config, units: int) -> bool:
    """Whether a GRU that does not say so, as of Keras before 2.1.5, has its reset gate behind the matmul."""
    return any(shape in ((2, 3 * units), (6 * units,)) for shape in c.stored[2::3])


def simple_cell(c: Config) -> tuple[Cell, tuple[Variables, ...]]:
    cell = nn.SimpleRNNCell(c.whole("units"), activation(c, default="tanh"), c.flag("use_bias", True),
                            dropout=c.number("dropout", 0.0), recurrent_dropout=c.number("recurrent_dropout", 0.0))
    return cell, (Variables("", _targets(c)),)


def conv_lstm_cell(c: Config) -> tuple[Cell, tuple[Variables, ...]]:
    rank = int(c.class_name.removesuffix("D")[-1])
    cell = nn.ConvLSTMCell(
        rank, c.whole("filters"), c.sizes("kernel_size", rank), c.sizes("strides", rank, 1),
        c.choice("padding", ("valid", "same"), "valid"), "channels_last" if c.channels_last() else "channels_first",
        c.sizes("dilation_rate", rank, 1), activation(c, default="tanh"),
        activation(c, "recurrent_activation", "sigmoid" if c.keras >= 3 else "hard_sigmoid"), c.flag("use_bias", True),
        dropout=c.number("dropout", 0.0), recurrent_dropout=c.number("recurrent_dropout", 0.0))
    return cell, (Variables("", _targets(c)),)


def stacked_cells(c: Config) -> tuple[Cell, tuple[Variables, ...]]:
    if c.get("reverse_state_order", False):
        raise c.fail("reverse_state_order is not supported")
    entries = c.get("cells")
    if not isinstance(entries, list) or not entries:
        raise c.fail("its cells are no list")
    cells: list[Cell] = []
    found: list[Variables] = []
    count = Counter()
    for i, entry in enumerate(entries):
        one = c.inner(entry)
        cell, variables = cell_of(one)
        one.done()
        cells.append(cell)
        found += inside(variables, f"cells/{count.name(snake_case(one.class_name))}", f"cell{i}")
    return nn.StackedCells(cells), tuple(found)


CELLS: dict[str, Callable[[Config], tuple[Cell, tuple[Variables, ...]]]] = {
    "LSTMCell": lstm_cell, "GRUCell": gru_cell, "SimpleRNNCell": simple_cell, "StackedRNNCells": stacked_cells}


def cell_of(c: Config) -> tuple[Cell, tuple[Variables, ...]]:
    if c.class_name not in CELLS:
        raise c.fail(f"a cell of this class is not known; known are {', '.join(CELLS)}")
    return CELLS[c.class_name](c)


def options(c: Config) -> SequenceOptions:
    """The arguments that all recurrent layers share."""
    if c.whole("num_constants", 0, 0):
        raise c.fail("constants of a cell are not supported")
    return {"return_sequences": c.flag("return_sequences", False), "return_state": c.flag("return_state", False),
            "go_backwards": c.flag("go_backwards", False), "stateful": c.flag("stateful", False),
            "zero_output_for_mask": c.flag("zero_output_for_mask", False), "time_major": c.flag("time_major", False),
            "name": identifier(c.name)}


def layer_with(c: Config, cell: Cell, variables: tuple[Variables, ...]) -> Made:
    """The recurrent layer around a cell."""
    c.get("unroll", False)  # straight-line code computes the same
    layer = RNN(cell, **options(c))
    return Made(layer, inside(variables, "cell", ""))


def recurrent(make: Callable[[Config], tuple[Cell, tuple[Variables, ...]]]) -> Callable[[Config], Made]:
    return lambda c: layer_with(c, *make(c))


def rnn(c: Config) -> Made:
    entry = c.get("cell")
    one = c.inner({"class_name": "StackedRNNCells", "config": {"cells": entry}} if isinstance(entry, list) else entry)
    cell, variables = cell_of(one)
    one.done()
    return layer_with(c, cell, variables)


def bidirectional(c: Config, make: Callable[[Config], Made]) -> Made:
    """``make`` makes the layers within."""
    half = len(c.stored) // 2
    forward = c.inner(c.get("layer"))
    forward.stored = c.stored[:half]
    first = _recurrent(forward, make)
    mode = c.get("merge_mode", None)
    if c.has("backward_layer"):
        backward = c.inner(c.get("backward_layer"))
    else:
        values = {**forward.values, "go_backwards": not forward.values.get("go_backwards", False)}
        backward = c.inner({**forward.entry, "config": values})
    backward.stored = c.stored[half:]
    second = _recurrent(backward, make)
    c.get("backward_layer", None)
    assert isinstance(first.layer, RNN)
    assert isinstance(second.layer, RNN)
    first.layer.name = second.layer.name = None
    layer = nn.Bidirectional(first.layer, mode, second.layer, name=identifier(c.name))
    return Made(layer, (*inside(first.variables or (), "forward_layer", "forward"),
                        *inside(second.variables or (), "backward_layer", "backward")))


def _recurrent(c: Config, make: Callable[[Config], Made]) -> Made:
    made = make(c)
    if not isinstance(made.layer, RNN):
        raise c.fail("expected a recurrent layer in a Bidirectional")
    return made


MAKERS: dict[str, Callable[[Config], Made]] = {
    "LSTM": recurrent(lstm_cell), "CuDNNLSTM": recurrent(lstm_cell), "GRU": recurrent(gru_cell),
    "CuDNNGRU": recurrent(gru_cell), "SimpleRNN": recurrent(simple_cell), "RNN": rnn,
    "ConvLSTM1D": recurrent(conv_lstm_cell), "ConvLSTM2D": recurrent(conv_lstm_cell),
    "ConvLSTM3D": recurrent(conv_lstm_cell)}
