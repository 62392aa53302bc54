"""Helpers to declare ops: evaluation by a numpy function, typing by the kind of the operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnngraph.ir import typing as rules
from rnngraph.ir.core import Op
from rnngraph.ir.opdef import Array, EvalContext, Evaluate, OpDef, Types, as_array, elementwise_cost, round_bf16
from rnngraph.ir.types import BF16


def as_numpy(f: Callable[..., Any]) -> Evaluate:
    """Evaluation by a numpy function; the result keeps the operands' dtype."""

    def evaluate(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
        out = as_array(f(*args))
        if op.results[0].type.dtype is BF16:
            out = round_bf16(out)
        return (out if out.dtype == np.bool_ else out.astype(args[-1].dtype, copy=False),)

    return evaluate


def number_op(name: str, f: Callable[[Array], Any], *tags: str) -> OpDef:
    """An elementwise op on one tensor of floats or integers."""

    def infer(types: Types, *_: object) -> Types:
        rules.expect_count(name, types, 1)
        rules.expect_number(name, types)
        return types

    return OpDef(name, infer, as_numpy(f), elementwise_cost(1.0), tags=frozenset({"elementwise", *tags}))


def float_op(name: str, f: Callable[[Array], Any], flops: float, *tags: str) -> OpDef:
    """An elementwise op on one float tensor."""
    return OpDef(name, lambda t, a, b: rules.unary(name, t), as_numpy(f), elementwise_cost(flops),
                 tags=frozenset({"elementwise", *tags}))


def int_op(name: str, f: Callable[..., Any], operands: int, *tags: str) -> OpDef:
    """An elementwise op on integer tensors of one type."""

    def infer(types: Types, *_: object) -> Types:
        rules.expect_count(name, types, operands)
        rules.expect_int(name, types)
        return (rules.expect_same(name, types),)

    return OpDef(name, infer, as_numpy(f), elementwise_cost(1.0), tags=frozenset({"elementwise", *tags}))


def truncated(x: Array, y: Array) -> Array:
    """x / y; of integers the part before the point, and 0 where y is 0."""
    if x.dtype.kind not in "iu":
        return as_array(np.divide(x, y))
    with np.errstate(all="ignore"):
        floor = np.floor_divide(x, y)
        return np.where((floor < 0) & (floor * y != x), floor + 1, floor)
