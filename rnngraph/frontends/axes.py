"""Axes as foreign nodes give them."""

from __future__ import annotations

from collections.abc import Iterable

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import NeedsSize
from rnngraph.ir import dims
from rnngraph.ir.ops import SliceAttrs
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


def axis_of(node: object, axis: int, rank: int) -> int:
    """The axis counted from the front; ImportModelError when there is none."""
    if not -rank <= axis < rank:
        raise ImportModelError(f"{node}: axis {axis} does not fit rank {rank}")
    return axis % rank


def squeezed(node: object, x: Tensor, axes: Iterable[int] | None) -> Tensor:
    """x without these axes, of size 1 each, or without all such. `NeedsSize` where an open size decides."""
    chosen = {i for i, d in enumerate(x.shape) if d == 1} if axes is None else {axis_of(node, a, x.rank) for a in axes}
    for axis in chosen:
        if isinstance(x.shape[axis], str) and axes is not None and dims.is_nonnegative(dims.sub(1, x.shape[axis])):
            x = _first_place(x, axis)
        elif isinstance(x.shape[axis], str):
            raise NeedsSize(sorted(dims.symbols_of(x.shape[axis])), f"{node} takes axis {axis} of {x.type} away")
        if x.shape[axis] != 1:
            raise ImportModelError(f"{node}: axis {axis} of {x.type} is not 1")
    if axes is None and (open_ := [d for d in x.shape if isinstance(d, str)]):
        raise NeedsSize(sorted(dims.symbols_of(open_[0])), f"{node} takes every axis of size 1 of {x.type} away")
    return ops.reshape(x, tuple(d for i, d in enumerate(x.shape) if i not in chosen))


def _first_place(x: Tensor, axis: int) -> Tensor:
    """The one place of an axis that has one or none, as x[-1:] of an open axis; a call in which it has none fails."""
    b, op = active().builder, x.value().op
    if op is not None and isinstance(op.attrs, SliceAttrs) and op.attrs.axis == axis and op.attrs.step == 1:
        source, start = op.operands[0], op.attrs.start
        last = dims.sub(dims.maximum(source.shape[axis], 1), 1)
        return wrap(b.slice(source, axis, -1 if start == last else start, 1))
    return wrap(b.slice(x.value(), axis, 0, 1))
