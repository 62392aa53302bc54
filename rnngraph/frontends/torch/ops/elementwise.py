"""Arithmetic, comparisons and functions of single elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from rnngraph.frontends.torch.ops.numbers import cast, common, pair, scalar
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import BOOL, F32, F64, DType
from rnngraph.ir import ops as ir_ops
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor, elementwise


def result(node: Node, *operands: Any) -> DType:
    """The dtype that PyTorch gives the node's result."""
    return node.dtype or common(*operands)


@handler("aten.add", each_step=True)
def add(node: Node, self: Any, other: Any, alpha: Any = 1) -> Tensor:
    dtype = result(node, self, other)
    a, b = pair(self, other, dtype)
    if dtype is BOOL:
        return ops.logical_or(a, b)
    return elementwise(ir_ops.ADD, a, b if alpha == 1 else _times(b, alpha, dtype))


def _times(x: Any, by: Any, dtype: DType) -> Tensor:
    return elementwise(ir_ops.MUL, *pair(x, by, dtype))


@handler("aten.sub", "aten.subtract", each_step=True)
def sub(node: Node, self: Any, other: Any, alpha: Any = 1) -> Tensor:
    dtype = result(node, self, other)
    a, b = pair(self, other, dtype)
    return elementwise(ir_ops.SUB, a, b if alpha == 1 else _times(b, alpha, dtype))


@handler("aten.rsub", each_step=True)
def rsub(node: Node, self: Any, other: Any, alpha: Any = 1) -> Tensor:
    return sub(node, other, self, alpha)


@handler("aten.mul", "aten.multiply", each_step=True)
def mul(node: Node, self: Any, other: Any) -> Tensor:
    dtype = result(node, self, other)
    a, b = pair(self, other, dtype)
    return ops.logical_and(a, b) if dtype is BOOL else elementwise(ir_ops.MUL, a, b)


@handler("aten.div", "aten.divide", "aten.true_divide", each_step=True)
def div(node: Node, self: Any, other: Any, rounding_mode: str | None = None) -> Tensor:
    dtype = result(node, self, other)
    if rounding_mode is not None and dtype.kind == "int":
        a, b = pair(self, other, F64)
        return ops.cast(_rounded(elementwise(ir_ops.DIV, a, b), rounding_mode), dtype)
    a, b = pair(self, other, dtype)
    return _rounded(elementwise(ir_ops.DIV, a, b), rounding_mode)


@handler("aten.floor_divide", each_step=True)
def floor_divide(node: Node, self: Any, other: Any) -> Tensor:
    return div(node, self, other, "floor")


def _rounded(x: Tensor, mode: str | None) -> Tensor:
    if mode is None:
        return x
    return ops.floor(x) if mode == "floor" else trunc_of(x)


@handler("aten.remainder", each_step=True)
def remainder(node: Node, self: Any, other: Any) -> Tensor:
    """The sign is that of other."""
    return ops.mod(*pair(self, other, result(node, self, other)))


@handler("aten.fmod", each_step=True)
def fmod(node: Node, self: Any, other: Any) -> Tensor:
    """The sign is that of self."""
    return ops.fmod(*pair(self, other, result(node, self, other)))


@handler("aten.pow", "aten.float_power", each_step=True)
def power(node: Node, self: Any, exponent: Any) -> Tensor:
    dtype = result(node, self, exponent)
    if isinstance(exponent, int | float) and not isinstance(exponent, bool):
        x = cast(self, dtype)
        simple: dict[float, Callable[[Any], Tensor]] = {
            1: lambda v: v, 2: lambda v: v * v, 3: lambda v: v * v * v, 0.5: ops.sqrt,
            -0.5: lambda v: 1.0 / ops.sqrt(v)}
        if float(exponent) in simple and (dtype.is_float or exponent in (1, 2, 3)):
            return simple[float(exponent)](x)
    return elementwise(ir_ops.POW, *pair(self, exponent, dtype))


@handler("aten.addcmul", each_step=True)
def addcmul(node: Node, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> Tensor:
    return add(node, self, mul(node, tensor1, tensor2), value)


@handler("aten.addcdiv", each_step=True)
def addcdiv(node: Node, self: Tensor, tensor1: Tensor, tensor2: Tensor, value: Any = 1) -> Tensor:
    return add(node, self, div(node, tensor1, tensor2), value)


@handler("aten.lerp", each_step=True)
def lerp(node: Node, self: Tensor, end: Tensor, weight: Any) -> Tensor:
    return add(node, self, mul(node, end - self, weight))


@handler("aten.maximum", "aten.fmax", each_step=True)
def maximum(node: Node, self: Tensor, other: Tensor) -> Tensor:
    return ops.maximum(*pair(self, other))


@handler("aten.minimum", "aten.fmin", each_step=True)
def minimum(node: Node, self: Tensor, other: Tensor) -> Tensor:
    return ops.minimum(*pair(self, other))


@handler("aten.clamp", "aten.clip", each_step=True)
def clamp(node: Node, self: Tensor, min: Any = None, max: Any = None) -> Tensor:
    dtype = result(node, self)
    x: Tensor = cast(self, dtype)
    if min is not None:
        x = ops.maximum(x, cast(min, dtype))
    return x if max is None else ops.minimum(x, cast(max, dtype))


@handler("aten.clamp_min", each_step=True)
def clamp_min(node: Node, self: Tensor, min: Any) -> Tensor:
    return clamp(node, self, min)


@handler("aten.clamp_max", each_step=True)
def clamp_max(node: Node, self: Tensor, max: Any) -> Tensor:
    return clamp(node, self, None, max)


# --- comparisons and logic -----------------------------------------------------------------------------------------

Binary = Callable[[Any, Any], Tensor]

_COMPARISONS: dict[str, Binary] = {
    "eq": ops.equal, "ne": ops.not_equal, "not_equal": ops.not_equal,
    **{name: partial(elementwise, opdef) for opdef, names in (
        (ir_ops.LT, ("lt", "less")), (ir_ops.LE, ("le", "less_equal")), (ir_ops.GT, ("gt", "greater")),
        (ir_ops.GE, ("ge", "greater_equal"))) for name in names}}


@handler(*(f"aten.{name}" for name in _COMPARISONS), each_step=True)
def compare(node: Node, self: Any, other: Any) -> Tensor:
    a, b = pair(self, other)
    return _COMPARISONS[node.op.removeprefix("aten.").removesuffix("_")](a, b)


def truth(x: Any) -> Tensor:
    """Whether elements are not zero."""
    if not isinstance(x, Tensor):
        return scalar(bool(x), BOOL)
    return x if x.dtype is BOOL else ops.not_equal(x, 0)


def _logical(node: Node, on_bools: Binary, on_bits: Binary, self: Any, other: Any) -> Tensor:
    """On truth values; on the bits of integers for the operators that PyTorch calls bitwise."""
    dtype = common(self, other)
    if dtype is BOOL or node.op.startswith("aten.logical"):
        return on_bools(truth(self), truth(other))
    return on_bits(*pair(self, other, dtype))


@handler("aten.logical_and", "aten.bitwise_and", "aten.__and__", "aten.__iand__", each_step=True)
def logical_and(node: Node, self: Any, other: Any) -> Tensor:
    return _logical(node, ops.logical_and, ops.bitwise_and, self, other)


@handler("aten.logical_or", "aten.bitwise_or", "aten.__or__", each_step=True)
def logical_or(node: Node, self: Any, other: Any) -> Tensor:
    return _logical(node, ops.logical_or, ops.bitwise_or, self, other)


@handler("aten.logical_xor", "aten.bitwise_xor", "aten.__xor__", each_step=True)
def logical_xor(node: Node, self: Any, other: Any) -> Tensor:
    return _logical(node, ops.not_equal, ops.bitwise_xor, self, other)


@handler("aten.logical_not", "aten.bitwise_not", each_step=True)
def logical_not(node: Node, self: Tensor) -> Tensor:
    if self.dtype.kind == "int" and node.op == "aten.bitwise_not":
        return ops.bitwise_not(self)
    return ops.logical_not(truth(self))


@handler("aten.where", each_step=True)
def where(node: Node, condition: Tensor, self: Any, other: Any) -> Tensor:
    return ops.where(truth(condition), *pair(self, other, node.dtype))


@handler("aten.masked_fill", each_step=True)
def masked_fill(node: Node, self: Tensor, mask: Tensor, value: Any) -> Tensor:
    filled, x = pair(value, self, self.dtype)
    return ops.where(truth(mask), filled, x)


@handler("aten.isnan", each_step=True)
def isnan(node: Node, self: Tensor) -> Tensor:
    return ops.not_equal(self, self)


@handler("aten.nan_to_num", each_step=True)
def nan_to_num(node: Node, self: Tensor, nan: float | None = None, posinf: float | None = None,
               neginf: float | None = None) -> Tensor:
    limit = 3.4028234663852886e38 if self.dtype is F32 else 1.7976931348623157e308
    x = ops.where(ops.equal(self, self), self, cast(nan or 0.0, self.dtype))
    x = ops.where(ops.equal(x, math.inf), limit if posinf is None else posinf, x)
    return ops.where(ops.equal(x, -math.inf), -limit if neginf is None else neginf, x)


# --- functions -----------------------------------------------------------------------------------------------------


def trunc_of(x: Tensor) -> Tensor:
    return ops.where(x >= 0.0, ops.floor(x), -ops.floor(-x))


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": ops.exp, "log": ops.log, "sqrt": ops.sqrt, "tanh": ops.tanh, "sigmoid": ops.sigmoid, "erf": ops.erf,
    "floor": ops.floor, "ceil": ops.ceil, "trunc": trunc_of, "fix": trunc_of,
    "frac": lambda x: x - trunc_of(x), "reciprocal": lambda x: 1.0 / x, "rsqrt": lambda x: 1.0 / ops.sqrt(x),
    "exp2": lambda x: ops.exp(x * math.log(2.0)), "log2": lambda x: ops.log(x) * (1.0 / math.log(2.0)),
    "log10": lambda x: ops.log(x) * (1.0 / math.log(10.0)), "log1p": lambda x: ops.log(1.0 + x),
    "expm1": lambda x: ops.exp(x) - 1.0, "sin": ops.sin, "cos": ops.cos, "tan": ops.tan, "asin": ops.asin,
    "acos": ops.acos, "atan": ops.atan, "arcsin": ops.asin, "arccos": ops.acos, "arctan": ops.atan, "sinh": ops.sinh,
    "cosh": ops.cosh, "asinh": ops.asinh, "acosh": ops.acosh, "atanh": ops.atanh,
    "logit": lambda x: ops.log(x / (1.0 - x)), "erfc": lambda x: 1.0 - ops.erf(x)}
_ON_INTEGERS = {"floor", "ceil", "trunc", "fix"}  # that leave integers as they are


@handler(*(f"aten.{name}" for name in _FUNCTIONS), each_step=True)
def function(node: Node, self: Tensor) -> Tensor:
    name = node.op.removeprefix("aten.").removesuffix("_")
    if name in _ON_INTEGERS and self.dtype.kind == "int":
        return self
    return _FUNCTIONS[name](cast(self, result(node, self)))


@handler("aten.round", each_step=True)
def round_(node: Node, self: Tensor, decimals: int = 0) -> Tensor:
    """Halves go to the even neighbour."""
    if self.dtype.kind == "int":
        return self
    return ops.round(self) if not decimals else ops.round(self * 10.0**decimals) * 10.0**-decimals


@handler("aten.neg", "aten.negative", each_step=True)
def negate(node: Node, self: Tensor) -> Tensor:
    return -self if self.dtype.is_float else 0 - self


@handler("aten.abs", "aten.absolute", each_step=True)
def absolute(node: Node, self: Tensor) -> Tensor:
    return ops.abs(self) if self.dtype.is_float else ops.maximum(self, 0 - self)


@handler("aten.sign", "aten.sgn", each_step=True)
def sign(node: Node, self: Tensor) -> Tensor:
    return ops.sign(self) if self.dtype.is_float else ops.cast(ops.sign(ops.cast(self, F64)), self.dtype)


@handler("aten.square", each_step=True)
def square(node: Node, self: Tensor) -> Tensor:
    return self * self
