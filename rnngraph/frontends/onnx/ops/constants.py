"""Ops that make values: Constant, ConstantOfShape, Range, EyeLike."""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.known import Known, as_dims
from rnngraph.frontends.onnx.limits import bounded
from rnngraph.frontends.onnx.ops.arithmetic import dtype_of_code
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import Item, handler
from rnngraph.frontends.onnx.walker import walker
from rnngraph.ir import Dim, dims
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


@handler("Constant", raw=True)
def constant(node: Node) -> Known:
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64),
                        ("value_ints", np.int64)):
        if name in node.attributes:
            return Known(np.asarray(node.attributes[name], dtype))
    value = node.attributes.get("value", node.attributes.get("sparse_value"))
    if not isinstance(value, Known):
        raise ImportModelError(f"{node}: expected a tensor of numbers as its value")
    return value


@handler("Identity", raw=True)
def identity(node: Node, x: Item) -> Item:
    return x


@handler("ConstantOfShape", known=(0,))
def constant_of_shape(node: Node, shape: Known) -> Tensor:
    value = node.attributes.get("value", Known(np.zeros(1, np.float32)))
    if not isinstance(value, Known) or value.array.size != 1:
        raise ImportModelError(f"{node}: value must be a tensor of one element")
    sizes = as_dims(shape, str(node))
    if any(isinstance(d, int) and d < 0 for d in sizes):
        raise ImportModelError(f"{node}: expected sizes, got {list(sizes)}")
    b = active().builder
    return wrap(b.broadcast(b.const(value.array.reshape(()), value.dtype), bounded(node, sizes), ()))


@handler("Range", raw=True)
def range_(node: Node, start: Item, limit: Item, delta: Item) -> Tensor:
    """start, start + delta, ...: as many as fit below limit."""
    first, last, step = (walker().known(node, v) for v in (start, limit, delta))
    if first is None or last is None or step is None or {first.array.size, last.array.size, step.array.size} != {1}:
        raise ImportModelError(f"{node}: expected three scalars")
    if not any(k.symbolic for k in (first, last, step)):
        with np.errstate(all="ignore"):
            span = (last.array - first.array) / step.array if step.array else np.zeros(())
        if not np.isfinite(span).all() or float(np.max(span)) > 2**28:
            raise ImportModelError(f"{node}: from {first.array} to {last.array} by {step.array} is no range")
        begin_, end_, by_ = (k.array.reshape(-1)[0] for k in (first, last, step))
        return Known(np.arange(begin_, end_, by_, dtype=first.array.dtype)).tensor()
    begin, end, by = (_dim(k) for k in (first, last, step))
    if not isinstance(by, int) or by < 1:
        raise ImportModelError(f"{node}: expected a step above 0 with the size {end}, got {by}")
    count = dims.maximum(dims.ceildiv(dims.sub(end, begin), by), 0)
    dtype = next(k.integers for k in (last, first, step) if k.symbolic)
    places = ops.arange(count, dtype)
    if by != 1:
        places = places * by
    return places if begin == 0 else places + ops.size_of(begin, dtype) if isinstance(begin, str) else places + begin


def _dim(known: Known) -> Dim:
    value = known.array.reshape(-1)[0]
    return value if isinstance(value, str) else int(value)


@handler("EyeLike")
def eye_like(node: Node, x: Tensor) -> Tensor:
    if x.rank != 2 or not all(isinstance(d, int) for d in x.shape):
        raise ImportModelError(f"{node}: expected a matrix of integer sizes, got {x.type}")
    rows, columns = (int(d) for d in x.shape)
    if rows * columns > 2**24:
        raise ImportModelError(f"{node}: {x.type} is too large")
    dtype = dtype_of_code(node, node.attr("dtype", 0)) if "dtype" in node.attributes else x.dtype
    eye = np.eye(rows, columns, node.attr("k", 0), dtype=dtype.numpy)
    return wrap(active().builder.const(eye, dtype))
