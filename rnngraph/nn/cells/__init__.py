"""The built-in cells, one family a file."""

from __future__ import annotations

from rnngraph.nn.cells.basic import GRUCell, LSTMCell, SimpleRNNCell
from rnngraph.nn.cells.stacked import StackedCells

__all__ = ["GRUCell", "LSTMCell", "SimpleRNNCell", "StackedCells"]
