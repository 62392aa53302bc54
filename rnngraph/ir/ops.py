"""The op table: every op of the IR, declared once. Region ops (scan, rnn) have files of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import erf as _erf
from typing import Any

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import typing as rules
from rnngraph.ir.core import Block, Op
from rnngraph.ir.declare import as_numpy as _numpy
from rnngraph.ir.declare import number_op, truncated
from rnngraph.ir.opdef import (
    Array,
    Attrs,
    Cost,
    CostRule,
    EvalContext,
    Literal,
    OpDef,
    Types,
    as_array,
    elementwise_cost,
    round_bf16,
    traffic,
)
from rnngraph.ir.types import BF16, BOOL, F32, Dim, Dims, DType, Shape, TensorType, numel, resolve, size_of

# --- attribute records -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConstAttrs(Attrs):
    value: Literal


@dataclass(frozen=True, slots=True)
class CastAttrs(Attrs):
    dtype: DType


@dataclass(frozen=True, slots=True)
class BroadcastAttrs(Attrs):
    """Operand axis i becomes result axis ``axes[i]``; every other result axis repeats."""

    shape: Shape
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConcatAttrs(Attrs):
    axis: int


@dataclass(frozen=True, slots=True)
class SliceAttrs(Attrs):
    """``size`` elements from ``start`` (a negative number: from the end) every ``step``."""

    axis: int
    start: Dim
    size: Dim
    step: int = 1


@dataclass(frozen=True, slots=True)
class ReshapeAttrs(Attrs):
    shape: Shape


@dataclass(frozen=True, slots=True)
class TransposeAttrs(Attrs):
    perm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AxisAttrs(Attrs):
    axis: int


@dataclass(frozen=True, slots=True)
class ReduceAttrs(Attrs):
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RandomMaskAttrs(Attrs):
    """0 with probability ``rate``, else 1/(1-rate); a pure function of seed and element index."""

    seed: int
    rate: float
    shape: Shape
    dtype: DType = F32


@dataclass(frozen=True, slots=True)
class ReturnAttrs(Attrs):
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class YieldAttrs(Attrs):
    """How many of the operands are next carries; the rest are the emitted sequences."""

    carries: int


# --- helpers to declare ops ------------------------------------------------------------------------------------


def _unary(name: str, f: Callable[[Array], Any], flops: float = 1.0, *tags: str) -> OpDef:
    return OpDef(name, lambda t, a, b: rules.unary(name, t), _numpy(f), elementwise_cost(flops),
                 tags=frozenset({"elementwise", *tags}))


def _binary(name: str, f: Callable[[Array, Array], Any], *tags: str) -> OpDef:
    return OpDef(name, lambda t, a, b: rules.binary(name, t), _numpy(f), elementwise_cost(1.0),
                 tags=frozenset({"elementwise", *tags}))


def _comparison(name: str, f: Callable[[Array, Array], Any]) -> OpDef:
    return OpDef(name, lambda t, a, b: rules.comparison(name, t), _numpy(f), elementwise_cost(1.0),
                 tags=frozenset({"elementwise", "comparison"}))


def _reduce(name: str, f: Callable[..., Any], tag: str = "reduce") -> OpDef:
    def evaluate(_: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
        assert isinstance(op.attrs, ReduceAttrs)
        return (as_array(f(args[0], axis=op.attrs.axes)).astype(args[0].dtype, copy=False),)

    def cost(op: Op, dims: Dims) -> Cost:
        return Cost(float(numel(op.operands[0].shape, dims)), traffic(op, dims))

    return OpDef(name, lambda t, a, b: rules.reduce(name, t, a.axes), evaluate, cost, ReduceAttrs,
                 frozenset({tag}))


def _move(name: str, infer: Callable[[Types, Any], Types], attrs: type[Attrs],
          f: Callable[[EvalContext, Any, Sequence[Array]], Array]) -> OpDef:
    """An op that moves data and computes nothing."""
    return OpDef(name, lambda t, a, b: infer(t, a), lambda ctx, op, args: (f(ctx, op.attrs, args),),
                 elementwise_cost(0.0), attrs, frozenset({"move"}))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    e = np.exp(-np.abs(x))
    out: Array = np.where(x >= 0, 1.0, e) / (1.0 + e)
    return out


def _matmul_cost(op: Op, dims: Dims) -> Cost:
    k = resolve(op.operands[0].shape, dims)[-1]
    return Cost(2.0 * k * numel(op.results[0].shape, dims), traffic(op, dims))


def _broadcast(ctx: EvalContext, attrs: BroadcastAttrs, args: Sequence[Array]) -> Array:
    shape = resolve(attrs.shape, ctx.dims)
    expanded = [1] * len(shape)
    for size, axis in zip(args[0].shape, attrs.axes, strict=True):
        expanded[axis] = size
    return np.broadcast_to(args[0].reshape(expanded), shape)


def _slice(ctx: EvalContext, attrs: SliceAttrs, args: Sequence[Array]) -> Array:
    dim = args[0].shape[attrs.axis]
    (size,) = resolve((attrs.size,), ctx.dims)
    start = attrs.start + dim if isinstance(attrs.start, int) and attrs.start < 0 else attrs.start
    start = size_of(start, ctx.dims) if isinstance(start, str) else start
    if start < 0 or (size and start + (size - 1) * attrs.step >= dim):
        raise InputError(f"slice: start {attrs.start}, size {size} do not fit axis {attrs.axis} of size {dim}")
    index = [slice(None)] * args[0].ndim
    index[attrs.axis] = slice(start, start + size * attrs.step, attrs.step)
    return args[0][tuple(index)]


def _gather(ctx: EvalContext, attrs: Attrs, args: Sequence[Array]) -> Array:
    table, index = args
    if index.size and (index.min() < 0 or index.max() >= table.shape[0]):
        raise InputError(f"gather: indices must be in 0..{table.shape[0] - 1}, "
                         f"got {index.min()}..{index.max()}")
    return as_array(table[index])


def _power(x: Array, y: Array) -> Array:
    """Integers to a negative power are truncated: 0, but for 1 and -1; 0 to a negative power is 0 too."""
    if x.dtype.kind not in "iu" or not (y < 0).any():
        return as_array(np.power(x, y))
    odd = np.where(y % 2 == 0, 1, x)
    return np.where(y >= 0, np.power(x, np.maximum(y, 0)), np.where(abs(x) == 1, odd, 0))


def _limits(x: Array) -> tuple[Any, Any]:
    """The least and the greatest number of the array's dtype."""
    if x.dtype.kind == "f":
        return -np.inf, np.inf
    return np.iinfo(x.dtype).min, np.iinfo(x.dtype).max


def _start(x: Array, which: int) -> dict[str, Any]:
    """Where a reduction over no elements starts; CuPy's take no such argument."""
    return {} if x.size else {"initial": _limits(x)[which]}


def _mean(x: Array, axis: tuple[int, ...]) -> Array:
    """NaN over no elements, without numpy's warning."""
    if x.size:
        return as_array(x.mean(axis=axis))
    return as_array(x.sum(axis=axis) * x.dtype.type(np.nan if 0 in [x.shape[a] for a in axis] else 1))


def _softmax(x: Array, axis: int) -> Array:
    if not x.size:
        return x
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return as_array(e / e.sum(axis=axis, keepdims=True))


def _random_mask(ctx: EvalContext, attrs: RandomMaskAttrs, args: Sequence[Array]) -> Array:
    shape = resolve(attrs.shape, ctx.dims)
    n = int(np.prod(shape, dtype=np.int64))
    with np.errstate(over="ignore"):  # splitmix64 of the element index: the same mask on every backend
        z = np.arange(n, dtype=np.uint64) + np.uint64((attrs.seed * 0x9E3779B97F4A7C15) & (2**64 - 1))
        z = (z + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    keep = (z >> np.uint64(40)).astype(np.float64) / 2.0**24 >= attrs.rate
    scale = 0.0 if attrs.rate >= 1.0 else 1.0 / (1.0 - attrs.rate)
    return np.where(keep, scale, 0.0).reshape(shape).astype(ctx.array_dtype(attrs.dtype))


def _const(ctx: EvalContext, attrs: ConstAttrs, args: Sequence[Array]) -> Array:
    return attrs.value.array.astype(ctx.array_dtype(attrs.value.dtype), copy=False)


def _cast(ctx: EvalContext, attrs: CastAttrs, args: Sequence[Array]) -> Array:
    out = args[0].astype(ctx.array_dtype(attrs.dtype), copy=False)
    return round_bf16(out) if attrs.dtype is BF16 and out.dtype == np.float32 else out


def _mask_type(types: Types, attrs: RandomMaskAttrs) -> Types:
    rules.expect_count("random_mask", types, 0)
    if not 0.0 <= attrs.rate <= 1.0:
        raise rules.fail("random_mask", f"rate must be in 0..1, got {attrs.rate}")
    return (TensorType(attrs.dtype, attrs.shape),)


def _const_type(types: Types, attrs: ConstAttrs) -> Types:
    rules.expect_count("const", types, 0)
    return (attrs.value.type,)


def _cast_type(types: Types, attrs: CastAttrs) -> Types:
    rules.expect_count("cast", types, 1)
    return (types[0].with_dtype(attrs.dtype),)


def _softmax_type(types: Types, attrs: AxisAttrs) -> Types:
    (t,) = rules.unary("softmax", types)
    rules.check_axis("softmax", attrs.axis, t.rank)
    return (t,)


def _reverse_type(types: Types, attrs: AxisAttrs) -> Types:
    rules.expect_count("reverse", types, 1)
    rules.check_axis("reverse", attrs.axis, types[0].rank)
    return types


def _return_type(types: Types, attrs: ReturnAttrs) -> Types:
    if len(types) != len(attrs.names) or len(set(attrs.names)) != len(attrs.names):
        raise rules.fail("return", f"expected one distinct name per operand, got {len(types)} operands "
                                   f"and names {list(attrs.names)}")
    return ()


def _terminate(ctx: EvalContext, op: Op, args: Sequence[Array]) -> Sequence[Array]:
    return args


def _gelu_erf(x: Array) -> Array:
    return np.vectorize(_erf, otypes=[np.float64])(x) if x.size else x


# --- the table -------------------------------------------------------------------------------------------------

ADD = _binary("add", np.add, "commutative")
SUB = _binary("sub", np.subtract)
MUL = _binary("mul", np.multiply, "commutative")
DIV = _binary("div", truncated)
POW = _binary("pow", _power)
MIN = _binary("min", np.minimum, "commutative")
MAX = _binary("max", np.maximum, "commutative")

NEG = number_op("neg", np.negative)
ABS = number_op("abs", np.abs)
SIGN = number_op("sign", np.sign)
FLOOR = _unary("floor", np.floor)
SQRT = _unary("sqrt", np.sqrt, 4.0)
EXP = _unary("exp", np.exp, 12.0, "transcendental")
LOG = _unary("log", np.log, 16.0, "transcendental")
TANH = _unary("tanh", np.tanh, 20.0, "transcendental")
SIGMOID = _unary("sigmoid", sigmoid, 16.0, "transcendental")
RELU = _unary("relu", lambda x: np.maximum(x, x.dtype.type(0)))
ERF = _unary("erf", _gelu_erf, 20.0, "transcendental")

LT = _comparison("lt", np.less)
LE = _comparison("le", np.less_equal)
GT = _comparison("gt", np.greater)
GE = _comparison("ge", np.greater_equal)
EQ = _comparison("eq", np.equal)
NE = _comparison("ne", np.not_equal)
AND = OpDef("and", lambda t, a, b: rules.logical("and", t, 2), _numpy(np.logical_and), elementwise_cost(1.0),
            tags=frozenset({"elementwise", "commutative"}))
OR = OpDef("or", lambda t, a, b: rules.logical("or", t, 2), _numpy(np.logical_or), elementwise_cost(1.0),
           tags=frozenset({"elementwise", "commutative"}))
NOT = OpDef("not", lambda t, a, b: rules.logical("not", t, 1), _numpy(np.logical_not), elementwise_cost(1.0),
            tags=frozenset({"elementwise"}))
SELECT = OpDef("select", lambda t, a, b: rules.select(t), _numpy(np.where), elementwise_cost(1.0),
               tags=frozenset({"elementwise"}))

MATMUL = OpDef("matmul", lambda t, a, b: rules.matmul(t), _numpy(lambda x, y: x @ y), _matmul_cost)
REDUCE_SUM = _reduce("reduce_sum", np.sum)
REDUCE_MEAN = _reduce("reduce_mean", _mean)
REDUCE_MAX = _reduce("reduce_max", lambda x, axis: x.max(axis=axis, **_start(x, 0)))
REDUCE_MIN = _reduce("reduce_min", lambda x, axis: x.min(axis=axis, **_start(x, 1)))
REDUCE_PROD = _reduce("reduce_prod", np.prod, "interpreted")
SOFTMAX = OpDef("softmax", lambda t, a, b: _softmax_type(t, a),
                lambda ctx, op, args: (_softmax(args[0], op.attrs.axis),),  # type: ignore[attr-defined]
                elementwise_cost(16.0), AxisAttrs)

CONST = _move("const", _const_type, ConstAttrs, _const)
CAST = _move("cast", _cast_type, CastAttrs, _cast)
BROADCAST = _move("broadcast", lambda t, a: rules.broadcast(t, a.shape, a.axes), BroadcastAttrs, _broadcast)
CONCAT = _move("concat", lambda t, a: rules.concat(t, a.axis), ConcatAttrs,
               lambda ctx, a, args: np.concatenate(args, axis=a.axis))
SLICE = _move("slice", lambda t, a: rules.slice_(t, a.axis, a.start, a.size, a.step), SliceAttrs, _slice)
RESHAPE = _move("reshape", lambda t, a: rules.reshape(t, a.shape), ReshapeAttrs,
                lambda ctx, a, args: args[0].reshape(resolve(a.shape, ctx.dims)))
TRANSPOSE = _move("transpose", lambda t, a: rules.transpose(t, a.perm), TransposeAttrs,
                  lambda ctx, a, args: args[0].transpose(a.perm))
REVERSE = _move("reverse", _reverse_type, AxisAttrs, lambda ctx, a, args: np.flip(args[0], a.axis))
GATHER = _move("gather", lambda t, a: rules.gather(t), Attrs, _gather)
RANDOM_MASK = _move("random_mask", _mask_type, RandomMaskAttrs, _random_mask)

YIELD = OpDef("yield", lambda t, a, b: (), _terminate, attrs=YieldAttrs, terminator=True)
RETURN = OpDef("return", lambda t, a, b: _return_type(t, a), _terminate, attrs=ReturnAttrs, terminator=True)

__all__ = ["BOOL", "Block", "CostRule", "sigmoid"]


def is_elementwise(op: Op) -> bool:
    return "elementwise" in op.opdef.tags
