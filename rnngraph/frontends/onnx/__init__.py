"""ONNX models: `load` makes a layer of a file or of an onnx.ModelProto."""

from __future__ import annotations

from rnngraph.frontends.onnx.layer import OnnxModel, load

__all__ = ["OnnxModel", "load"]
