"""Model definitions: layers, cells, and `trace`, which turns them into IR."""

from __future__ import annotations

from rnngraph.nn import activations, cells, initializers, ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells import GRUCell, LSTMCell, LSTMPCell, SimpleRNNCell, StackedCells
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
from rnngraph.nn.conv_recurrent import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
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
    "GRU", "LSTM", "RNN", "Activation", "Bidirectional", "BidirectionalCell", "Cell", "CellWrapper",
    "ContribConvLSTMCell", "ConvGRUCell", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "ConvLSTMCell", "ConvRNNCell",
    "Dense", "Dropout", "DropoutCell", "DropoutWrapper", "Embedding", "GRUCell", "GluonConvGRUCell",
    "GluonConvLSTMCell", "GluonConvRNNCell", "HighwayCell", "Input", "LSTMCell", "LSTMPCell", "Layer",
    "LayerNormalization", "MXNetConvGRUCell", "MXNetConvLSTMCell", "MXNetConvRNNCell", "Masking", "Model",
    "ResidualCell", "Sequential", "SequentialCell", "SimpleRNN", "SimpleRNNCell", "StackedCells", "Tensor",
    "VariationalDropoutCell", "ZoneoutCell", "activations", "cells", "initializers", "ops", "scan", "trace",
]
