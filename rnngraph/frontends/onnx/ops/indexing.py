"""Ops that read and write where integers say."""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.known import Known, as_dims, as_ints
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.ir import I64, Dim
from rnngraph.ir.induction import Affine, affine
from rnngraph.ir.ops import ConstAttrs
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


@handler("Gather")
def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    return ops.take(x, indices, axis_of(node, node.attr("axis", 0), x.rank))


@handler("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    return ops.gather_elements(x, indices, axis_of(node, node.attr("axis", 0), x.rank))


@handler("GatherND")
def gather_nd(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    return ops.gather_nd(x, indices, node.attr("batch_dims", 0))


@handler("ScatterElements", "Scatter")
def scatter_elements(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis = axis_of(node, node.attr("axis", 0), x.rank)
    return ops.scatter_elements(x, indices, updates, axis, node.attr("reduction", "none"))


@handler("ScatterND")
def scatter_nd(node: Node, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    return ops.scatter_nd(x, indices, updates, node.attr("reduction", "none"))


@handler("OneHot", known=(1,))
def one_hot(node: Node, indices: Tensor, depth: Known, values: Tensor) -> Tensor:
    """``values`` is [off, on]; an index that is out of range has off everywhere."""
    whole = depth if depth.symbolic else Known(depth.array.astype(np.int64))  # it may be a float
    (size,) = as_dims(whole, str(node))
    if (isinstance(size, int) and size < 1) or values.shape != (2,):
        raise ImportModelError(f"{node}: expected a depth above 0 and values [off, on], got {size} and {values.type}")
    axis = axis_of(node, node.attr("axis", -1), indices.rank + 1)
    at = ops.cast(indices, I64)
    at = ops.where(at < 0, at + (ops.size_of(size, I64) if isinstance(size, str) else size), at)
    wide = ops.reshape(at, (*at.shape[:axis], 1, *at.shape[axis:]))
    places = ops.reshape(ops.arange(size, I64), (size, *[1] * (indices.rank - axis)))
    b = active().builder
    off, on = (wrap(b.reshape(b.slice(values.value(), 0, i, 1), ())) for i in range(2))
    return ops.where(ops.equal(wide, places), on, off)


@handler("ReverseSequence")
def reverse_sequence(node: Node, x: Tensor, lengths: Tensor) -> Tensor:
    time, batch = (axis_of(node, node.attr(name, at), x.rank) for name, at in (("time_axis", 0), ("batch_axis", 1)))
    if time == batch:
        raise ImportModelError(f"{node}: time_axis and batch_axis are both {time}")
    if _is_everywhere(lengths, x.shape[time]):
        return ops.reverse(x, time)
    return ops.reverse_sequence(x, lengths, time, batch)


def _is_everywhere(lengths: Tensor, size: Dim) -> bool:
    """Whether each number of a vector shows that it is ``size``: tf2onnx writes a plain reversal with lengths."""
    value = lengths.value()
    while value.op is not None and value.op.name in ("broadcast", "reshape", "cast") and value.shape != ():
        value = value.op.operands[0]
    if value.op is not None and isinstance(value.op.attrs, ConstAttrs):
        return bool((value.op.attrs.value.array == size).all()) if isinstance(size, int) else False
    return affine(value, {}) == Affine(size)


@handler("Trilu", known=(1,))
def trilu(node: Node, x: Tensor, k: Known | None = None) -> Tensor:
    (diagonal,) = (0,) if k is None else as_ints(k, str(node))
    return ops.trilu(x, diagonal, upper=bool(node.attr("upper", 1)))
