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
from rnngraph.nn.cells.coupled import CoupledInputForgetGateLSTMCell
from rnngraph.nn.cells.echo_state import EchoStateCell, ESNCell
from rnngraph.nn.cells.grid import BidirectionalGridLSTMCell, GridLSTMCell
from rnngraph.nn.cells.group import GLSTMCell
from rnngraph.nn.cells.gru import GRUCell
from rnngraph.nn.cells.independent import IndRNNCell, IndyGRUCell, IndyLSTMCell
from rnngraph.nn.cells.intersection import IntersectionRNNCell
from rnngraph.nn.cells.layer_norm import LayerNormGRUCell, LayerNormLSTMCell, LayerNormSimpleRNNCell
from rnngraph.nn.cells.lstm import LSTMCell, LSTMPCell
from rnngraph.nn.cells.minimal import CFNCell, MGUCell, MinimalGatedUnitCell, MinimalRNNCell
from rnngraph.nn.cells.nas import NASCell
from rnngraph.nn.cells.phased import PhasedLSTMCell
from rnngraph.nn.cells.simple_rnn import SimpleRNNCell
from rnngraph.nn.cells.sru import SRUCell, SRUv2Cell
from rnngraph.nn.cells.stacked import StackedCells
from rnngraph.nn.cells.time_frequency import TimeFreqLSTMCell
from rnngraph.nn.cells.ugrnn import UGRNNCell
from rnngraph.nn.cells.weight_norm import WeightNormLSTMCell

__all__ = [
    "BidirectionalGridLSTMCell", "CFNCell", "ContribConvLSTMCell", "ConvGRUCell", "ConvLSTMCell", "ConvRNNCell",
    "CoupledInputForgetGateLSTMCell", "ESNCell", "EchoStateCell", "GLSTMCell", "GRUCell", "GluonConvGRUCell",
    "GluonConvLSTMCell", "GluonConvRNNCell", "GridLSTMCell", "IndRNNCell", "IndyGRUCell", "IndyLSTMCell",
    "IntersectionRNNCell", "LSTMCell", "LSTMPCell", "LayerNormGRUCell", "LayerNormLSTMCell",
    "LayerNormSimpleRNNCell", "MGUCell", "MXNetConvGRUCell", "MXNetConvLSTMCell", "MXNetConvRNNCell",
    "MinimalGatedUnitCell", "MinimalRNNCell", "NASCell", "PhasedLSTMCell", "SRUCell", "SRUv2Cell",
    "SimpleRNNCell", "StackedCells", "TimeFreqLSTMCell", "UGRNNCell", "WeightNormLSTMCell",
]
