"""Matrix products: linear layers, matmul in all ranks, einsum, attention."""

from __future__ import annotations

import math
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.ops.activations import safe_softmax
from rnngraph.frontends.torch.ops.elementwise import truth
from rnngraph.frontends.torch.ops.emit import known
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import BOOL, F32
from rnngraph.ir.builder import broadcast_shapes
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


@handler("aten.linear", each_step=True)
def linear(node: Node, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input by the transpose of weight [out, in], plus bias."""
    y = product(input, ops.transpose(weight, list(range(weight.rank))[::-1]))
    return y if bias is None else y + bias


@handler("aten.matmul", "aten.mm", "aten.bmm", "aten.mv", "aten.dot", "aten.vdot", "aten.inner")
def matmul(node: Node, self: Tensor, other: Tensor | None = None, mat2: Tensor | None = None, vec: Tensor | None = None,
           tensor: Tensor | None = None) -> Tensor:
    right = next(x for x in (other, mat2, vec, tensor) if x is not None)
    return product(self, right)


def product(a: Tensor, b: Tensor) -> Tensor:
    """PyTorch's matmul: vectors on either side, leading dims that broadcast."""
    if not a.rank or not b.rank:
        return a * b
    left, right = a.rank == 1, b.rank == 1
    a = ops.reshape(a, (1, *a.shape)) if left else a
    b = ops.reshape(b, (*b.shape, 1)) if right else b
    if b.rank > 2 and a.shape[:-2] != b.shape[:-2]:
        lead = broadcast_shapes([a.shape[:-2], b.shape[:-2]])
        a, b = ops.expand(a, (*lead, *a.shape[-2:])), ops.expand(b, (*lead, *b.shape[-2:]))
    if a.shape[-1] != b.shape[-2]:
        for dim in (a.shape[-1], b.shape[-2]):
            known(dim, "what a matrix product sums over")
    y = ops.matmul(a, b)
    shape = list(y.shape)
    if right:
        shape.pop(-1)
    if left:
        shape.pop(-1 if right else -2)
    return ops.reshape(y, tuple(shape))


@handler("aten.addmm", "aten.addbmm", "aten.baddbmm", "aten.addmv")
def addmm(node: Node, self: Tensor, mat1: Tensor | None = None, mat2: Tensor | None = None, mat: Tensor | None = None,
          vec: Tensor | None = None, batch1: Tensor | None = None, batch2: Tensor | None = None, beta: Any = 1,
          alpha: Any = 1) -> Tensor:
    a = next(x for x in (mat1, mat, batch1) if x is not None)
    b = next(x for x in (mat2, vec, batch2) if x is not None)
    y = product(a, b)
    if node.op == "aten.addbmm":
        y = ops.sum(y, 0)
    y = y if alpha == 1 else y * float(alpha)
    return y if beta == 0 else y + (self if beta == 1 else self * float(beta))


@handler("aten.outer", "aten.ger")
def outer(node: Node, self: Tensor, vec2: Tensor) -> Tensor:
    return ops.reshape(self, (*self.shape, 1)) * ops.reshape(vec2, (1, *vec2.shape))


@handler("aten.bilinear")
def bilinear(node: Node, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x1 W_k x2 for each k."""
    y = ops.einsum("...i,kij,...j->...k", input1, weight, input2)
    return y if bias is None else y + bias


@handler("aten.einsum")
def einsum(node: Node, equation: str, tensors: list[Tensor], path: Any = None) -> Tensor:
    return ops.einsum(equation, *tensors)


# --- attention -----------------------------------------------------------------------------------------------------


@handler("aten.scaled_dot_product_attention")
def attention(node: Node, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
              dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None,
              enable_gqa: bool = False) -> Tensor:
    """softmax(q k^T scale + mask) v; a bool mask says what takes part."""
    if dropout_p:
        raise ImportModelError("attention with dropout is not supported")
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        raise ImportModelError("attention with fewer key heads than query heads (enable_gqa) is not supported")
    size = known(query.shape[-1], "the number of features of attention")
    factor = 1.0 / math.sqrt(size) if scale is None else float(scale)
    perm = [*range(key.rank - 2), key.rank - 1, key.rank - 2]
    scores = product(query * factor, ops.transpose(key, perm))
    if is_causal:
        rows, columns = scores.shape[-2:]
        allowed = ops.reshape(ops.arange(rows), (rows, 1)) >= ops.reshape(ops.arange(columns), (1, columns))
        scores = ops.where(allowed, scores, -math.inf)
    if attn_mask is not None:
        scores = (ops.where(truth(attn_mask), scores, -math.inf) if attn_mask.dtype is BOOL
                  else scores + (attn_mask if attn_mask.dtype is scores.dtype else ops.cast(attn_mask, F32)))
    return product(ops.softmax(scores) if attn_mask is None else safe_softmax(scores), value)
