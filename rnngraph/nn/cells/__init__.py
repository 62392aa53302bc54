"""The built-in cells, one family a file."""

from __future__ import annotations

from rnngraph.nn.cells.conv import ConvGRUCell, ConvLSTMCell, ConvRNNCell
from rnngraph.nn.cells.conv_foreign import (
    ContribConvLSTMCell,
    GluonConvGRUCell,
    GluonConvLSTMCell,
    GluonConvRNNCell,
    MXNetConvGRUCell,
    MXNetConvLSTMCell,
    MXNetConvRNNCell,
)
from rnngraph.nn.cells.gru import GRUCell
from rnngraph.nn.cells.lstm import LSTMCell, LSTMPCell
from rnngraph.nn.cells.simple_rnn import SimpleRNNCell
from rnngraph.nn.cells.stacked import StackedCells

__all__ = [
    "ContribConvLSTMCell",
    "ConvGRUCell",
    "ConvLSTMCell",
    "ConvRNNCell",
    "GRUCell",
    "GluonConvGRUCell",
    "GluonConvLSTMCell",
    "GluonConvRNNCell",
    "LSTMCell",
    "LSTMPCell",
    "MXNetConvGRUCell",
    "MXNetConvLSTMCell",
    "MXNetConvRNNCell",
    "SimpleRNNCell",
    "StackedCells",
]
