"""Ops that read or write where an integer tensor says.

Indices count from the end where they are negative. One out of range is an InputError when the op runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import typing as rules
from rnngraph.ir.core import Op
from rnngraph.ir.opdef import Array, Attrs, EvalContext, OpDef, Types, elementwise_cost
from rnngraph.ir.ops import AxisAttrs
from rnngraph.ir.types import Shape, TensorType

REDUCTIONS: dict[str, np.ufunc | None] = {
    "none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
}


@dataclass(frozen=True, slots=True)
class GatherNdAttrs(Attrs):
    """The first ``batch_dims`` axes of operand and indices belong together."""

    batch_dims: int = 0


@dataclass(frozen=True, slots=True)
class ScatterAttrs(Attrs):
    """``reduction``: what an update does to the element that is there, "none" to replace it (the last one stays)."""

    axis: int
    reduction: str = "none"


@dataclass(frozen=True, slots=True)
class ScatterNdAttrs(Attrs):
    """``reduction`` as in `ScatterAttrs`."""

    reduction: str = "none"


def in_range(name: str, index: Array, size: int) -> Array:
    """The indices counted from the front; InputError when one is out of range."""
    index = index.astype(np.int64, copy=False)
    if index.size and (index.min() < -size or index.max() >= size):
        raise InputError(f"{name}: indices must be in {-size}..{size - 1}, got {index.min()}..{index.max()}")
    return np.where(index < 0, index + size, index)


def _check_index(name: str, t: TensorType) -> None:
    if t.dtype.kind != "int":
        raise rules.fail(name, f"indices must be integers, got {t}")


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise rules.fail(name, f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}")


# --- take and gather_elements -----------------------------------------------------------------------------------


def _take_type(types: Types, a: AxisAttrs) -> Types:
    """x[..., N, ...], indices[*I] -> [..., *I, ...]"""
    rules.expect_count("take", types, 2)
    x, index = types
    _check_index("take", index)
    rules.check_axis("take", a.axis, x.rank)
    return (x.with_shape((*x.shape[: a.axis], *index.shape, *x.shape[a.axis + 1 :])),)


def _take(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    a, (x, index) = op.attrs, args
    assert isinstance(a, AxisAttrs)
    return (np.take(x, in_range("take", index, x.shape[a.axis]), axis=a.axis),)


def _along(name: str, x: TensorType, index: TensorType, axis: int) -> None:
    """The rule of indices that stand beside the elements: one rank, and no larger off the axis."""
    _check_index(name, index)
    rules.check_axis(name, axis, x.rank)
    if index.rank != x.rank:
        raise rules.fail(name, f"indices must have the rank of {x}, got {index}")
    for i, (d, n) in enumerate(zip(index.shape, x.shape, strict=True)):
        if i != axis and isinstance(d, int) and isinstance(n, int) and d > n:
            raise rules.fail(name, f"indices {index} are larger than {x} in dim {i}")


def _grid(shape: tuple[int, ...], axis: int, index: Array) -> tuple[Array, ...]:
    """For every element of ``index`` its place, with the index itself along ``axis``."""
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return tuple(index if i == axis else g for i, g in enumerate(grid))


def _check_off_axis(name: str, x: Array, index: Array, axis: int) -> None:
    if any(d > n for i, (d, n) in enumerate(zip(index.shape, x.shape, strict=True)) if i != axis):
        raise InputError(f"{name}: indices of shape {list(index.shape)} are larger than {list(x.shape)} off "
                         f"axis {axis}")


def _gather_elements_type(types: Types, a: AxisAttrs) -> Types:
    rules.expect_count("gather_elements", types, 2)
    x, index = types
    _along("gather_elements", x, index, a.axis)
    return (x.with_shape(index.shape),)


def _gather_elements(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    a, (x, index) = op.attrs, args
    assert isinstance(a, AxisAttrs)
    _check_off_axis("gather_elements", x, index, a.axis)
    index = in_range("gather_elements", index, x.shape[a.axis])
    return (x[_grid(index.shape, a.axis, index)],)


# --- gather_nd --------------------------------------------------------------------------------------------------


def _depth(name: str, index: TensorType, most: int) -> int:
    """How many numbers one index has."""
    _check_index(name, index)
    depth = index.shape[-1] if index.rank else 0
    if not isinstance(depth, int) or not 1 <= depth <= most:
        raise rules.fail(name, f"the last dim of the indices must be in 1..{most}, got {index}")
    return depth


def _gather_nd_type(types: Types, a: GatherNdAttrs) -> Types:
    """x[*B, *N], indices[*B, *I, depth] -> [*B, *I, *N[depth:]]"""
    rules.expect_count("gather_nd", types, 2)
    x, index = types
    b = a.batch_dims
    if not 0 <= b < min(x.rank, index.rank) or x.shape[:b] != index.shape[:b]:
        raise rules.fail("gather_nd", f"{x} and {index} do not have {b} batch dims in common")
    depth = _depth("gather_nd", index, x.rank - b)
    return (x.with_shape((*index.shape[:-1], *x.shape[b + depth :])),)


def _gather_nd(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    a, (x, index) = op.attrs, args
    assert isinstance(a, GatherNdAttrs)
    b, depth = a.batch_dims, index.shape[-1]
    places = [in_range("gather_nd", index[..., i], x.shape[b + i]) for i in range(depth)]
    batch = np.ogrid[tuple(slice(0, n) for n in x.shape[:b])] if b else []
    own = [g.reshape(*g.shape, *[1] * (index.ndim - 1 - b)) for g in batch]
    return (x[(*own, *places)],)


# --- scatter ----------------------------------------------------------------------------------------------------


def _scatter_elements_type(types: Types, a: ScatterAttrs) -> Types:
    rules.expect_count("scatter_elements", types, 3)
    x, index, updates = types
    _along("scatter_elements", x, index, a.axis)
    _check_reduction("scatter_elements", a.reduction)
    if updates != x.with_shape(index.shape):
        raise rules.fail("scatter_elements", f"updates must be {x.with_shape(index.shape)}, got {updates}")
    return (x,)


def _scatter_elements(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    a, (x, index, updates) = op.attrs, args
    assert isinstance(a, ScatterAttrs)
    _check_off_axis("scatter_elements", x, index, a.axis)
    index = in_range("scatter_elements", index, x.shape[a.axis])
    places = tuple(np.broadcast_to(p, index.shape) for p in _grid(index.shape, a.axis, index))
    return (_scattered(x, places, updates, a.reduction),)


def _scattered(x: Array, places: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    out = np.array(x)
    f = REDUCTIONS[reduction]
    if f is None:
        out[places] = updates
    elif out.dtype == np.bool_ and reduction in ("add", "mul"):
        (np.logical_or if reduction == "add" else np.logical_and).at(out, places, updates)
    else:
        f.at(out, places, updates)
    return out


def _scatter_nd_type(types: Types, a: ScatterNdAttrs) -> Types:
    """x[*N], indices[*I, depth], updates[*I, *N[depth:]] -> [*N]"""
    rules.expect_count("scatter_nd", types, 3)
    x, index, updates = types
    depth = _depth("scatter_nd", index, x.rank)
    _check_reduction("scatter_nd", a.reduction)
    shape: Shape = (*index.shape[:-1], *x.shape[depth:])
    if updates != x.with_shape(shape):
        raise rules.fail("scatter_nd", f"updates must be {x.with_shape(shape)}, got {updates}")
    return (x,)


def _scatter_nd(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    a, (x, index, updates) = op.attrs, args
    assert isinstance(a, ScatterNdAttrs)
    places = tuple(in_range("scatter_nd", index[..., i], x.shape[i]) for i in range(index.shape[-1]))
    return (_scattered(x, places, updates, a.reduction),)


TAKE = OpDef("take", lambda t, a, b: _take_type(t, a), _take, elementwise_cost(0.0), AxisAttrs)
GATHER_ELEMENTS = OpDef("gather_elements", lambda t, a, b: _gather_elements_type(t, a), _gather_elements,
                        elementwise_cost(0.0), AxisAttrs)
GATHER_ND = OpDef("gather_nd", lambda t, a, b: _gather_nd_type(t, a), _gather_nd, elementwise_cost(0.0), GatherNdAttrs)
SCATTER_ELEMENTS = OpDef("scatter_elements", lambda t, a, b: _scatter_elements_type(t, a), _scatter_elements,
                         elementwise_cost(1.0), ScatterAttrs)
SCATTER_ND = OpDef("scatter_nd", lambda t, a, b: _scatter_nd_type(t, a), _scatter_nd, elementwise_cost(1.0),
                   ScatterNdAttrs)


def is_lookup(op: Op) -> bool:
    """Whether the op reads rows of a table: a gather, or a take along the first axis."""
    return op.name == "gather" or (op.opdef is TAKE and isinstance(op.attrs, AxisAttrs) and op.attrs.axis == 0)
