"""Layers and cells around other layers and cells, one a file."""

from __future__ import annotations

from rnngraph.nn.wrappers.attention import AttentionCell, BahdanauAttentionCell
from rnngraph.nn.wrappers.base import CellWrapper
from rnngraph.nn.wrappers.bidirectional import Bidirectional
from rnngraph.nn.wrappers.bidirectional_cell import BidirectionalCell
from rnngraph.nn.wrappers.device import DeviceLayer, DeviceWrapper
from rnngraph.nn.wrappers.dropconnect import DropConnectCell
from rnngraph.nn.wrappers.dropout import DropoutCell, DropoutWrapper, VariationalDropoutCell
from rnngraph.nn.wrappers.highway import HighwayCell
from rnngraph.nn.wrappers.residual import ResidualCell
from rnngraph.nn.wrappers.sequential import SequentialCell
from rnngraph.nn.wrappers.time_distributed import TimeDistributed
from rnngraph.nn.wrappers.zoneout import ZoneoutCell

__all__ = [
    "AttentionCell", "BahdanauAttentionCell", "Bidirectional", "BidirectionalCell", "CellWrapper",
    "DeviceLayer", "DeviceWrapper", "DropConnectCell", "DropoutCell", "DropoutWrapper", "HighwayCell",
    "ResidualCell", "SequentialCell", "TimeDistributed", "VariationalDropoutCell", "ZoneoutCell",
]
