"""Elementwise ops, products, reductions, and what works along an axis."""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ExportError
from rnngraph.frontends.to_onnx.emitter import Emitter
from rnngraph.ir import BOOL, Op, order_ops
from rnngraph.ir import ops as ir_ops

PLAIN = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "min": "Min", "max": "Max", "neg": "Neg",
    "abs": "Abs", "sign": "Sign", "floor": "Floor", "sqrt": "Sqrt", "exp": "Exp", "log": "Log", "tanh": "Tanh",
    "sigmoid": "Sigmoid", "relu": "Relu", "erf": "Erf", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual", "eq": "Equal", "and": "And", "or": "Or", "not": "Not", "select": "Where", "ceil": "Ceil",
    "round": "Round", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "bit_and": "BitwiseAnd",
    "bit_or": "BitwiseOr", "bit_xor": "BitwiseXor", "bit_not": "BitwiseNot",
}
REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_mean": "ReduceMean", "reduce_max": "ReduceMax",
              "reduce_min": "ReduceMin", "reduce_prod": "ReduceProd"}


def plain(e: Emitter, op: Op) -> list[str]:
    """An op of the same meaning."""
    return [e.node(PLAIN[op.name], e.broadcastable(op.operands), op.result.hint)]


def not_equal(e: Emitter, op: Op) -> list[str]:
    same = e.node("Equal", e.broadcastable(op.operands))
    return [e.node("Not", [same], op.result.hint)]


def remainder(e: Emitter, op: Op) -> list[str]:
    """Integers have both remainders; of floats ONNX has C's, whose sign is mended."""
    a, b = e.broadcastable(op.operands)
    if op.name == "rem":
        return [e.node("Mod", [a, b], op.result.hint, fmod=1)]
    dtype = op.result.type.dtype
    if dtype.kind == "int":
        return [e.node("Mod", [a, b], op.result.hint)]
    zero = e.constant(np.zeros((), dtype.numpy))
    rest = e.node("Mod", [a, b], fmod=1)
    apart = e.node("Less", [e.node("Mul", [rest, e.node("Sign", [b])]), zero])
    return [e.node("Where", [apart, e.node("Add", [rest, b]), rest], op.result.hint)]


def shift(e: Emitter, op: Op) -> list[str]:
    if op.result.type.dtype.numpy.kind != "u":
        raise ExportError(f"op {op.name} of layer {op.layer!r}: ONNX shifts only unsigned integers, got "
                          f"{op.result.type.dtype}")
    return [e.node("BitShift", e.broadcastable(op.operands), op.result.hint,
                   direction="LEFT" if op.name == "shift_left" else "RIGHT")]


def cast(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, ir_ops.CastAttrs)
    return [e.node("Cast", e.operands(op), op.result.hint, to=e.code(op.attrs.dtype, op))]


def matmul(e: Emitter, op: Op) -> list[str]:
    return [e.node("MatMul", e.operands(op), op.result.hint)]


def reduction(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, ir_ops.ReduceAttrs)
    if op.operands[0].type.dtype is BOOL:
        raise ExportError(f"op {op.name} of layer {op.layer!r}: reduces bools, cast them to numbers first")
    return [e.node(REDUCTIONS[op.name], [*e.operands(op), e.ints(op.attrs.axes)], op.result.hint, keepdims=0)]


def softmax(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, ir_ops.AxisAttrs)
    return [e.node("Softmax", e.operands(op), op.result.hint, axis=op.attrs.axis)]


def arg(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, order_ops.ArgAttrs)
    kind = "ArgMax" if op.name == "argmax" else "ArgMin"
    return [e.node(kind, e.operands(op), op.result.hint, axis=op.attrs.axis, keepdims=0,
                   select_last_index=int(op.attrs.last))]


def top_k(e: Emitter, op: Op) -> list[str]:
    a = op.attrs
    assert isinstance(a, order_ops.TopKAttrs)
    return e.nodes("TopK", [*e.operands(op), e.size(a.k)], [r.hint or n for r, n in zip(
        op.results, ("values", "places"), strict=True)], axis=a.axis, largest=int(a.largest), sorted=1)


def cumsum(e: Emitter, op: Op) -> list[str]:
    a = op.attrs
    assert isinstance(a, order_ops.CumsumAttrs)
    axis = e.constant(np.asarray(a.axis, np.int64))
    return [e.node("CumSum", [*e.operands(op), axis], op.result.hint, exclusive=int(a.exclusive),
                   reverse=int(a.reverse))]
