"""Elementwise ops as expressions of CUDA C: one table, IR op name -> text.

Registers are float, int or bool. The functions are CUDA's own, without fast-math: exp, tanh and erf within 2 ulp, log
within 1; pow goes through double. `helpers` is what the expressions call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isinf, isnan
from types import MappingProxyType
from typing import TypeAlias

from rnngraph.ir import BOOL, I32, DType
from rnngraph.phases.instances import Instance


@dataclass(frozen=True, slots=True)
class Expression:
    """C text and the type of what it gives: "float", "int" or "bool"."""

    text: str
    kind: str


Lowering: TypeAlias = Callable[..., Expression]

HELPERS = """
RG_DEVICE float rg_sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
RG_DEVICE float rg_least(float x, float y) { return x != x ? x : x < y ? x : y; }
RG_DEVICE float rg_most(float x, float y) { return x != x ? x : x > y ? x : y; }
RG_DEVICE float rg_sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; }
RG_DEVICE float rg_pow(float x, float y) { return (float)pow((double)x, (double)y); }
"""


def kind_of(dtype: DType) -> str:
    """What a dtype is in registers."""
    return {BOOL: "bool", I32: "int"}.get(dtype, "float")


def number(value: float, kind: str) -> Expression:
    """A constant."""
    if kind == "bool":
        return Expression("true" if value else "false", kind)
    if kind == "int":
        return Expression(f"({int(value)})", kind)
    (exact,) = struct.unpack("<f", struct.pack("<f", value)) if abs(value) <= 3.4028235677973366e38 else (value,)
    if isnan(exact):
        return Expression("__int_as_float(0x7fc00000)", kind)
    if isinf(exact):
        return Expression(f"__int_as_float({'0x7f800000' if exact > 0 else '(int)0xff800000'})", kind)
    return Expression(f"({float(exact).hex()}f)", kind)


def cast(x: Expression, kind: str) -> Expression:
    """As numpy's astype converts (to bool: is it not zero)."""
    if x.kind == kind:
        return x
    if kind == "bool":
        return Expression(f"({x.text} != 0)", kind)
    return Expression(f"static_cast<{kind}>({x.text})", kind)


def _infix(sign: str) -> Lowering:
    return lambda x, y: Expression(f"({x.text} {sign} {y.text})", x.kind)


def _compare(sign: str) -> Lowering:
    return lambda x, y: Expression(f"({x.text} {sign} {y.text})", "bool")


def _call(name: str) -> Lowering:
    return lambda *xs: Expression(f"{name}({', '.join(x.text for x in xs)})", "float")


def _extreme(name: str, sign: str) -> Lowering:
    """min and max as numpy has them: a NaN on either side gives NaN."""
    def lower(x: Expression, y: Expression) -> Expression:
        if x.kind == "float":
            return Expression(f"{name}({x.text}, {y.text})", "float")
        return Expression(f"({x.text} {sign} {y.text} ? {x.text} : {y.text})", x.kind)
    return lower


def _abs(x: Expression) -> Expression:
    if x.kind == "float":
        return Expression(f"fabsf({x.text})", "float")
    return Expression(f"({x.text} < 0 ? -{x.text} : {x.text})", x.kind)


def _sign(x: Expression) -> Expression:
    if x.kind == "float":
        return Expression(f"rg_sign({x.text})", "float")
    return Expression(f"(({x.text} > 0) - ({x.text} < 0))", x.kind)


def _relu(x: Expression) -> Expression:
    return Expression(f"({x.text} < 0 ? 0 : {x.text})", x.kind)  # a NaN passes


LOWERINGS: MappingProxyType[str, Lowering] = MappingProxyType({
    "add": _infix("+"), "sub": _infix("-"), "mul": _infix("*"), "div": _infix("/"), "pow": _call("rg_pow"),
    "min": _extreme("rg_least", "<"), "max": _extreme("rg_most", ">"),
    "neg": lambda x: Expression(f"(-{x.text})", x.kind), "abs": _abs, "sign": _sign, "relu": _relu,
    "floor": _call("floorf"), "ceil": _call("ceilf"), "round": _call("rintf"), "sqrt": _call("sqrtf"),
    "exp": _call("expf"), "log": _call("logf"), "tanh": _call("tanhf"), "sigmoid": _call("rg_sigmoid"),
    "erf": _call("erff"),
    "lt": _compare("<"), "le": _compare("<="), "gt": _compare(">"), "ge": _compare(">="), "eq": _compare("=="),
    "ne": _compare("!="), "and": _infix("&&"), "or": _infix("||"),
    "not": lambda x: Expression(f"(!{x.text})", "bool"),
    "select": lambda c, x, y: Expression(f"({c.text} ? {x.text} : {y.text})", x.kind),
})


def lowered(i: Instance, args: Sequence[Expression]) -> Expression:
    """An elementwise instance on its arguments."""
    if i.op.name == "cast":
        return cast(args[0], kind_of(i.value.type.dtype))
    return LOWERINGS[i.op.name](*args)


def loaded(place: str, kind: str) -> Expression:
    """A number of memory as a register of ``kind``: bool is stored as 0.0 and 1.0, i32 by its bits."""
    if kind == "int":
        return Expression(f"__float_as_int({place})", kind)
    return cast(Expression(place, "float"), kind)


def stored(x: Expression) -> str:
    """A register as memory holds it."""
    return f"__int_as_float({x.text})" if x.kind == "int" else cast(x, "float").text


__all__ = ["HELPERS", "LOWERINGS", "Expression", "cast", "kind_of", "loaded", "lowered", "number", "stored"]
