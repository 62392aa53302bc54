"""The built-in cells, one family a file."""

from __future__ import annotations

from rnngraph.nn.cells.gru import GRUCell
from rnngraph.nn.cells.lstm import LSTMCell, LSTMPCell
from rnngraph.nn.cells.simple_rnn import SimpleRNNCell
from rnngraph.nn.cells.stacked import StackedCells

__all__ = ["GRUCell", "LSTMCell", "LSTMPCell", "SimpleRNNCell", "StackedCells"]
