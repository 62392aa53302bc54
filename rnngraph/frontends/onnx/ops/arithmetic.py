"""Elementwise arithmetic and matrix products."""

from __future__ import annotations

from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.ir import OpDef
from rnngraph.ir import ops as ir_ops
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor, elementwise

_ELEMENTWISE: dict[str, OpDef] = {
    "Add": ir_ops.ADD, "Sub": ir_ops.SUB, "Mul": ir_ops.MUL, "Div": ir_ops.DIV, "Tanh": ir_ops.TANH,
    "Sigmoid": ir_ops.SIGMOID, "Relu": ir_ops.RELU, "Exp": ir_ops.EXP, "Log": ir_ops.LOG, "Sqrt": ir_ops.SQRT,
    "Neg": ir_ops.NEG, "Abs": ir_ops.ABS, "Less": ir_ops.LT, "Greater": ir_ops.GT, "Equal": ir_ops.EQ,
    "LessOrEqual": ir_ops.LE, "GreaterOrEqual": ir_ops.GE, "And": ir_ops.AND, "Or": ir_ops.OR, "Not": ir_ops.NOT,
}


@handler(*_ELEMENTWISE)
def arithmetic(node: Node, *xs: Tensor) -> Tensor:
    """An op with numpy's broadcasting."""
    return elementwise(_ELEMENTWISE[node.op_type], *xs)


@handler("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return ops.matmul(a, b)


@handler("Gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha A' B' + beta C."""
    a = ops.transpose(a, (1, 0)) if node.attr("transA", 0) else a
    b = ops.transpose(b, (1, 0)) if node.attr("transB", 0) else b
    out = ops.matmul(a, b)
    if (alpha := node.attr("alpha", 1.0)) != 1.0:
        out = out * alpha
    if c is None:
        return out
    beta = node.attr("beta", 1.0)
    return out + (c if beta == 1.0 else c * beta)
