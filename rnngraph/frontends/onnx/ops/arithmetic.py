"""Elementwise arithmetic, comparisons, logic, bits, casts and choices."""

from __future__ import annotations

import functools

from rnngraph.errors import ImportModelError
from rnngraph.frontends.known import Known
from rnngraph.frontends.onnx.broadcasting import common_shape
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.reader import CODES
from rnngraph.frontends.onnx.registry import handler
from rnngraph.ir import BOOL, DTYPES, F64, DType, OpDef, math_ops
from rnngraph.ir import ops as ir_ops
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, elementwise, wrap

_ELEMENTWISE: dict[str, OpDef] = {
    "Add": ir_ops.ADD, "Sub": ir_ops.SUB, "Mul": ir_ops.MUL, "Div": ir_ops.DIV, "Tanh": ir_ops.TANH,
    "Sigmoid": ir_ops.SIGMOID, "Exp": ir_ops.EXP, "Log": ir_ops.LOG, "Sqrt": ir_ops.SQRT,
    "Neg": ir_ops.NEG, "Abs": ir_ops.ABS, "Sign": ir_ops.SIGN, "Floor": ir_ops.FLOOR, "Erf": ir_ops.ERF,
    "Less": ir_ops.LT, "Greater": ir_ops.GT, "Equal": ir_ops.EQ, "LessOrEqual": ir_ops.LE,
    "GreaterOrEqual": ir_ops.GE, "And": ir_ops.AND, "Or": ir_ops.OR, "Xor": ir_ops.NE, "Not": ir_ops.NOT,
    "Ceil": math_ops.CEIL, "Round": math_ops.ROUND, "Sin": math_ops.SIN, "Cos": math_ops.COS, "Tan": math_ops.TAN,
    "Asin": math_ops.ASIN, "Acos": math_ops.ACOS, "Atan": math_ops.ATAN, "Sinh": math_ops.SINH,
    "Cosh": math_ops.COSH, "Asinh": math_ops.ASINH, "Acosh": math_ops.ACOSH, "Atanh": math_ops.ATANH,
    "BitwiseAnd": math_ops.BIT_AND, "BitwiseOr": math_ops.BIT_OR, "BitwiseXor": math_ops.BIT_XOR,
    "BitwiseNot": math_ops.BIT_NOT,
}


def broadcast(node: Node, opdef: OpDef, *xs: Tensor) -> Tensor:
    """An op with numpy's broadcasting."""
    common_shape(node, [x.shape for x in xs])
    return elementwise(opdef, *xs)


@handler(*_ELEMENTWISE)
def arithmetic(node: Node, *xs: Tensor) -> Tensor:
    return broadcast(node, _ELEMENTWISE[node.op_type], *xs)


@handler("Max", "Min", "Sum", "Mean")
def variadic(node: Node, *xs: Tensor) -> Tensor:
    """One op on any number of tensors, from left to right."""
    opdef = {"Max": ir_ops.MAX, "Min": ir_ops.MIN}.get(node.op_type, ir_ops.ADD)
    out = functools.reduce(functools.partial(broadcast, node, opdef), xs)
    return out * (1.0 / len(xs)) if node.op_type == "Mean" else out


@handler("Pow")
def power(node: Node, x: Tensor, y: Tensor) -> Tensor:
    """The result has the dtype of the base; integers to a power that is no integer are computed as f64."""
    if y.dtype.is_float and not x.dtype.is_float:
        return ops.cast(broadcast(node, ir_ops.POW, ops.cast(x, F64), ops.cast(y, F64)), x.dtype)
    return broadcast(node, ir_ops.POW, x, ops.cast(y, x.dtype))


@handler("Mod")
def modulo(node: Node, x: Tensor, y: Tensor) -> Tensor:
    """With the sign of the divisor, or (fmod=1) of the dividend."""
    return broadcast(node, math_ops.REM if node.attr("fmod", 0) else math_ops.MOD, x, y)


@handler("BitShift")
def bit_shift(node: Node, x: Tensor, y: Tensor) -> Tensor:
    direction = node.attr("direction", "")
    if direction not in ("LEFT", "RIGHT"):
        raise ImportModelError(f"{node}: direction must be LEFT or RIGHT, got {direction!r}")
    return broadcast(node, math_ops.SHIFT_LEFT if direction == "LEFT" else math_ops.SHIFT_RIGHT, x, y)


@handler("Reciprocal")
def reciprocal(node: Node, x: Tensor) -> Tensor:
    return 1.0 / x


@handler("IsNaN")
def is_nan(node: Node, x: Tensor) -> Tensor:
    return ops.isnan(x)


@handler("IsInf")
def is_inf(node: Node, x: Tensor) -> Tensor:
    positive, negative = bool(node.attr("detect_positive", 1)), bool(node.attr("detect_negative", 1))
    if positive and negative:
        return ops.isinf(x)
    found = ops.equal(x, float("inf") if positive else float("-inf"))
    return found if positive or negative else ops.logical_and(found, ops.logical_not(found))


@handler("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    common_shape(node, [condition.shape, a.shape, b.shape])
    return ops.where(condition, a, b)


@handler("Clip")
def clip(node: Node, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Bounds are attributes before opset 11. Where low is above high, the result is high."""
    below: Tensor | float | None = node.attributes.get("min") if low is None else ops.reshape(low, ())
    above: Tensor | float | None = node.attributes.get("max") if high is None else ops.reshape(high, ())
    out = x if below is None else ops.maximum(x, below)
    return out if above is None else ops.minimum(out, above)


# --- casts ------------------------------------------------------------------------------------------------------


def dtype_of_code(node: Node, code: int) -> DType:
    """The dtype that a number of onnx.TensorProto.DataType stands for."""
    if code not in CODES:
        raise ImportModelError(f"{node}: expected a dtype of {', '.join(CODES.values())}, got ONNX's number {code}")
    return DTYPES[CODES[code]]


@handler("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    return ops.cast(x, dtype_of_code(node, node.attr("to", 0)))


@handler("CastLike")
def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return ops.cast(x, like.dtype)


# --- what inference leaves alone ------------------------------------------------------------------------------


@handler("Dropout", known=(1, 2))
def dropout(node: Node, x: Tensor, ratio: Known | None = None, training: Known | None = None) -> tuple[Tensor, ...]:
    """x itself, and a mask of which all holds: training_mode is refused unless nothing is dropped."""
    rate = 0.5 if ratio is None else float(ratio.array.reshape(-1)[0])
    if training is not None and training.array.any() and rate != 0.0:
        raise ImportModelError(f"{node}: training_mode is set; export the model for inference")
    b = active().builder
    return x, wrap(b.broadcast(b.const(True, BOOL), x.shape, ()))
