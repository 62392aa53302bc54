"""Slices as ONNX writes them: clamped starts and ends, attributes before opset 10."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.known import Known, as_dims, as_ints
from rnngraph.frontends.onnx.proto import Node
from rnngraph.ir import Dim, dims

BEYOND = 10**9  # a start or end out there means the axis' own: tf2onnx writes it so, others the largest integer


def slice_range(node: Node, rank: int, starts: Known | None, ends: Known | None, axes: Known | None,
                steps: Known | None) -> list[tuple[int, Dim, Dim, int]]:
    """(axis, start, end, step) for each axis that is cut; inputs since opset 10, attributes before."""
    where = str(node)
    if starts is None or ends is None:
        first, last = node.ints("starts"), node.ints("ends")
        if first is None or last is None:
            raise ImportModelError(f"{node}: expected starts and ends")
        begin: tuple[Dim, ...] = first
        end: tuple[Dim, ...] = last
        chosen = node.ints("axes", range(len(first)))
    else:
        begin, end = as_dims(starts, where), as_dims(ends, where)
        chosen = tuple(range(len(begin))) if axes is None else as_ints(axes, where)
    by = (1,) * len(begin) if steps is None else as_ints(steps, where)
    if chosen is None or not len(begin) == len(end) == len(chosen) == len(by) or 0 in by:
        raise ImportModelError(f"{node}: expected as many starts, ends, axes and steps (not 0), got {begin}, {end}, "
                               f"{chosen}, {by}")
    return [(axis_of(node, a, rank), s, e, step) for a, s, e, step in zip(chosen, begin, end, by, strict=True)]


def clamped(node: Node, position: Dim, size: Dim, low: int, high: Dim) -> Dim:
    """A start or end on an axis of ``size``: a negative one counts from the end; then it is held within low..high.

    `NeedsSize` where the forms do not show whether it is negative.
    """
    if isinstance(position, int):
        if position >= BEYOND:
            return high
        if position <= -BEYOND:
            return low
        at = dims.add(size, position) if position < 0 else position
    elif dims.is_nonnegative(dims.add(position, 1)):
        at = position  # at -1, which an axis of no size has, both readings are held at the same place
    elif dims.is_nonnegative(dims.sub(-1, position)):
        at = dims.add(size, position)
    else:
        raise NeedsSize(sorted(dims.symbols_of(position)), f"{node} cuts at {position}, which may be negative")
    return dims.minimum(dims.maximum(at, low), high)
