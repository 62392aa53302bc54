"""IR graphs as ONNX models: `to_model` makes an onnx.ModelProto. The op table is in `ops`."""

from __future__ import annotations

from rnngraph.frontends.to_onnx.model import NEWEST_OPSET, OLDEST_OPSET, to_model

__all__ = ["NEWEST_OPSET", "OLDEST_OPSET", "to_model"]
