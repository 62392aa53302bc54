"""Ops that compare or add up the elements along one axis in their order: argmax, argmin, top_k, cumsum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import typing as rules
from rnngraph.ir.core import Op
from rnngraph.ir.opdef import Array, Attrs, Cost, EvalContext, OpDef, Types, as_array, elementwise_cost, traffic
from rnngraph.ir.types import I64, Dim, Dims, numel, resolve


@dataclass(frozen=True, slots=True)
class ArgAttrs(Attrs):
    """The place along ``axis``, which leaves the shape; of equals the first, or the last."""

    axis: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class TopKAttrs(Attrs):
    """The ``k`` largest (or smallest) along ``axis``, in order; of equals the first comes first."""

    axis: int
    k: Dim
    largest: bool = True


@dataclass(frozen=True, slots=True)
class CumsumAttrs(Attrs):
    """``exclusive`` leaves an element itself out of its sum; ``reverse`` adds from the end."""

    axis: int
    exclusive: bool = False
    reverse: bool = False


def _scan_cost(op: Op, dims: Dims) -> Cost:
    return Cost(float(numel(op.operands[0].shape, dims)), traffic(op, dims))


def _sort_cost(op: Op, dims: Dims) -> Cost:
    return Cost(16.0 * numel(op.operands[0].shape, dims), traffic(op, dims))


def _arg_type(name: str, types: Types, a: ArgAttrs) -> Types:
    rules.expect_count(name, types, 1)
    rules.expect_number(name, types)
    (t,) = types
    rules.check_axis(name, a.axis, t.rank)
    if t.shape[a.axis] == 0:
        raise rules.fail(name, f"axis {a.axis} of {t} has no elements")
    return (t.with_shape((*t.shape[: a.axis], *t.shape[a.axis + 1 :])).with_dtype(I64),)


def _arg(name: str, find: Callable[..., Array]) -> OpDef:
    def evaluate(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
        a, (x,) = op.attrs, args
        assert isinstance(a, ArgAttrs)
        size = x.shape[a.axis]
        if size == 0:
            raise InputError(f"{name}: axis {a.axis} has no elements")
        if a.last:
            return (as_array(size - 1 - find(np.flip(x, a.axis), axis=a.axis)).astype(np.int64, copy=False),)
        return (as_array(find(x, axis=a.axis)).astype(np.int64, copy=False),)

    return OpDef(name, lambda t, a, b: _arg_type(name, t, a), evaluate, _scan_cost, ArgAttrs)


def _top_k_type(types: Types, a: TopKAttrs) -> Types:
    rules.expect_count("top_k", types, 1)
    rules.expect_number("top_k", types)
    (t,) = types
    rules.check_axis("top_k", a.axis, t.rank)
    size = t.shape[a.axis]
    if isinstance(a.k, int) and (a.k < 0 or (isinstance(size, int) and a.k > size)):
        raise rules.fail("top_k", f"k must be in 0..{size}, the size of axis {a.axis} of {t}, got {a.k}")
    out = t.with_shape((*t.shape[: a.axis], a.k, *t.shape[a.axis + 1 :]))
    return out, out.with_dtype(I64)


def _top_k(ctx: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    """A stable sort; NaN counts as the largest of all."""
    a, (x,) = op.attrs, args
    assert isinstance(a, TopKAttrs)
    (k,) = resolve((a.k,), ctx.dims)
    size = x.shape[a.axis]
    if k > size:
        raise InputError(f"top_k: k must be at most {size}, the size of axis {a.axis}, got {k}")
    if a.largest:  # sorted from behind, so that of equals the first stays first
        order = size - 1 - np.flip(np.argsort(np.flip(x, a.axis), axis=a.axis, kind="stable"), a.axis)
    else:
        order = np.argsort(x, axis=a.axis, kind="stable")
    index = np.take(order, np.arange(k), axis=a.axis)
    return np.take_along_axis(x, index, a.axis), index.astype(np.int64)


def _cumsum_type(types: Types, a: CumsumAttrs) -> Types:
    rules.expect_count("cumsum", types, 1)
    rules.expect_number("cumsum", types)
    rules.check_axis("cumsum", a.axis, types[0].rank)
    return types


def _cumsum(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    a, (x,) = op.attrs, args
    assert isinstance(a, CumsumAttrs)
    x = np.flip(x, a.axis) if a.reverse else x
    if a.exclusive and x.shape[a.axis]:
        lead = (slice(None),) * a.axis
        x = np.concatenate([np.zeros_like(x[(*lead, slice(0, 1))]), x[(*lead, slice(0, -1))]], a.axis)
    out = np.cumsum(x, axis=a.axis, dtype=x.dtype)
    return (np.flip(out, a.axis) if a.reverse else out,)


ARGMAX = _arg("argmax", np.argmax)
ARGMIN = _arg("argmin", np.argmin)
TOP_K = OpDef("top_k", lambda t, a, b: _top_k_type(t, a), _top_k, _sort_cost, TopKAttrs)
CUMSUM = OpDef("cumsum", lambda t, a, b: _cumsum_type(t, a), _cumsum, elementwise_cost(1.0), CumsumAttrs)
