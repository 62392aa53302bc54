"""Patterns of canonicalize: arithmetic, comparisons of constants, casts, reductions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from rnngraph.ir import BF16, BOOL, F32, F64, I64, Attrs, Builder, DType, Op, OpDef, Value, ops
from rnngraph.ir.ops import BroadcastAttrs, ConstAttrs, ReduceAttrs
from rnngraph.rewrite import Pattern, pattern

Values = Sequence[Value] | None

COMMUTATIVE: Final[tuple[OpDef, ...]] = (ops.ADD, ops.MUL, ops.MIN, ops.MAX, ops.AND, ops.OR)
REDUCTIONS: Final[tuple[OpDef, ...]] = (ops.REDUCE_SUM, ops.REDUCE_MEAN, ops.REDUCE_MAX, ops.REDUCE_MIN)


def producer(value: Value, opdef: OpDef) -> Op | None:
    """The op that computes ``value``, if it is of this kind."""
    return value.op if value.op is not None and value.op.opdef is opdef else None


def splat_of(value: Value) -> float | int | bool | None:
    """The one number that fills ``value``, where that is known."""
    while (op := producer(value, ops.BROADCAST)) is not None:
        value = op.operands[0]
    op = producer(value, ops.CONST)
    if op is None:
        return None
    assert isinstance(op.attrs, ConstAttrs)
    return op.attrs.value.splat


def is_constant(value: Value) -> bool:
    """A constant, or a broadcast of one."""
    while (op := producer(value, ops.BROADCAST)) is not None:
        value = op.operands[0]
    return producer(value, ops.CONST) is not None


@pattern(*COMMUTATIVE, ops.EQ, ops.NE)
def constant_to_the_right(op: Op, b: Builder) -> Values:
    """f(c, x) -> f(x, c)   for a constant c and commutative f"""
    x, y = op.operands
    if is_constant(x) and not is_constant(y):
        return [b.op(op.opdef, y, x)]
    return None


NEUTRAL: Final = {"add": 0, "sub": 0, "mul": 1, "div": 1, "pow": 1}


@pattern(ops.ADD, ops.SUB, ops.MUL, ops.DIV, ops.POW)
def neutral_element(op: Op, b: Builder) -> Values:
    """x + 0, x - 0, x * 1, x / 1, pow(x, 1) -> x"""
    return [op.operands[0]] if splat_of(op.operands[1]) == NEUTRAL[op.name] else None


@pattern(ops.POW)
def square(op: Op, b: Builder) -> Values:
    """pow(x, 2) -> x * x"""
    x, y = op.operands
    return [b.op(ops.MUL, x, x)] if splat_of(y) == 2 else None


@pattern(ops.NEG, ops.NOT)
def involution(op: Op, b: Builder) -> Values:
    """neg(neg x), not(not x) -> x"""
    inner = producer(op.operands[0], op.opdef)
    return [inner.operands[0]] if inner is not None else None


@pattern(ops.ADD)
def add_of_negation(op: Op, b: Builder) -> Values:
    """x + neg y -> x - y,  neg x + y -> y - x"""
    x, y = op.operands
    if (inner := producer(y, ops.NEG)) is not None:
        return [b.op(ops.SUB, x, inner.operands[0])]
    if (inner := producer(x, ops.NEG)) is not None:
        return [b.op(ops.SUB, y, inner.operands[0])]
    return None


@pattern(ops.SUB)
def sub_of_negation(op: Op, b: Builder) -> Values:
    """x - neg y -> x + y"""
    x, y = op.operands
    inner = producer(y, ops.NEG)
    return [b.op(ops.ADD, x, inner.operands[0])] if inner is not None else None


@pattern(ops.MIN, ops.MAX, ops.AND, ops.OR)
def idempotent(op: Op, b: Builder) -> Values:
    """f(x, x) -> x   for min, max, and, or"""
    x, y = op.operands
    return [x] if x is y else None


@pattern(ops.SELECT)
def select_known(op: Op, b: Builder) -> Values:
    """select(c, x, x) -> x,  select(true, x, y) -> x,  select(false, x, y) -> y,
    select(not c, x, y) -> select(c, y, x)
    """
    c, x, y = op.operands
    if x is y:
        return [x]
    if (known := splat_of(c)) is not None:
        return [x if known else y]
    if (inner := producer(c, ops.NOT)) is not None:
        return [b.op(ops.SELECT, inner.operands[0], y, x)]
    return None


@pattern(ops.CAST)
def cast_of_cast(op: Op, b: Builder) -> Values:
    """cast(x, x's dtype) -> x,  cast(cast(x, d), e) -> cast(x, e)   when d holds every value of x"""
    (x,) = op.operands
    target = op.result.type.dtype
    if x.type.dtype == target:
        return [x]
    inner = producer(x, ops.CAST)
    if inner is None or not holds(x.type.dtype, inner.operands[0].type.dtype):
        return None
    return [b.cast(inner.operands[0], target)]


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of ``narrow`` is a value of ``wide``."""
    if BF16 in (wide, narrow):
        return wide is narrow or (narrow is BF16 and wide in (F32, F64))
    if wide is F64 and narrow is I64:
        return False  # numpy calls this safe, but 2**53 + 1 is no f64
    return np.can_cast(narrow.numpy, wide.numpy, "safe")


@dataclass(frozen=True, slots=True)
class Flags:
    """1.0 where the bool ``source``, seen through ``views``, holds (or does not, if ``negated``), 0.0 elsewhere."""

    source: Value
    views: tuple[tuple[OpDef, Attrs], ...]
    negated: bool

    def condition(self, b: Builder) -> Value:
        """The bool in the shape of the flags, not negated."""
        value = self.source
        for opdef, attrs in self.views:
            value = b.op(opdef, value, attrs=attrs)
        return value


def flags_of(value: Value) -> Flags | None:
    """How a value is made of a bool by one cast."""
    views: list[tuple[OpDef, Attrs]] = []
    negated = False
    while value.op is not None and (value.op.opdef in (ops.BROADCAST, ops.RESHAPE, ops.CAST, ops.NOT)):
        op = value.op
        if op.opdef is ops.CAST and op.operands[0].type.dtype is not BOOL:
            return None
        if op.opdef in (ops.BROADCAST, ops.RESHAPE):
            views.insert(0, (op.opdef, op.attrs))
        negated ^= op.opdef is ops.NOT
        value = op.operands[0]
    return Flags(value, tuple(views), negated) if value.type.dtype is BOOL else None


def flagged(value: Value) -> tuple[Value, Flags] | None:
    """(x, flags) where the value is x times 0.0 and 1.0."""
    op = producer(value, ops.MUL)
    for x, y in () if op is None or value.type.dtype is BOOL else (op.operands, op.operands[::-1]):
        if (flags := flags_of(y)) is not None:
            return x, flags
    return None


@pattern(ops.ADD)
def blend_by_flags(op: Op, b: Builder) -> Values:
    """x * cast(c) + y * cast(not c) -> select(c, x, y)   in a scan body: tf2onnx writes tf.where so

    A mask holds states still; where it does, that of which it keeps nothing may be inf or nan.
    """
    if op.parent is None or op.parent.parent is None:
        return None
    parts = flagged(op.operands[0]), flagged(op.operands[1])
    if parts[0] is None or parts[1] is None:
        return None
    (x, flags), (y, others) = parts[0], parts[1]
    if replace(flags, negated=not flags.negated) != others:
        return None
    return [b.op(ops.SELECT, flags.condition(b), *((y, x) if flags.negated else (x, y)))]


@pattern(ops.MUL)
def flags_of_nothing(op: Op, b: Builder) -> Values:
    """cast(c) * 0 -> 0   for a bool c"""
    x, y = op.operands
    return [y] if splat_of(y) == 0 and flags_of(x) is not None else None


@pattern(*REDUCTIONS)
def reduce_nothing(op: Op, b: Builder) -> Values:
    """reduce(x, axes of size 1) -> reshape(x)"""
    (x,) = op.operands
    assert isinstance(op.attrs, ReduceAttrs)
    return [b.reshape(x, op.result.shape)] if all(x.shape[a] == 1 for a in op.attrs.axes) else None


ELEMENTWISE: Final[tuple[OpDef, ...]] = (*(
    d for d in vars(ops).values() if isinstance(d, OpDef) and "elementwise" in d.tags), ops.CAST)


@pattern(*ELEMENTWISE)
def elementwise_of_broadcasts(op: Op, b: Builder) -> Values:
    """f(broadcast(x), broadcast(y)) -> broadcast(f(x, y))   when one's axes hold the other's"""
    sources = [producer(v, ops.BROADCAST) for v in op.operands]
    attrs = [s.attrs for s in sources if s is not None and isinstance(s.attrs, BroadcastAttrs)]
    if len(attrs) != len(op.operands):
        return None
    wide = max(attrs, key=lambda a: len(a.axes))
    if not all(set(a.axes) <= set(wide.axes) for a in attrs):
        return None
    shape = tuple(wide.shape[a] for a in wide.axes)
    small = [b.broadcast(s.operands[0], shape, tuple(wide.axes.index(k) for k in a.axes))
             for s, a in zip(sources, attrs, strict=True) if s is not None]
    return [b.broadcast(b.op(op.opdef, *small, attrs=op.attrs), wide.shape, wide.axes)]


SCALAR_PATTERNS: Final[tuple[Pattern, ...]] = (
    neutral_element, square, involution, add_of_negation, sub_of_negation, idempotent, select_known, cast_of_cast,
    reduce_nothing, constant_to_the_right, elementwise_of_broadcasts, blend_by_flags, flags_of_nothing,
)
