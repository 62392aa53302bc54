"""Matrix products: MatMul, Gemm, Einsum."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.onnx.broadcasting import common_shape, needed
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.ir import F64
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


@handler("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return product(node, a, b)


def product(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """numpy's matmul: vectors, matrices, and batches of matrices that broadcast; of integers too."""
    if a.rank == 0 or b.rank == 0:
        raise ImportModelError(f"{node}: expected vectors or matrices, got {a.type} and {b.type}")
    if not a.dtype.is_float:
        return _whole(node, a, b)
    left = ops.reshape(a, (1, *a.shape)) if a.rank == 1 else a
    right = ops.reshape(b, (*b.shape, 1)) if b.rank == 1 else b
    needed(node, [left.shape[-1], right.shape[-2]], f"{node} multiplies inner sizes")
    if right.rank > 2:
        lead = common_shape(node, [left.shape[:-2], right.shape[:-2]])
        left, right = (ops.expand(x, (*lead, *x.shape[-2:])) for x in (left, right))
    out = ops.matmul(left, right)
    shape = out.shape
    if b.rank == 1:
        shape = shape[:-1]
    if a.rank == 1:
        shape = shape[:-1] if b.rank == 1 else (*shape[:-2], shape[-1])
    return ops.reshape(out, shape)


def _whole(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Integers of up to 16 bits are multiplied as f64, in which their sums are exact; wider ones as what they are."""
    if a.dtype.itemsize <= 2:
        return ops.cast(product(node, ops.cast(a, F64), ops.cast(b, F64)), a.dtype)
    left = a if a.rank > 1 else ops.reshape(a, (1, *a.shape))
    right = b if b.rank > 1 else ops.reshape(b, (*b.shape, 1))
    out = ops.einsum("...ij,...jk->...ik", left, right)
    drop = ({out.rank - 2} if a.rank == 1 else set()) | ({out.rank - 1} if b.rank == 1 else set())
    return ops.reshape(out, tuple(d for i, d in enumerate(out.shape) if i not in drop))


@handler("Gemm")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha A' B' + beta C."""
    a = ops.transpose(a, (1, 0)) if node.attr("transA", 0) else a
    b = ops.transpose(b, (1, 0)) if node.attr("transB", 0) else b
    out = scaled(product(node, a, b), node.attr("alpha", 1.0))
    if c is None:
        return out
    common_shape(node, [out.shape, c.shape])
    return out + scaled(c, node.attr("beta", 1.0))


def scaled(x: Tensor, by: float) -> Tensor:
    """x times a number; integers are cut off at the point."""
    if by == 1.0:
        return x
    return x * by if x.dtype.is_float else ops.cast(ops.cast(x, F64) * by, x.dtype)


@handler("Einsum")
def einsum(node: Node, *xs: Tensor) -> Tensor:
    return ops.einsum(node.attr("equation", ""), *xs)
