"""Ops that make values, casts, and sizes as values. A size of 0 in a shape is to be inferred (MXNet 1.x)."""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.mxnet.ops.layers import dtype_attr
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.frontends.mxnet.walker import walker
from rnngraph.ir import dims
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap

MAX_ARANGE = 2**24


@handler("_zeros", "_ones", "_full", "_npi_zeros", "_npi_ones", "_npi_full", "zeros", "ones")
def full(node: Node) -> Tensor:
    value = 0.0 if node.op.endswith("zeros") else 1.0 if node.op.endswith("ones") else node.attrs.number(
        "fill_value" if node.attrs.given("fill_value") else "value")
    dtype = dtype_attr(node)
    shape = walker().shape(node, node.attrs.ints("shape", ()))
    return wrap(active().builder.full(value if dtype.is_float else int(value), shape, dtype))


@handler("_zeros_like", "zeros_like")
def zeros_like(node: Node, x: Tensor) -> Tensor:
    return ops.zeros_like(x)


@handler("_ones_like", "ones_like")
def ones_like(node: Node, x: Tensor) -> Tensor:
    return ops.ones_like(x)


@handler("Cast", "cast", "amp_cast")
def cast(node: Node, x: Tensor) -> Tensor:
    """To another dtype; floats become integers towards 0."""
    return ops.cast(x, dtype_attr(node))


@handler("_arange")
def arange(node: Node) -> Tensor:
    if node.attrs.flag("infer_range"):
        raise ImportModelError(f"{node}: infer_range is not supported")
    start, step = node.attrs.number("start", 0.0), node.attrs.number("step", 1.0)
    repeat = node.attrs.integer("repeat", 1)
    stop = node.attrs.number("stop") if node.attrs.given("stop") else None
    first, last = (0.0, start) if stop is None else (start, stop)
    if not step or not 0 <= (last - first) / step * repeat <= MAX_ARANGE or repeat < 1:
        raise ImportModelError(f"{node}: from {first} to {last} by {step} is no range")
    dtype = dtype_attr(node)
    return wrap(active().builder.const(np.repeat(np.arange(first, last, step), repeat).astype(dtype.numpy), dtype))


@handler("_contrib_arange_like")
def arange_like(node: Node, x: Tensor) -> Tensor:
    """0, 1, ... as many as x has elements, or along an axis."""
    if node.attrs.integer("repeat", 1) != 1:
        raise ImportModelError(f"{node}: repeat is not supported")
    shape = x.shape
    if node.attrs.given("axis"):
        shape = (x.shape[axis_of(node, node.attrs.integer("axis"), x.rank)],)
    numbers = ops.arange(dims.mul(*shape), "f32") * node.attrs.number("step", 1.0) + node.attrs.number("start", 0.0)
    return ops.reshape(numbers, shape)


@handler("shape_array", "size_array")
def shape_array(node: Node, x: Tensor) -> Tensor:
    sizes = x.shape if node.op == "shape_array" else (dims.mul(*x.shape),)
    return ops.concat([ops.reshape(ops.size_of(d, "i64"), (1,)) for d in sizes], 0)
