"""Elementwise ops beyond the gates' own: rounding, trigonometry, remainders, bits of integers.

The tag "interpreted" says that only the reference runs an op so far; a backend that lowers it takes the tag away.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnngraph.ir import typing as rules
from rnngraph.ir.declare import as_numpy, float_op, int_op
from rnngraph.ir.opdef import Array, OpDef, as_array, elementwise_cost

_CODE = "interpreted"


def _mod(x: Array, y: Array) -> Any:
    with np.errstate(all="ignore"):
        return np.mod(x, y)


def _rem(x: Array, y: Array) -> Any:
    with np.errstate(all="ignore"):
        return np.fmod(x, y)


def _remainder(name: str, f: Any) -> OpDef:
    return OpDef(name, lambda t, a, b: rules.binary(name, t), as_numpy(f), elementwise_cost(4.0),
                 tags=frozenset({"elementwise", _CODE}))


def _places(x: Array, by: Array) -> tuple[Array, Array]:
    """The numbers of places as far as numpy shifts, and where all bits leave: negative numbers are large ones."""
    bits = x.dtype.itemsize * 8
    return np.clip(by, 0, bits - 1).astype(x.dtype), (by < 0) | (by >= bits)


def _shift_left(x: Array, by: Array) -> Array:
    """0 where all bits leave."""
    places, gone = _places(x, by)
    return as_array(np.where(gone, x.dtype.type(0), np.left_shift(x, places)))


def _shift_right(x: Array, by: Array) -> Array:
    """Arithmetic: the sign stays, what leaves below is gone."""
    places, gone = _places(x, by)
    sign = np.zeros_like(x) if x.dtype.kind == "u" else np.where(x < 0, x.dtype.type(-1), x.dtype.type(0))
    return as_array(np.where(gone, sign, np.right_shift(x, places)))


CEIL = float_op("ceil", np.ceil, 1.0)
ROUND = float_op("round", np.rint, 1.0)  # halves go to the even neighbour
SIN = float_op("sin", np.sin, 20.0, "transcendental", _CODE)
COS = float_op("cos", np.cos, 20.0, "transcendental", _CODE)
TAN = float_op("tan", np.tan, 24.0, "transcendental", _CODE)
ASIN = float_op("asin", np.arcsin, 24.0, "transcendental", _CODE)
ACOS = float_op("acos", np.arccos, 24.0, "transcendental", _CODE)
ATAN = float_op("atan", np.arctan, 24.0, "transcendental", _CODE)
SINH = float_op("sinh", np.sinh, 24.0, "transcendental", _CODE)
COSH = float_op("cosh", np.cosh, 24.0, "transcendental", _CODE)
ASINH = float_op("asinh", np.arcsinh, 24.0, "transcendental", _CODE)
ACOSH = float_op("acosh", np.arccosh, 24.0, "transcendental", _CODE)
ATANH = float_op("atanh", np.arctanh, 24.0, "transcendental", _CODE)

MOD = _remainder("mod", _mod)  # has the divisor's sign, as Python's % has
REM = _remainder("rem", _rem)  # has the dividend's sign, as C's fmod has

BIT_AND = int_op("bit_and", np.bitwise_and, 2, "commutative", _CODE)
BIT_OR = int_op("bit_or", np.bitwise_or, 2, "commutative", _CODE)
BIT_XOR = int_op("bit_xor", np.bitwise_xor, 2, "commutative", _CODE)
BIT_NOT = int_op("bit_not", np.bitwise_not, 1, _CODE)
SHIFT_LEFT = int_op("shift_left", _shift_left, 2, _CODE)
SHIFT_RIGHT = int_op("shift_right", _shift_right, 2, _CODE)
