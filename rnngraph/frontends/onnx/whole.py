"""Sums of products of 8-bit integers, exact in f32, whose products the backends compute natively.

f32 holds whole numbers up to 2^24. Where no sum of a product's terms can be larger, in whatever order they are added,
a product in f32 is exact; weights that are constants tell it. Else the inner axis is cut into parts of which it holds,
whose sums are added as i32. Wider integers, and sizes that are not known, are computed in f64.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np

from rnngraph.frontends import depends
from rnngraph.frontends.depends import constant_value
from rnngraph.frontends.onnx.ops.convolution import convolved
from rnngraph.frontends.onnx.ops.matrices import product
from rnngraph.frontends.onnx.proto import Node
from rnngraph.ir import F32, F64, Dim, DType
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

LARGEST = 2**24
MOST = 255  # of an 8-bit integer less its zero point


def whole_product(node: Node, a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None) -> Tensor:
    """(A - a_zero) (B - b_zero) as i32. A vector of zero points has one for each row of A, or each column of B."""
    wide = _wide(a, b)
    left, right = _shifted(a, a_zero, wide, row=True), _shifted(b, b_zero, wide, row=False)
    axis = max(right.rank - 2, 0)
    sizes = _parts(right, axis, (), wide)
    if sizes is None:
        return ops.cast(product(node, ops.cast(left, F64), ops.cast(right, F64)), "i32")
    return _sum([product(node, *pair) for pair in zip(_cut(left, left.rank - 1, sizes), _cut(right, axis, sizes),
                                                      strict=True)])


def whole_conv(node: Node, x: Tensor, x_zero: Tensor | None, w: Tensor, w_zero: Tensor | None) -> Tensor:
    """The convolution of x - x_zero by w - w_zero as i32. A vector of zero points has one for each filter."""
    wide = _wide(x, w)
    image, kernel = _less(x, x_zero, wide), _less(w, w_zero, wide)
    sizes = _parts(kernel, 1, range(2, w.rank), wide)
    if sizes is None or (len(sizes) > 1 and node.attr("group", 1) != 1):
        return ops.cast(convolved(node, ops.cast(image, F64), ops.cast(kernel, F64)), "i32")
    return _sum([convolved(node, *pair) for pair in zip(_cut(image, 1, sizes), _cut(kernel, 1, sizes), strict=True)])


def _wide(a: Tensor, b: Tensor) -> DType:
    return F32 if a.dtype.itemsize == 1 and b.dtype.itemsize == 1 else F64


def _shifted(x: Tensor, zero: Tensor | None, wide: DType, *, row: bool) -> Tensor:
    offset = None if zero is None else ops.cast(zero, wide)
    if zero is not None and offset is not None:
        if zero.rank == 1 and zero.shape != (1,) and row and x.rank > 1:
            offset = ops.reshape(offset, (*zero.shape, 1))
        elif zero.shape == (1,):
            offset = ops.reshape(offset, ())
    return ops.cast(x, wide) if offset is None else ops.cast(x, wide) - offset


def _less(x: Tensor, zero: Tensor | None, wide: DType) -> Tensor:
    if zero is None:
        return ops.cast(x, wide)
    offset = ops.cast(zero, wide)
    several = zero.rank == 1 and zero.shape != (1,)
    return ops.cast(x, wide) - ops.reshape(offset, (*zero.shape, *[1] * (x.rank - 1)) if several else ())


def _parts(weights: Tensor, axis: int, window: Sequence[int], wide: DType) -> list[int] | None:
    """Sizes of the parts of the inner axis, each with all of the window's axes, whose sums f32 holds; None where it
    cannot be told, or where there are none."""
    sizes = [d for i, d in enumerate(weights.shape) if i == axis or i in window]
    whole = [d for d in sizes if isinstance(d, int)]
    if wide is F64 or len(whole) < len(sizes):
        return None
    known = constant_value(weights) if prod(map(_count, weights.shape)) <= depends.MAX_ELEMENTS else None
    if known is None:
        total = MOST * prod(whole)
        largest = MOST * prod(whole[1:])
    else:
        size = np.abs(known).astype(np.float64)
        total = int(size.sum((axis, *window)).max(initial=0))
        largest = int(size.sum(tuple(window)).max(initial=0))
    if MOST * total < LARGEST:
        return whole[:1]
    step = (LARGEST - 1) // (MOST * largest)
    return [min(step, whole[0] - i) for i in range(0, whole[0], step)] if step else None


def _count(dim: Dim) -> int:
    return dim if isinstance(dim, int) else 1


def _cut(x: Tensor, axis: int, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    return (x,) if len(sizes) == 1 else ops.split(x, sizes, axis)


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return reduce(lambda a, b: a + b, (ops.cast(p, "i32") for p in parts))
