"""Model definitions: layers, cells, and `trace`, which turns them into IR."""

from __future__ import annotations

from rnngraph.nn import activations, cells, initializers, ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells import GRUCell, LSTMCell, LSTMPCell, SimpleRNNCell, StackedCells
from rnngraph.nn.core_layers import Activation, Dense, Dropout, Embedding, LayerNormalization, Masking
from rnngraph.nn.layer import Layer
from rnngraph.nn.model import Model, Sequential
from rnngraph.nn.recurrent import GRU, LSTM, RNN, SimpleRNN
from rnngraph.nn.scan import scan
from rnngraph.nn.symbol import Input
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.trace import trace
from rnngraph.nn.wrappers import (
    Bidirectional,
    BidirectionalCell,
    CellWrapper,
    DropoutCell,
    DropoutWrapper,
    HighwayCell,
    ResidualCell,
    SequentialCell,
    VariationalDropoutCell,
    ZoneoutCell,
)

__all__ = [
    "GRU", "LSTM", "RNN", "Activation", "Bidirectional", "BidirectionalCell", "Cell", "CellWrapper", "Dense",
    "Dropout", "DropoutCell", "DropoutWrapper", "Embedding", "GRUCell", "HighwayCell", "Input", "LSTMCell",
    "LSTMPCell", "Layer", "LayerNormalization", "Masking", "Model", "ResidualCell", "Sequential",
    "SequentialCell", "SimpleRNN", "SimpleRNNCell", "StackedCells", "Tensor", "VariationalDropoutCell",
    "ZoneoutCell", "activations", "cells", "initializers", "ops", "scan", "trace",
]
