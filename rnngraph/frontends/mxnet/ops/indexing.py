"""Reading where indices say. Indices may be floats, and are held within the axis (mode clip) or wrapped around it."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.mxnet.ops.layers import clipped, dtype_attr
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.ir import Dim
from rnngraph.ir import ops as ir_ops
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap

MAX_DEPTH = 2**24  # of one_hot


def placed(node: Node, index: Tensor, size: Dim) -> Tensor:
    """The index as i32 in 0..size-1, by the node's mode."""
    mode = node.attrs.choice("mode", "clip", ("clip", "wrap", "raise"))
    if mode == "clip":
        return clipped(index, size)
    whole = ops.cast(index, "i32")
    if mode == "raise":
        return whole
    n = ops.cast(ops.size_of(size), "i32") if isinstance(size, str) else size
    return ops.mod(whole, n)


@handler("take", "_npi_take")
def take(node: Node, x: Tensor, index: Tensor) -> Tensor:
    axis = axis_of(node, node.attrs.integer("axis", 0), x.rank)
    rows = placed(node, index, x.shape[axis])
    if axis == 0:
        return wrap(active().builder.op(ir_ops.GATHER, x.value(), rows.value()))
    return ops.take(x, rows, axis)


@handler("batch_take")
def batch_take(node: Node, x: Tensor, index: Tensor) -> Tensor:
    return _picked(x, clipped(index, x.shape[1]), 1)


@handler("pick", "choose_element_0index")
def pick(node: Node, x: Tensor, index: Tensor) -> Tensor:
    """One element along an axis for each index, which has x's shape without the axis, or with 1 there."""
    axis = axis_of(node, node.attrs.integer("axis", -1), x.rank)
    if index.rank == x.rank:
        index = ops.reshape(index, (*x.shape[:axis], *x.shape[axis + 1 :]))
    out = _picked(x, placed(node, index, x.shape[axis]), axis)
    return ops.reshape(out, (*x.shape[:axis], 1, *x.shape[axis + 1 :])) if node.attrs.flag("keepdims") else out


def _picked(x: Tensor, index: Tensor, axis: int) -> Tensor:
    wide = ops.reshape(index, (*index.shape[:axis], 1, *index.shape[axis:]))
    return ops.reshape(ops.gather_elements(x, wide, axis), index.shape)


@handler("one_hot")
def one_hot(node: Node, index: Tensor) -> Tensor:
    """``on_value`` at the index, ``off_value`` elsewhere, and for an index outside of the depth."""
    depth = node.attrs.integer("depth")
    if not 1 <= depth <= MAX_DEPTH:
        raise ImportModelError(f"{node}: expected a depth in 1..{MAX_DEPTH}, got {depth}")
    out = ops.one_hot(index, depth)
    on, off = node.attrs.number("on_value", 1.0), node.attrs.number("off_value", 0.0)
    scaled = out if (on, off) == (1.0, 0.0) else out * (on - off) + off
    return ops.cast(scaled, dtype_attr(node))


@handler("gather_nd")
def gather_nd(node: Node, x: Tensor, index: Tensor) -> Tensor:
    """The first axis of the index says along which axes of x."""
    order = (*range(1, index.rank), 0)
    return ops.gather_nd(x, ops.cast(ops.transpose(index, order), "i64"))


@handler("Crop")
def crop(node: Node, *xs: Tensor) -> Tensor:
    raise ImportModelError(f"{node}: is not supported; use slice or slice_like")
