"""ONNX models made in tests, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from rnngraph.ir import Array

_TYPES = {"f32": TensorProto.FLOAT, "i64": TensorProto.INT64, "i32": TensorProto.INT32, "bool": TensorProto.BOOL,
          "f64": TensorProto.DOUBLE, "u8": TensorProto.UINT8, "i8": TensorProto.INT8}


def info(name: str, shape: Sequence[int | str | None], dtype: str = "f32") -> Any:
    """An input or output."""
    return helper.make_tensor_value_info(name, _TYPES[dtype], list(shape))


def model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any],
          initializers: Mapping[str, Array] | None = None, opset: int = 17) -> onnx.ModelProto:
    """A checked model of one graph. An output is a name (then its type is left to inference) or an info."""
    tensors = [numpy_helper.from_array(a, n) for n, a in (initializers or {}).items()]
    outs = [o if not isinstance(o, str) else onnx.ValueInfoProto(name=o) for o in outputs]
    graph = helper.make_graph(list(nodes), "test", list(inputs), outs, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def runtime(made: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """The outputs by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(o) for o in session.run(None, dict(inputs))]
