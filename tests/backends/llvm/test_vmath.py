"""The vector functions over all of float32 (every 1009th bit pattern) against float64, and each op against numpy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from ctypes import c_int64, c_void_p
from math import erf, inf, nan
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numpy.typing import NDArray

from rnngraph.backends.llvm import cpu, jit, vmath
from rnngraph.backends.llvm.vector import F32, I1, I8, I32, I64, PTR, VOID, Builder, Emit, IRType, IRValue, Splat
from rnngraph.errors import CompileError
from rnngraph.ir import ops
from rnngraph.ir.opdef import OpDef
from rnngraph.ir.table import OPS
from tests.backends.llvm.helpers import TARGETS, callable_at

Array = NDArray[Any]
ELEMENTS = {np.dtype(np.float32): F32, np.dtype(np.int32): I32, np.dtype(np.bool_): I1}


def _load(e: Emit, b: Builder, base: IRValue, index: IRValue, element: IRType) -> IRValue:
    if element == I1:  # numpy keeps one bool in a byte
        bytes_ = e.load(b, e.at(b, base, index, I8), ir.VectorType(I8, e.W), align=1)
        return b.icmp_unsigned("!=", bytes_, Splat(I8, e.W, 0))
    return e.load(b, e.at(b, base, index, element), {str(F32): e.f32v, str(I32): e.i32v}[str(element)])


def _store(e: Emit, b: Builder, x: IRValue, base: IRValue, index: IRValue) -> None:
    element = x.type.element
    if element == I1:
        x, element = b.zext(x, ir.VectorType(I8, e.W)), I8
    e.store(b, x, e.at(b, base, index, element), align=1)


@functools.cache
def compiled(level: str, lowering: Callable[..., IRValue], kinds: tuple[np.dtype[Any], ...]) -> Callable[..., None]:
    """void f(n, out, inputs...): the lowering over vectors; n is a multiple of the width."""
    target = TARGETS[level]
    e = Emit(target)
    fn, b = e.function("f", VOID, [I64, PTR, *(PTR for _ in kinds)])
    n, out, *inputs = fn.args
    with e.for_range(b, 0, n, e.W) as loop:
        args = [_load(e, b, p, loop.index, ELEMENTS[k]) for p, k in zip(inputs, kinds, strict=True)]
        _store(e, b, lowering(e, b, *args), out, loop.index)
    b.ret_void()
    library = jit.Library([jit.compile_object(e.text(), target)], ["f"])
    return callable_at(library, "f", c_int64, *(c_void_p for _ in range(len(kinds) + 1)))


def apply(level: str, lowering: Callable[..., IRValue], *inputs: Array, result: Any = np.float32) -> Array:
    assert all(len(x) % 16 == 0 for x in inputs)
    out = np.empty(len(inputs[0]), result)
    compiled(level, lowering, tuple(x.dtype for x in inputs))(len(out), out, *inputs)
    return out


@functools.cache
def samples() -> Array:
    """Every 1009th float32, the edges of every range the functions clamp to, and their neighbours."""
    bits = np.arange(0, 2**32, 1009, dtype=np.uint64).astype(np.uint32)
    edges = np.array([0, 1, 2**-126, 2**-149, 0.625, 475 / 512, 9, 10, 4, 87, 88.37, 88.72283, 88.72284, 88.9, 89,
                      103.97, 104.5, 2**23, 2**24, np.sqrt(0.5), np.sqrt(2), inf, nan], np.float32)
    near = np.concatenate([edges, np.nextafter(edges, np.float32(inf)), np.nextafter(edges, np.float32(-inf))])
    found = np.concatenate([bits.view(np.float32), near, -near])
    return found[len(found) % 16:]


def error_ulp(got: Array, exact: Array) -> Array:
    """How many units in the last place of the float32 nearest to ``exact`` each result is off; 0 where both are
    the same infinity or both NaN, inf where only one is."""
    nearest = exact.astype(np.float32)
    same = (got == nearest) | (np.isnan(got) & np.isnan(nearest))
    with np.errstate(invalid="ignore"):
        off = np.abs(got.astype(np.float64) - exact) / np.spacing(np.abs(nearest)).astype(np.float64)
    return np.where(same & ~np.isfinite(nearest), 0.0, np.where(np.isfinite(off), off, inf))


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp, "log": np.log, "tanh": np.tanh, "sigmoid": ops.sigmoid, "sqrt": np.sqrt, "floor": np.floor,
    "ceil": np.ceil, "round": np.rint,
    "erf": np.vectorize(erf, otypes=[np.float64])}
ULP = {"exp": 1.1, "log": 1.0, "tanh": 1.4, "sigmoid": 3.0, "sqrt": 0.5, "floor": 0.0, "ceil": 0.0, "round": 0.0,
       "erf": 1.2}


@functools.cache
def exact(name: str) -> Array:
    with np.errstate(all="ignore"):
        return FUNCTIONS[name](samples().astype(np.float64))


@pytest.mark.parametrize("level", TARGETS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_over_all_floats(level: str, name: str) -> None:
    with np.errstate(all="ignore"):
        got = apply(level, vmath.LOWERINGS[name], samples())
        off = error_ulp(got, exact(name))
        if name == "sigmoid":  # below exp(-88) it is 0: 1e-38 off, and many units
            off = np.where(np.abs(got - exact(name)) <= 1e-37, 0.0, off)
    worst = int(off.argmax())
    assert off[worst] <= ULP[name], f"{name}({samples()[worst]!r}) = {got[worst]!r}, exact {exact(name)[worst]!r}"


@pytest.mark.parametrize("level", TARGETS)
def test_edges_are_exact(level: str) -> None:
    x = np.array([0.0, -0.0, inf, -inf, nan, 1.0, -1.0, 1e-45, -1e-45, 89, -88.8, 100, -100, -104.5, 20, -20],
                 np.float32)
    want = {
        "exp": [1, 1, inf, 0, nan, np.e, 1 / np.e, 1, 1, inf],
        "log": [-inf, -inf, inf, nan, nan, 0, nan, -103.27893, nan],
        "tanh": [0.0, -0.0, 1, -1, nan, 0.7615942, -0.7615942, 1e-45, -1e-45, 1, -1, 1, -1, -1, 1, -1],
        "sigmoid": [0.5, 0.5, 1, 0, nan, 0.7310586, 0.26894143, 0.5, 0.5, 1],
        "erf": [0.0, -0.0, 1, -1, nan, 0.8427008, -0.8427008, 1e-45, -1e-45, 1, -1, 1, -1, -1, 1, -1],
        "floor": [0.0, -0.0, inf, -inf, nan, 1, -1, 0, -1, 89, -89],
    }
    for name, values in want.items():
        got, expected = apply(level, vmath.LOWERINGS[name], x)[:len(values)], np.array(values, np.float32)
        np.testing.assert_allclose(got, expected, rtol=2e-7, atol=0, err_msg=name)
        signed = (expected == 0) & (np.array(name) != "log")
        np.testing.assert_array_equal(np.signbit(got[signed]), np.signbit(expected[signed]), err_msg=name)


SPECIAL = np.array([0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, 1.5, -1.5, inf, -inf, nan, 1e-45, -1e-45, 1e38, -1e38,
                    2**24, 2**24 - 1, 1 - 2**24, 1.0000001, 0.9999999], np.float32)


def pairs() -> tuple[Array, Array]:
    """All pairs of special values, random bit patterns, and random numbers whose power is neither 0 nor inf."""
    rng = np.random.default_rng(0)
    x, y = (v.ravel() for v in np.meshgrid(SPECIAL, SPECIAL))
    bits = rng.integers(0, 2**32, 2**16, dtype=np.uint32).view(np.float32)
    powers = (rng.standard_normal(2**16) * np.exp(rng.uniform(-8, 6, 2**16))).astype(np.float32)
    powers[::3] = np.round(powers[::3])
    near, modest = np.exp(rng.uniform(-5, 5, 2**16)), rng.uniform(-17, 17, 2**16)
    return (np.concatenate([x, bits, near.astype(np.float32)]),
            np.concatenate([y, powers, modest.astype(np.float32)]))


@pytest.mark.parametrize("level", TARGETS)
def test_pow(level: str) -> None:
    x, y = pairs()
    with np.errstate(all="ignore"):
        want = np.power(x.astype(np.float64), y.astype(np.float64))
        got = apply(level, vmath.LOWERINGS["pow"], x, y)
        off = error_ulp(got, want)
    worst = int(off.argmax())
    assert off[worst] <= 1.0, f"{x[worst]!r} ** {y[worst]!r} = {got[worst]!r}, exact {want[worst]!r}"
    numbers = ~np.isnan(got)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]))


@pytest.mark.parametrize("exponent", [1, 2, 3, -1, 0, 0.5])
def test_pow_of_a_constant(exponent: float) -> None:
    def lower(e: Emit, b: Builder, x: IRValue) -> IRValue:
        return vmath.LOWERINGS["pow"](e, b, x, e.const(exponent))

    x = pairs()[0]
    y = np.full(len(x), exponent, np.float64)  # an array: for a scalar 0.5 numpy takes sqrt, which differs at -inf
    with np.errstate(all="ignore"):
        off = error_ulp(apply("generic", lower, x), np.power(x.astype(np.float64), y))
    assert off.max() <= 1.5
    compiled.cache_clear()  # the lowering is this call's


def arguments(op: OpDef, dtype: Any) -> Sequence[Array]:
    """Operands of the dtype that cover the special values."""
    x, y = (v[:576 + 2**13] for v in pairs())
    if dtype is np.int32:
        x, y = (v.view(np.int32).copy() for v in (x, y))
        x[::5] = y[::5]
    if dtype is np.bool_:
        x, y = x > 0, y > 0
    if op is ops.SELECT:
        return pairs()[1][:len(x)] > 0, x, y
    unary = {"neg", "abs", "sign", "relu", "not"}
    return (x,) if op.name in unary else (x, y)


COMPARISONS = (ops.LT, ops.LE, ops.GT, ops.GE, ops.EQ, ops.NE)
PLAIN = [*((op, np.float32) for op in (ops.ADD, ops.SUB, ops.MUL, ops.DIV, ops.MIN, ops.MAX, ops.NEG, ops.ABS,
                                       ops.SIGN, ops.RELU, ops.SELECT, *COMPARISONS)),
         *((op, np.int32) for op in (ops.ADD, ops.SUB, ops.MUL, ops.MIN, ops.MAX, ops.NEG, ops.ABS, ops.SIGN,
                                     ops.RELU, ops.SELECT, *COMPARISONS)),
         *((op, np.bool_) for op in (ops.AND, ops.OR, ops.NOT, ops.SELECT, ops.EQ, ops.NE))]


@pytest.mark.parametrize("level", TARGETS)
@pytest.mark.parametrize(("op", "dtype"), PLAIN, ids=lambda p: getattr(p, "name", getattr(p, "__name__", "")))
def test_plain_op_is_numpy_s(level: str, op: OpDef, dtype: Any) -> None:
    args = arguments(op, dtype)
    with np.errstate(all="ignore"):
        want = np.asarray(op.evaluate(None, Fake(op), args)[0])  # type: ignore[arg-type]
    got = apply(level, vmath.LOWERINGS[op.name], *args, result=want.dtype)
    np.testing.assert_array_equal(got, want)


class Fake:
    """What an op's evaluation looks at besides its operands: the type of the result."""

    def __init__(self, op: OpDef) -> None:
        result = type("Result", (), {"type": type("Type", (), {"dtype": None})})
        self.results, self.attrs = (result,), op.attrs()


def test_every_elementwise_op_has_a_lowering() -> None:
    elementwise = {op.name for op in OPS.values() if "elementwise" in op.tags and "interpreted" not in op.tags}
    assert set(vmath.LOWERINGS) == elementwise


@pytest.mark.parametrize("source", [np.float32, np.int32, np.bool_])
@pytest.mark.parametrize("to", [np.float32, np.int32, np.bool_])
def test_cast(source: Any, to: Any) -> None:
    x = np.array([0, 1, -1, 2.5, -2.5, 100.99, -0.0, 12345] * 2, np.float32).astype(source)

    def lower(e: Emit, b: Builder, value: IRValue) -> IRValue:
        return vmath.cast(e, b, value, ELEMENTS[np.dtype(to)])

    np.testing.assert_array_equal(apply("generic", lower, x, result=to), x.astype(to))
    compiled.cache_clear()


def test_unsupported_types_are_refused() -> None:
    e = Emit(cpu.target("generic"))
    _, b = e.function("f", VOID, [])
    whole, flag = e.const(1, I32), e.const(1, I1)
    with pytest.raises(CompileError, match="div has no lowering for <4 x i32>"):
        vmath.LOWERINGS["div"](e, b, whole, whole)
    with pytest.raises(CompileError, match="add has no lowering for <4 x i1>"):
        vmath.LOWERINGS["add"](e, b, flag, flag)


@pytest.mark.parametrize("inline", ["always", "never"])
def test_functions_are_written_once(inline: str) -> None:
    e = Emit(cpu.target("generic"))
    e.math_inline = inline
    fn, b = e.function("f", e.f32v, [e.f32v])
    b.ret(vmath.LOWERINGS["tanh"](e, b, vmath.LOWERINGS["tanh"](e, b, fn.args[0])))
    assert e.text().count("define internal") == 1
    calls = jit.emit_assembly(e.text(), e.target).count("call")
    assert calls == {"always": 0, "never": 2}[inline]


@pytest.mark.parametrize("level", TARGETS)
def test_masks_and_reductions(level: str) -> None:
    e = Emit(TARGETS[level])
    fn, b = e.function("f", VOID, [I64, PTR, PTR])
    n, x, out = fn.args
    mask = e.tail_mask(b, e.num(0), n)
    lanes = e.load(b, x, mask=mask)
    e.store(b, lanes, out, mask=mask)
    for i, value in enumerate((e.reduce_sum(b, lanes), e.reduce_max(b, lanes), e.reduce_min(b, lanes))):
        e.store(b, value, e.at(b, out, e.W + i))
    b.ret_void()
    library = jit.Library([jit.compile_object(e.text(), e.target)], ["f"])
    call, data = callable_at(library, "f", c_int64, c_void_p, c_void_p), np.arange(1, e.W + 1, dtype=np.float32)
    for count in range(e.W + 1):
        got = np.full(e.W + 3, 7, np.float32)
        call(count, data, got)
        read = np.where(np.arange(e.W) < count, data, 0)
        np.testing.assert_array_equal(got[:e.W], np.where(np.arange(e.W) < count, data, 7))
        assert got[e.W:].tolist() == [read.sum(), read.max(), read.min()]


@pytest.mark.skipif(not cpu.native_target().is_x86, reason="reads x86 assembly")
@pytest.mark.parametrize("level", ["avx2", "avx512"])
@pytest.mark.parametrize(("name", "divisions", "most"), [("tanh", 1, 48), ("sigmoid", 1, 32), ("exp", 0, 36)])
def test_functions_are_short(level: str, name: str, divisions: int, most: int) -> None:
    e = Emit(cpu.target(level))  # compiled, not run: also where the machine has no AVX-512
    fn, b = e.function("f", e.f32v, [e.f32v])
    b.ret(vmath.LOWERINGS[name](e, b, fn.args[0]))
    body = jit.emit_assembly(e.text(), e.target).split("\nf:\n")[1].split(".Lfunc_end")[0]
    assert body.count("vdivps") == divisions
    assert body.count("\n\tv") <= most
    assert "call" not in body
    assert ("zmm" in body) == (level == "avx512")
