"""Elementwise ops on single elements of any dtype, with numpy's results: integers wrap around, x / 0 is 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from llvmlite import ir

from rnngraph.backends.llvm.vector import F32, F64, I1, Builder, Emit, IRValue
from rnngraph.ir import BOOL, DType

Scalar: TypeAlias = Callable[[Emit, Builder, DType, Sequence[IRValue]], IRValue]


def _signed(dtype: DType) -> bool:
    return dtype.numpy.kind == "i"


def _zero(x: IRValue) -> IRValue:
    return ir.Constant(x.type, 0.0 if x.type in (F32, F64) else 0)


def _arithmetic(name: str) -> Scalar:
    def emit(e: Emit, b: Builder, dtype: DType, args: Sequence[IRValue]) -> IRValue:
        return getattr(b, f"f{name}" if dtype.is_float else name)(*args)

    return emit


def compare(b: Builder, sign: str, dtype: DType, x: IRValue, y: IRValue) -> IRValue:
    """x sign y; false where one is NaN, but for !=."""
    if dtype.is_float:
        return b.fcmp_unordered(sign, x, y) if sign == "!=" else b.fcmp_ordered(sign, x, y)
    return b.icmp_signed(sign, x, y) if _signed(dtype) else b.icmp_unsigned(sign, x, y)


def _comparison(sign: str) -> Scalar:
    return lambda e, b, dtype, args: compare(b, sign, dtype, *args)


def extreme(b: Builder, sign: str, dtype: DType, x: IRValue, y: IRValue) -> IRValue:
    """The one that is less or greater; NaN when one is."""
    best = b.select(compare(b, sign, dtype, x, y), x, y)
    return b.select(b.fcmp_unordered("uno", x, x), x, best) if dtype.is_float else best


def _extreme(sign: str) -> Scalar:
    return lambda e, b, dtype, args: extreme(b, sign, dtype, *args)


def _div(e: Emit, b: Builder, dtype: DType, args: Sequence[IRValue]) -> IRValue:
    if dtype.is_float:
        return b.fdiv(*args)
    return _divided(b, dtype, args, b.sdiv if _signed(dtype) else b.udiv)


def _divided(b: Builder, dtype: DType, args: Sequence[IRValue], divide: Callable[..., IRValue]) -> IRValue:
    """A division that traps nowhere: 0 where the divisor is 0; the least number by -1 wraps around."""
    x, y = args
    one = ir.Constant(x.type, 1)
    none = b.icmp_signed("==", y, _zero(y))
    if not _signed(dtype):
        return b.select(none, _zero(x), divide(x, b.select(none, one, y)))
    minus = b.icmp_signed("==", y, ir.Constant(y.type, -1))
    safe = divide(x, b.select(b.or_(none, minus), one, y))
    negated = b.sub(_zero(x), x) if divide.__name__ == "sdiv" else _zero(x)
    return b.select(none, _zero(x), b.select(minus, negated, safe))


def _rem(e: Emit, b: Builder, dtype: DType, args: Sequence[IRValue]) -> IRValue:
    """The remainder with the dividend's sign."""
    return _divided(b, dtype, args, b.srem if _signed(dtype) else b.urem)


def _mod(e: Emit, b: Builder, dtype: DType, args: Sequence[IRValue]) -> IRValue:
    """The remainder with the divisor's sign."""
    rem = _rem(e, b, dtype, args)
    if not _signed(dtype):
        return rem
    other = b.icmp_signed("<", b.xor(rem, args[1]), _zero(rem))
    moved = b.and_(other, b.icmp_signed("!=", rem, _zero(rem)))
    return b.select(moved, b.add(rem, args[1]), rem)


def _neg(e: Emit, b: Builder, dtype: DType, args: Sequence[IRValue]) -> IRValue:
    return b.fneg(args[0]) if dtype.is_float else b.sub(_zero(args[0]), args[0])


def _abs(e: Emit, b: Builder, dtype: DType, args: Sequence[IRValue]) -> IRValue:
    if dtype.is_float:
        return e.intrinsic(b, "fabs", args)
    if not _signed(dtype):
        return args[0]
    return b.select(b.icmp_signed("<", args[0], _zero(args[0])), _neg(e, b, dtype, args), args[0])


def _sign(e: Emit, b: Builder, dtype: DType, args: Sequence[IRValue]) -> IRValue:
    x, zero = args[0], _zero(args[0])
    one, least = (ir.Constant(x.type, n if not dtype.is_float else float(n)) for n in (1, -1))
    above = b.select(compare(b, ">", dtype, x, zero), one, x if dtype.is_float else zero)  # NaN, -0.0 stay
    return b.select(compare(b, "<", dtype, x, zero), least, above)


def convert(b: Builder, x: IRValue, source: DType, to: DType) -> IRValue:
    """An element as another dtype, as numpy's astype converts."""
    if source is to:
        return x
    if to is BOOL:
        return compare(b, "!=", source, x, _zero(x))
    if to.is_float:
        kind = F32 if to.itemsize == 4 else F64
        if source.is_float:
            return b.fptrunc(x, kind) if source.itemsize > to.itemsize else b.fpext(x, kind)
        return b.sitofp(x, kind) if _signed(source) else b.uitofp(x, kind)
    kind = ir.IntType(8 * to.itemsize)
    if source.is_float:
        return b.fptosi(x, kind) if _signed(to) else b.fptoui(x, kind)
    width = 1 if source is BOOL else 8 * source.itemsize
    if width == kind.width:
        return x
    return b.trunc(x, kind) if width > kind.width else (b.sext if _signed(source) else b.zext)(x, kind)


def _not(e: Emit, b: Builder, dtype: DType, args: Sequence[IRValue]) -> IRValue:
    return b.xor(args[0], ir.Constant(args[0].type, 1 if args[0].type == I1 else -1))


SCALARS: Mapping[str, Scalar] = MappingProxyType({
    "add": _arithmetic("add"), "sub": _arithmetic("sub"), "mul": _arithmetic("mul"), "div": _div,
    "mod": _mod, "rem": _rem, "min": _extreme("<"), "max": _extreme(">"), "neg": _neg, "abs": _abs, "sign": _sign,
    "lt": _comparison("<"), "le": _comparison("<="), "gt": _comparison(">"), "ge": _comparison(">="),
    "eq": _comparison("=="), "ne": _comparison("!="),
    "and": lambda e, b, dtype, args: b.and_(*args), "or": lambda e, b, dtype, args: b.or_(*args), "not": _not,
    "bit_and": lambda e, b, dtype, args: b.and_(*args), "bit_or": lambda e, b, dtype, args: b.or_(*args),
    "bit_xor": lambda e, b, dtype, args: b.xor(*args), "bit_not": _not,
    "select": lambda e, b, dtype, args: b.select(*args),
})
