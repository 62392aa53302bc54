"""Elementwise ops on vectors: one table, IR op name -> emitter, and the functions behind exp, tanh and the others.

Vectors are <W x float>, <W x i32> or <W x i1>. Accuracy over all float32 values against float64 (tests/backends/llvm
/test_vmath.py samples them): exp, log, tanh within 2 ulp, sigmoid 3 ulp or 1e-7 absolute, erf 2 ulp, pow 1 ulp;
right at 0, +-inf and NaN, denormals included. Nothing relies on fast-math. Ranges are clamped by
``select(hi < x, hi, x)``: one instruction on x86, and a NaN passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, log, nan
from types import MappingProxyType
from typing import TypeAlias

from llvmlite import ir

from rnngraph.backends.llvm.vector import F32, F64, I1, I32, I64, Builder, Emit, IRType, IRValue, Splat
from rnngraph.errors import CompileError
from rnngraph.ir import BOOL, DType
from rnngraph.ir import I32 as I32_DTYPE
from rnngraph.phases.instances import Instance

Lowering: TypeAlias = Callable[..., IRValue]  # (emit, builder, *operands) -> result

LOG2E = 1.4426950408889634
LN2_HI, LN2_LO = 0.693359375, -2.12194440e-4  # hi has 9 bits: its product with an exponent is exact
ROUND = 1.5 * 2.0**23  # x + ROUND has the nearest integer to x in its low mantissa bits
ROUND_BITS = 0x4B400000
# exp(r) on |r| <= ln(2)/2: 1 + r + r^2 (c2 + c3 r + ...), relative error 0.06 * 2^-24.
EXP_TERMS = (1.0, 1.0, 0.4999999403953552, 0.16666509211063385, 0.04166852682828903, 0.008370134979486465,
             0.0013811661629006267)
# tanh(x) = x + x^3 P(x^2) on |x| <= 0.63, relative error 0.08 * 2^-24.
TANH_TERMS = (-0.33333277702331543, 0.13331331312656403, -0.05373000726103783, 0.020606176927685738,
              -0.005666978191584349)
# log(1 + f) = f - f^2/2 + f^3 P(f) on sqrt(1/2) <= 1 + f <= sqrt(2) (Cephes logf).
LOG_TERMS = (3.3333331174e-1, -2.4999993993e-1, 2.0000714765e-1, -1.6668057665e-1, 1.4249322787e-1,
             -1.2420140846e-1, 1.1676998740e-1, -1.1514610310e-1, 7.0376836292e-2)
SQRT_HALF_BITS = 0x3F3504F3
# erf(x) = x + x P(x^2) below 475/512 and 1 - exp(-x + x P(x)) above.
ERF_SMALL = (1.28379166e-1, -3.76125336e-1, 1.12819925e-1, -2.67681349e-2, 4.99119423e-3, -5.96761703e-4)
ERF_LARGE = (-1.28717512e-1, -6.34846687e-1, -1.06777877e-1, 2.42546219e-2, -3.88396438e-3, 3.83197126e-4,
             -1.72853470e-5)


# --- pieces ----------------------------------------------------------------------------------------------------


def horner(e: Emit, b: Builder, x: IRValue, terms: Sequence[float], element: IRType = F32) -> IRValue:
    """terms[0] + terms[1] x + terms[2] x^2 + ..."""
    p = e.const(terms[-1], element)
    for c in reversed(terms[:-1]):
        p = e.fma(b, p, x, e.const(c, element))
    return p


def at_most(b: Builder, x: IRValue, bound: IRValue) -> IRValue:
    """min(x, bound); NaN stays NaN."""
    return b.select(b.fcmp_ordered("<", bound, x), bound, x)


def at_least(b: Builder, x: IRValue, bound: IRValue) -> IRValue:
    """max(x, bound); NaN stays NaN."""
    return b.select(b.fcmp_ordered(">", bound, x), bound, x)


def copy_sign(e: Emit, b: Builder, magnitude: IRValue, sign: IRValue) -> IRValue:
    """``magnitude`` (not negative) with the sign of ``sign``."""
    bit = b.and_(e.bits(b, sign), e.const(-(2**31), I32))
    return e.floats(b, b.or_(bit, e.bits(b, magnitude)))


def _exp_bounded(e: Emit, b: Builder, x: IRValue, scale: float) -> IRValue:
    """exp(scale * x) for -87 <= scale * x <= 89; inf from 88.38 on. ``scale`` is +-2^k, folded into the constants."""
    bias = ROUND + 127.0
    t = e.fma(b, x, e.const(LOG2E * scale), e.const(bias))
    n = b.fsub(t, e.const(bias))
    power = e.floats(b, b.shl(e.bits(b, t), e.const(23, I32)))  # low bits of t are n + 127: 2^n
    r = e.fma(b, n, e.const(-LN2_HI / scale), x)
    r = e.fma(b, n, e.const(-LN2_LO / scale), r)
    return b.fmul(horner(e, b, r, [c * scale**k for k, c in enumerate(EXP_TERMS)]), power)


def _once(name: str, body: Lowering) -> Lowering:
    """A lowering that calls a function of the module, written on first use (`Emit.math_inline` says how)."""

    def lower(e: Emit, b: Builder, *args: IRValue) -> IRValue:
        fn = e.once(f"rg.{name}", args[0].type, [a.type for a in args],
                    lambda fb, params: body(e, fb, *params), e.math_inline)
        return b.call(fn, args)

    return lower


# --- functions -------------------------------------------------------------------------------------------------


def _exp(e: Emit, b: Builder, x: IRValue) -> IRValue:
    x = at_least(b, at_most(b, x, e.const(89.0)), e.const(-104.5))
    t = e.fma(b, x, e.const(LOG2E), e.const(ROUND))
    n = b.fsub(t, e.const(ROUND))
    r = e.fma(b, n, e.const(-LN2_LO), e.fma(b, n, e.const(-LN2_HI), x))
    p = horner(e, b, r, EXP_TERMS)
    # 2^n by two factors: n reaches 128 (overflow must come from the product) and -151 (denormals round once)
    whole = b.sub(e.bits(b, t), e.const(ROUND_BITS, I32))
    half = b.ashr(whole, e.const(1, I32))
    for part in (half, b.sub(whole, half)):
        p = b.fmul(p, e.floats(b, b.shl(b.add(part, e.const(127, I32)), e.const(23, I32))))
    return p


def _log(e: Emit, b: Builder, x: IRValue) -> IRValue:
    tiny = b.fcmp_ordered("<", x, e.const(2.0**-126))
    scaled = b.select(tiny, b.fmul(x, e.const(2.0**23)), x)
    bits = e.bits(b, scaled)
    exponent = b.ashr(b.sub(bits, e.const(SQRT_HALF_BITS, I32)), e.const(23, I32))
    f = b.fsub(e.floats(b, b.sub(bits, b.shl(exponent, e.const(23, I32)))), e.const(1.0))
    n = b.sitofp(exponent, e.f32v)
    n = b.select(tiny, b.fsub(n, e.const(23.0)), n)
    square = b.fmul(f, f)
    tail = b.fmul(b.fmul(f, square), horner(e, b, f, LOG_TERMS))
    tail = e.fma(b, n, e.const(LN2_LO), tail)
    tail = e.fma(b, square, e.const(-0.5), tail)
    out = e.fma(b, n, e.const(LN2_HI), b.fadd(f, tail))
    out = b.select(b.fcmp_ordered("<", x, e.const(inf)), out, x)  # inf and NaN are their own logarithm
    edge = b.select(b.fcmp_ordered("==", x, e.const(0.0)), e.const(-inf), e.const(nan))
    return b.select(b.fcmp_ordered(">", x, e.const(0.0)), out, edge)


def _sigmoid(e: Emit, b: Builder, x: IRValue) -> IRValue:
    x = at_least(b, at_most(b, x, e.const(87.0)), e.const(-88.9))
    return b.fdiv(e.const(1.0), b.fadd(e.const(1.0), _exp_bounded(e, b, x, -1.0)))


def _tanh(e: Emit, b: Builder, x: IRValue) -> IRValue:
    size = _abs(e, b, x)
    grown = _exp_bounded(e, b, at_most(b, size, e.const(10.0)), 2.0)
    large = b.fsub(e.const(1.0), b.fdiv(e.const(2.0), b.fadd(grown, e.const(1.0))))
    square = b.fmul(x, x)
    small = e.fma(b, b.fmul(size, square), horner(e, b, square, TANH_TERMS), size)
    return copy_sign(e, b, b.select(b.fcmp_ordered("<", size, e.const(0.625)), small, large), x)


def _erf(e: Emit, b: Builder, x: IRValue) -> IRValue:
    size = _abs(e, b, x)
    t = at_most(b, size, e.const(4.0))  # erf(4) rounds to 1
    decay = _exp_bounded(e, b, e.fma(b, horner(e, b, t, ERF_LARGE), t, b.fneg(t)), 1.0)
    large = copy_sign(e, b, b.fsub(e.const(1.0), decay), x)
    small = e.fma(b, horner(e, b, b.fmul(x, x), ERF_SMALL), x, x)
    return b.select(b.fcmp_ordered("<=", size, e.const(475 / 512)), small, large)


def _floor(e: Emit, b: Builder, x: IRValue) -> IRValue:
    if e.target.has_round:
        return e.intrinsic(b, "floor", (x,))
    # Without a rounding instruction llvm.floor is a libm call per lane: go through i32 where that is exact.
    small = b.fcmp_ordered("<", _abs(e, b, x), e.const(2.0**23))
    kept = b.select(small, x, e.const(0.0))
    whole = b.sitofp(b.fptosi(kept, e.i32v), e.f32v)
    whole = b.fsub(whole, b.select(b.fcmp_ordered(">", whole, kept), e.const(1.0), e.const(0.0)))
    signed = copy_sign(e, b, _abs(e, b, whole), x)  # floor(-0.0) is -0.0
    return b.select(small, signed, x)


def _ceil(e: Emit, b: Builder, x: IRValue) -> IRValue:
    return b.fneg(_floor(e, b, b.fneg(x)))


def _round(e: Emit, b: Builder, x: IRValue) -> IRValue:
    """To the nearest integer, halves to the even one: beside 2^23 a float has no fraction left."""
    size, whole = _abs(e, b, x), e.const(2.0**23)
    near = copy_sign(e, b, b.fsub(b.fadd(size, whole), whole), x)
    return b.select(b.fcmp_ordered("<", size, whole), near, x)


def _log_double(e: Emit, b: Builder, x: IRValue) -> IRValue:
    """log of f32 lanes >= 0 as f64, error about 1e-13 * |log|: what y * log(x) needs to keep 24 bits of the power."""
    bits = b.bitcast(b.fpext(x, e.f64v), e.i64v)  # as double every f32 is normal
    shift = e.const(52, I64)
    exponent = b.ashr(b.sub(bits, e.const(0x3FE6A09E667F3BCD, I64)), shift)
    m = b.bitcast(b.sub(bits, b.shl(exponent, shift)), e.f64v)
    one = e.const(1.0, F64)
    s = b.fdiv(b.fsub(m, one), b.fadd(m, one))  # log(m) = 2 atanh(s), |s| <= 0.172
    z = b.fmul(s, s)
    series = horner(e, b, z, [2.0 / (2 * k + 1) for k in range(9)], F64)
    n = b.sitofp(b.trunc(exponent, e.i32v), e.f64v)
    out = e.fma(b, n, e.const(log(2.0), F64), b.fmul(s, series))
    out = b.select(b.fcmp_ordered("<", x, e.const(inf)), out, b.fpext(x, e.f64v))
    return b.select(b.fcmp_ordered("==", x, e.const(0.0)), e.const(-inf, F64), out)


def _exp_double(e: Emit, b: Builder, t: IRValue) -> IRValue:
    """exp of f64 lanes, rounded to f32 by the conversion: overflow and denormals come out right."""
    bound = e.const(200.0, F64)
    t = at_least(b, at_most(b, t, bound), e.const(-200.0, F64))
    magic = 1.5 * 2.0**52
    shifted = e.fma(b, t, e.const(LOG2E, F64), e.const(magic, F64))
    n = b.fsub(shifted, e.const(magic, F64))
    r = e.fma(b, n, e.const(-log(2.0), F64), t)
    p = horner(e, b, r, [1.0, 1.0, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320], F64)
    power = b.shl(b.add(b.bitcast(shifted, e.i64v), e.const(1023, I64)), e.const(52, I64))
    return b.fptrunc(b.fmul(p, b.bitcast(power, e.f64v)), e.f32v)


def _pow(e: Emit, b: Builder, x: IRValue, y: IRValue) -> IRValue:
    size, zero, one = _abs(e, b, x), e.const(0.0), e.const(1.0)
    out = _exp_double(e, b, b.fmul(b.fpext(y, e.f64v), _log_double(e, b, size)))
    whole = b.fcmp_ordered("==", _floor(e, b, y), y)
    narrow = b.fcmp_ordered("<", _abs(e, b, y), e.const(2.0**24))  # from 2^24 on every float is even
    low = b.and_(b.fptosi(b.select(narrow, y, zero), e.i32v), e.const(1, I32))
    odd = b.and_(b.and_(whole, narrow), b.icmp_signed("!=", low, e.const(0, I32)))
    signed = b.and_(odd, b.icmp_signed("<", e.bits(b, x), e.const(0, I32)))  # includes x = -0 and -inf
    out = b.select(signed, b.fneg(out), out)
    root = b.and_(b.fcmp_ordered("<", x, zero), b.and_(b.fcmp_ordered("<", size, e.const(inf)), b.not_(whole)))
    out = b.select(b.and_(root, b.fcmp_ordered("==", y, y)), e.const(nan), out)
    endless = b.and_(b.fcmp_ordered("==", size, one), b.fcmp_ordered("==", _abs(e, b, y), e.const(inf)))
    unit = b.or_(b.or_(b.fcmp_ordered("==", x, one), b.fcmp_ordered("==", y, zero)), endless)
    return b.select(unit, one, out)


# --- lowerings of the simple ops ---------------------------------------------------------------------------------


def is_float(x: IRValue) -> bool:
    return bool(x.type.element == F32)


def _arithmetic(float_op: str, int_op: str) -> Lowering:
    def lower(e: Emit, b: Builder, x: IRValue, y: IRValue) -> IRValue:
        name = float_op if is_float(x) else int_op
        if not name or x.type.element == I1:
            raise CompileError(f"llvm: {float_op[1:]} has no lowering for {x.type}")
        return getattr(b, name)(x, y)

    return lower


def _extreme(sign: str) -> Lowering:
    """min and max as numpy has them: a NaN on either side gives NaN."""

    def lower(e: Emit, b: Builder, x: IRValue, y: IRValue) -> IRValue:
        if not is_float(x):
            return b.select(b.icmp_signed(sign, x, y), x, y)
        best = b.select(b.fcmp_ordered(sign, x, y), x, y)  # y when either is NaN
        return b.select(b.fcmp_unordered("uno", x, x), x, best)

    return lower


def _compare(sign: str) -> Lowering:
    def lower(e: Emit, b: Builder, x: IRValue, y: IRValue) -> IRValue:
        if is_float(x):
            return b.fcmp_unordered(sign, x, y) if sign == "!=" else b.fcmp_ordered(sign, x, y)
        signed = x.type.element != I1  # false < true
        return b.icmp_signed(sign, x, y) if signed else b.icmp_unsigned(sign, x, y)

    return lower


def _neg(e: Emit, b: Builder, x: IRValue) -> IRValue:
    return b.fneg(x) if is_float(x) else b.sub(e.const(0, I32), x)


def _abs(e: Emit, b: Builder, x: IRValue) -> IRValue:
    if is_float(x):
        return e.floats(b, b.and_(e.bits(b, x), e.const(0x7FFFFFFF, I32)))
    return b.select(b.icmp_signed("<", x, e.const(0, I32)), _neg(e, b, x), x)


def _sign(e: Emit, b: Builder, x: IRValue) -> IRValue:
    kind = x.type.element
    zero = e.const(0, kind)
    less, more = _compare("<")(e, b, x, zero), _compare(">")(e, b, x, zero)
    return b.select(more, e.const(1, kind), b.select(less, e.const(-1, kind), x))  # 0 and NaN stay


def _power(e: Emit, b: Builder, x: IRValue, y: IRValue) -> IRValue:
    exponent = y.constant if isinstance(y, Splat) else None
    if exponent == 1:
        return x
    if exponent in (2, 3):
        square = b.fmul(x, x)
        return square if exponent == 2 else b.fmul(square, x)
    if exponent == -1:
        return b.fdiv(e.const(1.0), x)
    return _pow_call(e, b, x, y)


def _relu(e: Emit, b: Builder, x: IRValue) -> IRValue:
    zero = e.const(0, x.type.element)
    return at_least(b, x, zero) if is_float(x) else b.select(b.icmp_signed(">", x, zero), x, zero)


def _select(e: Emit, b: Builder, condition: IRValue, x: IRValue, y: IRValue) -> IRValue:
    return b.select(condition, x, y)


def cast(e: Emit, b: Builder, x: IRValue, element: IRType) -> IRValue:
    """Lanes of F32, I32 or I1 as ``element``, the way numpy's astype converts (to bool: is it not zero)."""
    source, kind = x.type.element, ir.VectorType(element, x.type.count)
    if source == element:
        return x
    if element == I1:
        return _compare("!=")(e, b, x, e.const(0, source))
    if source == I1:
        return b.uitofp(x, kind) if element == F32 else b.zext(x, kind)
    return b.sitofp(x, kind) if element == F32 else b.fptosi(x, kind)


_pow_call = _once("pow", _pow)

LOWERINGS: MappingProxyType[str, Lowering] = MappingProxyType({
    "add": _arithmetic("fadd", "add"), "sub": _arithmetic("fsub", "sub"), "mul": _arithmetic("fmul", "mul"),
    "div": _arithmetic("fdiv", ""), "pow": _power, "min": _extreme("<"), "max": _extreme(">"),
    "neg": _neg, "abs": _abs, "sign": _sign, "floor": _floor, "ceil": _ceil, "round": _round,
    "relu": _relu,
    "sqrt": lambda e, b, x: e.intrinsic(b, "sqrt", (x,)),
    "exp": _once("exp", _exp), "log": _once("log", _log), "tanh": _once("tanh", _tanh),
    "sigmoid": _once("sigmoid", _sigmoid), "erf": _once("erf", _erf),
    "lt": _compare("<"), "le": _compare("<="), "gt": _compare(">"), "ge": _compare(">="),
    "eq": _compare("=="), "ne": _compare("!="),
    "and": lambda e, b, x, y: b.and_(x, y), "or": lambda e, b, x, y: b.or_(x, y),
    "not": lambda e, b, x: b.xor(x, e.const(1, I1)),
    "select": _select,
})


def element_of(dtype: DType) -> IRType:
    """The lanes of a dtype in registers."""
    return {BOOL: I1, I32_DTYPE: I32}.get(dtype, F32)


def typed(e: Emit, b: Builder, i: Instance, x: IRValue) -> IRValue:
    """Numbers from memory as lanes of the instance's type: bool is stored as 0.0 and 1.0, i32 by its bits."""
    kind = element_of(i.value.type.dtype)
    return e.bits(b, x) if kind == I32 else cast(e, b, x, kind)


def stored(e: Emit, b: Builder, x: IRValue) -> IRValue:
    """Lanes as memory holds them."""
    return e.floats(b, x) if x.type.element == I32 else cast(e, b, x, F32)


def number(e: Emit, b: Builder, i: Instance) -> IRValue:
    """The number of a splat in all lanes."""
    kind = element_of(i.value.type.dtype)
    return e.const(int(i.number), I32) if kind == I32 else cast(e, b, e.const(i.number), kind)


def lowered(e: Emit, b: Builder, i: Instance, args: Sequence[IRValue]) -> IRValue:
    """An elementwise instance on its arguments."""
    if i.op.name == "cast":
        return cast(e, b, args[0], element_of(i.value.type.dtype))
    return LOWERINGS[i.op.name](e, b, *args)
