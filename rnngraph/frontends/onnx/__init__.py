"""ONNX models: `from_onnx` makes a layer of a file or of an onnx.ModelProto, as `load` does for `rnngraph.compile`."""

from __future__ import annotations

from rnngraph.frontends.onnx.layer import OnnxModel, from_onnx, load

__all__ = ["OnnxModel", "from_onnx", "load"]
