"""Reading and writing where integers say; part of `rnngraph.nn.ops`.

Indices count from the end where they are negative; one out of range is an InputError of the call.
"""

from __future__ import annotations

import numpy as np

from rnngraph.errors import TraceError
from rnngraph.ir import I64, Dim, Shape, Value, dims, index_ops
from rnngraph.ir import ops as ir_ops
from rnngraph.ir.ops import AxisAttrs
from rnngraph.ir.size_ops import IOTA, IotaAttrs
from rnngraph.nn.context import active
from rnngraph.nn.numeric import axis_of
from rnngraph.nn.tensor import Tensor, composable, value_of, wrap


def places(size: Dim) -> Value:
    """i64[size]: 0, 1, ... in the active trace."""
    b = active().builder
    if isinstance(size, int):
        return b.const(np.arange(size, dtype=np.int64), hint="places")
    return b.op(IOTA, attrs=IotaAttrs(size, I64), hint="places")


@composable
def take(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """The slices of x along ``axis`` that ``indices`` name: numpy's take, ONNX's Gather, an embedding for axis 0.

    >>> from rnngraph.nn import Input, ops
    >>> ops.take(Input(("batch", 7, 3)), Input((2, 5), dtype="i64", name="i"), axis=1).shape
    ('batch', 2, 5, 3)
    """
    attrs = AxisAttrs(axis_of("take", x, axis))
    return wrap(active().builder.op(index_ops.TAKE, value_of(x), indices.value(), attrs=attrs))


@composable
def gather_elements(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """For every index, the element of x that stands at that index along ``axis`` and else where the index stands.

    numpy's take_along_axis, PyTorch's gather. The result has the shape of the indices.
    """
    attrs = AxisAttrs(axis_of("gather_elements", x, axis))
    return wrap(active().builder.op(index_ops.GATHER_ELEMENTS, value_of(x), indices.value(), attrs=attrs))


@composable
def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    """The slices of x whose places are the rows of ``indices``: x[*B, *N], indices[*B, *I, n] -> [*B, *I, *N[n:]].

    TensorFlow's gather_nd and ONNX's GatherND; the first ``batch_dims`` axes of both belong together.
    """
    attrs = index_ops.GatherNdAttrs(batch_dims)
    return wrap(active().builder.op(index_ops.GATHER_ND, value_of(x), indices.value(), attrs=attrs))


@composable
def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, reduction: str = "none") -> Tensor:
    """x with ``updates`` written where `gather_elements` would read.

    reduction  "none" (an update replaces the element; of several the last one stays), "add", "mul", "max", "min"
    """
    attrs = index_ops.ScatterAttrs(axis_of("scatter_elements", x, axis), reduction)
    operands = (value_of(x), indices.value(), value_of(updates))
    return wrap(active().builder.op(index_ops.SCATTER_ELEMENTS, *operands, attrs=attrs))


@composable
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str = "none") -> Tensor:
    """x with ``updates`` written where `gather_nd` would read; ``reduction`` as in `scatter_elements`."""
    operands = (value_of(x), indices.value(), value_of(updates))
    return wrap(active().builder.op(index_ops.SCATTER_ND, *operands, attrs=index_ops.ScatterNdAttrs(reduction)))


@composable
def reverse_sequence(x: Tensor, lengths: Tensor, time_axis: int = 1, batch_axis: int = 0) -> Tensor:
    """The first ``lengths`` steps of each row in reverse order, the others where they were (TensorFlow, ONNX)."""
    time, batch = axis_of("reverse_sequence", x, time_axis), axis_of("reverse_sequence", x, batch_axis)
    rest = [i for i in range(x.rank) if i not in (time, batch)]
    order = [batch, time, *rest]
    b = active().builder
    rows, steps = x.shape[batch], x.shape[time]
    n = b.broadcast(b.cast(lengths.value(), I64), (rows, steps), (0,))
    t = b.broadcast(places(steps), (rows, steps), (1,))
    mirrored = b.sub(b.sub(n, t), 1)
    index = b.op(ir_ops.SELECT, b.op(ir_ops.LT, t, n), mirrored, t)
    attrs = index_ops.GatherNdAttrs(1)
    out = b.op(index_ops.GATHER_ND, b.transpose(x.value(), order), b.reshape(index, (rows, steps, 1)), attrs=attrs)
    return wrap(b.transpose(out, [order.index(i) for i in range(x.rank)]))


@composable
def trilu(x: Tensor, k: int | Tensor = 0, *, upper: bool = True) -> Tensor:
    """The upper (or lower) triangle of matrices x[..., M, N], zero elsewhere; ``k``: the diagonal it ends at.

    numpy's triu and tril. ``k`` may be an integer tensor without dims.
    """
    if x.rank < 2:
        raise TraceError(f"trilu: expected matrices, got {x.type}")
    b, matrix = active().builder, x.shape[-2:]
    distance = b.sub(b.broadcast(places(matrix[1]), matrix, (1,)), b.broadcast(places(matrix[0]), matrix, (0,)))
    bound = b.cast(b.reshape(k.value(), ()), I64) if isinstance(k, Tensor) else k
    keep = b.elementwise(ir_ops.GE if upper else ir_ops.LE, distance, bound)
    return wrap(b.op(ir_ops.SELECT, b.expand(keep, x.shape), x.value(), b.zeros(x.type)))


# --- repetition -----------------------------------------------------------------------------------------------


@composable
def expand(x: Tensor, shape: Shape) -> Tensor:
    """x repeated to ``shape`` by numpy's broadcasting: dims of size 1 repeat, dims in front are added."""
    return wrap(active().builder.expand(x.value(), tuple(shape)))


@composable
def tile(x: Tensor, repeats: tuple[Dim, ...]) -> Tensor:
    """x beside itself, ``repeats`` times along each axis (numpy's tile).

    >>> from rnngraph.nn import Input, ops
    >>> ops.tile(Input(("batch", 3)), (2, 4)).shape
    ('2*batch', 12)
    """
    if len(repeats) != x.rank:
        raise TraceError(f"tile: expected {x.rank} numbers for {x.type}, got {list(repeats)}")
    b, out = active().builder, x.value()
    for axis, n in enumerate(repeats):
        if n != 1:
            front, size, behind = out.shape[:axis], out.shape[axis], out.shape[axis + 1 :]
            kept = (*range(axis), *range(axis + 1, x.rank + 1))
            out = b.reshape(b.broadcast(out, (*front, n, size, *behind), kept), (*front, dims.mul(n, size), *behind))
    return wrap(out)


__all__ = [
    "expand", "gather_elements", "gather_nd", "places", "reverse_sequence", "scatter_elements", "scatter_nd", "take",
    "tile", "trilu",
]
