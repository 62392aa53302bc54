"""MXNet models: `from_mxnet` makes a layer of a symbol.json and its .params. MXNet itself is not needed."""

from __future__ import annotations

from rnngraph.frontends.mxnet.checkpoint import RNNCheckpoint, load_rnn_checkpoint, save_rnn_checkpoint
from rnngraph.frontends.mxnet.layer import MxnetModel, from_mxnet, load

__all__ = ["MxnetModel", "RNNCheckpoint", "from_mxnet", "load", "load_rnn_checkpoint", "save_rnn_checkpoint"]
