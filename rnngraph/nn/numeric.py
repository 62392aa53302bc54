"""Elementwise functions beyond those of gates, and what works along one axis in order; part of `rnngraph.nn.ops`."""

from __future__ import annotations

import math

from rnngraph.errors import TraceError
from rnngraph.ir import Dim, make_op, math_ops, order_ops
from rnngraph.ir import ops as ir_ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Operand, Tensor, composable, elementwise, wrap

# --- elementwise --------------------------------------------------------------------------------------------


def ceil(x: Tensor) -> Tensor:
    return elementwise(math_ops.CEIL, x)


def round(x: Tensor) -> Tensor:
    """The nearest whole number; halves go to the even one, as in numpy, PyTorch and ONNX."""
    return elementwise(math_ops.ROUND, x)


def sin(x: Tensor) -> Tensor:
    return elementwise(math_ops.SIN, x)


def cos(x: Tensor) -> Tensor:
    return elementwise(math_ops.COS, x)


def tan(x: Tensor) -> Tensor:
    return elementwise(math_ops.TAN, x)


def asin(x: Tensor) -> Tensor:
    return elementwise(math_ops.ASIN, x)


def acos(x: Tensor) -> Tensor:
    return elementwise(math_ops.ACOS, x)


def atan(x: Tensor) -> Tensor:
    return elementwise(math_ops.ATAN, x)


def sinh(x: Tensor) -> Tensor:
    return elementwise(math_ops.SINH, x)


def cosh(x: Tensor) -> Tensor:
    return elementwise(math_ops.COSH, x)


def asinh(x: Tensor) -> Tensor:
    return elementwise(math_ops.ASINH, x)


def acosh(x: Tensor) -> Tensor:
    return elementwise(math_ops.ACOSH, x)


def atanh(x: Tensor) -> Tensor:
    return elementwise(math_ops.ATANH, x)


def mod(a: Operand, b: Operand) -> Tensor:
    """a - b * floor(a / b), with the sign of b: Python's %, PyTorch's remainder."""
    return elementwise(math_ops.MOD, a, b)


def fmod(a: Operand, b: Operand) -> Tensor:
    """a - b * trunc(a / b), with the sign of a: C's fmod."""
    return elementwise(math_ops.REM, a, b)


def isnan(x: Tensor) -> Tensor:
    """bool: where x is no number."""
    return elementwise(ir_ops.NE, x, x)


def isinf(x: Tensor) -> Tensor:
    """bool: where x is infinite, of either sign."""
    return elementwise(ir_ops.EQ, elementwise(ir_ops.ABS, x), math.inf)


def logical_xor(a: Operand, b: Operand) -> Tensor:
    """bool: where one of the bools a and b holds, and not both."""
    return elementwise(ir_ops.NE, a, b)


def bitwise_and(a: Operand, b: Operand) -> Tensor:
    return elementwise(math_ops.BIT_AND, a, b)


def bitwise_or(a: Operand, b: Operand) -> Tensor:
    return elementwise(math_ops.BIT_OR, a, b)


def bitwise_xor(a: Operand, b: Operand) -> Tensor:
    return elementwise(math_ops.BIT_XOR, a, b)


def bitwise_not(x: Tensor) -> Tensor:
    return elementwise(math_ops.BIT_NOT, x)


def shift_left(x: Operand, places: Operand) -> Tensor:
    """Integer bits moved up; 0 where all of them leave."""
    return elementwise(math_ops.SHIFT_LEFT, x, places)


def shift_right(x: Operand, places: Operand) -> Tensor:
    """Integer bits moved down; the sign stays."""
    return elementwise(math_ops.SHIFT_RIGHT, x, places)


# --- along an axis ------------------------------------------------------------------------------------------


@composable
def argmin(x: Tensor, axis: int = -1, *, last: bool = False) -> Tensor:
    """i64: where along ``axis`` the smallest element stands, the first of equals (``last``: the last)."""
    attrs = order_ops.ArgAttrs(axis_of("argmin", x, axis), last)
    return wrap(active().builder.op(order_ops.ARGMIN, x.value(), attrs=attrs))


@composable
def arg_largest(x: Tensor, axis: int = -1, *, last: bool = False) -> Tensor:
    """i64: where along ``axis``, of any size, the largest element stands, the first of equals (``last``: the last).

    `rnngraph.nn.ops.argmax` is the same for floats and an axis of integer size, and runs in native loops.
    """
    attrs = order_ops.ArgAttrs(axis_of("argmax", x, axis), last)
    return wrap(active().builder.op(order_ops.ARGMAX, x.value(), attrs=attrs))


@composable
def top_k(x: Tensor, k: Dim, axis: int = -1, *, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest elements along ``axis`` (or smallest), in order, and their indices as i64 (PyTorch's topk).

    Of equals the first comes first. ShapeError when k is larger than an axis of known size.

    >>> from rnngraph.nn import Input, ops
    >>> [str(t.type) for t in ops.top_k(Input(("batch", 10)), 3)]
    ['f32[batch,3]', 'i64[batch,3]']
    """
    builder = active().builder
    attrs = order_ops.TopKAttrs(axis_of("top_k", x, axis), k, largest)
    values, indices = builder.insert(make_op(order_ops.TOP_K, (x.value(),), attrs, layer=builder.layer)).results
    return wrap(values), wrap(indices)


@composable
def cumsum(x: Tensor, axis: int = -1, *, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Sums of the elements so far along ``axis``; ``exclusive``: without the element itself; ``reverse``: from the
    end."""
    attrs = order_ops.CumsumAttrs(axis_of("cumsum", x, axis), exclusive, reverse)
    return wrap(active().builder.op(order_ops.CUMSUM, x.value(), attrs=attrs))


def axis_of(op: str, x: Tensor, axis: int) -> int:
    """The axis counted from the front; TraceError when x has none such."""
    if isinstance(axis, bool) or not isinstance(axis, int) or not -x.rank <= axis < x.rank:
        raise TraceError(f"{op}: axis {axis} does not fit {x.type} of rank {x.rank}")
    return axis % x.rank


__all__ = [
    "acos", "acosh", "arg_largest", "argmin", "asin", "asinh", "atan", "atanh", "bitwise_and", "bitwise_not",
    "bitwise_or", "bitwise_xor", "ceil", "cos", "cosh", "cumsum", "fmod", "isinf", "isnan", "logical_xor", "mod",
    "round", "shift_left", "shift_right", "sin", "sinh", "tan", "top_k",
]
