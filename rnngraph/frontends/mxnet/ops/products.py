"""Products of matrices."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.ir import dims
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


@handler("dot")
def dot(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """The last axis of a with the first of b; transposed, their axes are in reverse order."""
    if node.attrs.flag("transpose_a"):
        a = ops.transpose(a, range(a.rank)[::-1] if a.rank <= 2 else (*range(1, a.rank), 0))
    if node.attrs.flag("transpose_b"):
        b = ops.transpose(b, range(b.rank)[::-1] if b.rank <= 2 else (b.rank - 1, *range(b.rank - 1)))
    if a.rank < 1 or b.rank < 1:
        raise ImportModelError(f"{node}: expected at least one axis, got {a.type} and {b.type}")
    left = ops.reshape(a, (dims.mul(*a.shape[:-1]), a.shape[-1]))
    right = ops.reshape(b, (b.shape[0], dims.mul(*b.shape[1:])))
    shape = (*a.shape[:-1], *b.shape[1:])
    return ops.reshape(ops.matmul(left, right), shape or (1,))


@handler("batch_dot")
def batch_dot(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return ops.matmul(_turned(node, a, "transpose_a"), _turned(node, b, "transpose_b"))


@handler("_linalg_gemm2", "linalg_gemm2")
def gemm2(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return _product(node, a, b)


@handler("_linalg_gemm", "linalg_gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return _product(node, a, b) + c * node.attrs.number("beta", 1.0)


def _product(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if node.attrs.integer("axis", -2) != -2:
        raise ImportModelError(f"{node}: only axis -2 is supported")
    product = ops.matmul(_turned(node, a, "transpose_a"), _turned(node, b, "transpose_b"))
    return product * node.attrs.number("alpha", 1.0)


def _turned(node: Node, x: Tensor, flag: str) -> Tensor:
    if x.rank < 2:
        raise ImportModelError(f"{node}: expected matrices, got {x.type}")
    return ops.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2)) if node.attrs.flag(flag) else x


@handler("_npi_matmul", "_npi_dot")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if min(a.rank, b.rank) < 2 or (node.op == "_npi_dot" and b.rank > 2):
        raise ImportModelError(f"{node}: expected matrices, got {a.type} and {b.type}")
    return ops.matmul(a, b)
