"""Reductions over axes; part of `rnngraph.nn.ops`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from rnngraph.ir import I8, OpDef
from rnngraph.ir import ops as ir_ops
from rnngraph.nn.context import active
from rnngraph.nn.numeric import axis_of
from rnngraph.nn.tensor import Tensor, composable, wrap

Axes: TypeAlias = int | Sequence[int] | None


@composable
def _reduce(opdef: OpDef, x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    axes = range(x.rank) if axis is None else [axis] if isinstance(axis, int) else axis
    kept = {axis_of(opdef.name, x, a) for a in axes}
    b = active().builder
    out = b.reduce(opdef, x.value(), sorted(kept))
    if keepdims:
        out = b.reshape(out, tuple(1 if i in kept else d for i, d in enumerate(x.shape)))
    return wrap(out)


def sum(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return _reduce(ir_ops.REDUCE_SUM, x, axis, keepdims)


def mean(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return _reduce(ir_ops.REDUCE_MEAN, x, axis, keepdims)


def max(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return _reduce(ir_ops.REDUCE_MAX, x, axis, keepdims)


def min(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return _reduce(ir_ops.REDUCE_MIN, x, axis, keepdims)


def prod(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    return _reduce(ir_ops.REDUCE_PROD, x, axis, keepdims)


def any(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """bool: whether some of the bools holds."""
    return _of_bools(ir_ops.REDUCE_MAX, x, axis, keepdims)


def all(x: Tensor, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """bool: whether every one of the bools holds."""
    return _of_bools(ir_ops.REDUCE_MIN, x, axis, keepdims)


@composable
def _of_bools(opdef: OpDef, x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    b = active().builder
    numbers = wrap(b.cast(x.value(), I8))
    return wrap(b.op(ir_ops.GT, *b.unify(_reduce(opdef, numbers, axis, keepdims).value(), 0)))


__all__ = ["all", "any", "max", "mean", "min", "prod", "sum"]
