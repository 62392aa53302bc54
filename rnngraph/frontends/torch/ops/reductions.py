"""Reductions, the places of extremes, cumulative sums, sorting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.items import Permutation, Permuted, tensor_of
from rnngraph.frontends.torch.ops.elementwise import truth
from rnngraph.frontends.torch.ops.numbers import scalar
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import BOOL, F32, F64, I64, Dim, DType, dims
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

Axes = int | list[int] | None


def axes_of(x: Tensor, dim: Axes) -> list[int]:
    """The axes of a reduction, counted from the front; none means all."""
    chosen = [dim] if isinstance(dim, int) else list(dim or range(x.rank))
    return [d % x.rank for d in chosen] if x.rank else []


def reduced(function: Callable[..., Tensor], x: Tensor, dim: Axes, keepdim: bool) -> Tensor:
    axes = axes_of(x, dim)
    return function(x, axes, keepdim) if axes else x


def _numbers(node: Node, x: Tensor, dtype: Any) -> Tensor:
    """x in the dtype in which PyTorch adds it up."""
    wanted = dtype if isinstance(dtype, DType) else node.dtype or x.dtype
    return x if x.dtype is wanted else ops.cast(x, wanted)


def _floats(x: Tensor) -> tuple[Tensor, DType]:
    """Integers and bools as floats that hold them, for reductions that the IR has for floats."""
    return (x, x.dtype) if x.dtype.is_float else (ops.cast(x, F32 if x.dtype is BOOL else F64), x.dtype)


@handler("aten.sum")
def sum_(node: Node, self: Tensor, dim: Axes = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    x, wanted = _floats(_numbers(node, self, dtype))
    return ops.cast(reduced(ops.sum, x, dim, keepdim), wanted)


@handler("aten.mean")
def mean(node: Node, self: Tensor, dim: Axes = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    return reduced(ops.mean, _numbers(node, self, dtype), dim, keepdim)


@handler("aten.amax")
def amax(node: Node, self: Tensor, dim: Axes = None, keepdim: bool = False) -> Tensor:
    x, wanted = _floats(self)
    return ops.cast(reduced(ops.max, x, dim, keepdim), wanted)


@handler("aten.amin")
def amin(node: Node, self: Tensor, dim: Axes = None, keepdim: bool = False) -> Tensor:
    x, wanted = _floats(self)
    return ops.cast(reduced(ops.min, x, dim, keepdim), wanted)


@handler("aten.max", "aten.min")
def extreme(node: Node, self: Tensor, dim: int | None = None, keepdim: bool = False, other: Any = None) -> Any:
    """Of all elements, of two tensors, or along an axis, with the places."""
    largest = node.op == "aten.max"
    if other is not None:
        return ops.maximum(self, other) if largest else ops.minimum(self, other)
    value = (amax if largest else amin)(node, self, dim, keepdim)
    if dim is None:
        return value
    return [value, _place(self, dim, keepdim, largest)]


@handler("aten.argmax", "aten.argmin")
def argmax(node: Node, self: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    x = self if dim is not None else ops.reshape(self, (dims.mul(*self.shape),))
    return _place(x, dim or 0, keepdim and dim is not None, node.op == "aten.argmax")


def _place(x: Tensor, dim: int, keepdim: bool, largest: bool) -> Tensor:
    axis = dim % x.rank
    found = (ops.arg_largest if largest else ops.argmin)(x, axis)
    return ops.reshape(found, (*x.shape[:axis], 1, *x.shape[axis + 1 :])) if keepdim else found


@handler("aten.any")
def any_(node: Node, self: Tensor, dim: Axes = None, keepdim: bool = False) -> Tensor:
    return reduced(ops.max, ops.cast(truth(self), F32), dim, keepdim) > 0.5


@handler("aten.all")
def all_(node: Node, self: Tensor, dim: Axes = None, keepdim: bool = False) -> Tensor:
    return reduced(ops.min, ops.cast(truth(self), F32), dim, keepdim) > 0.5


@handler("aten.count_nonzero")
def count_nonzero(node: Node, self: Tensor, dim: Axes = None) -> Tensor:
    return ops.cast(reduced(ops.sum, ops.cast(truth(self), F32), dim, False), I64)


@handler("aten.logsumexp")
def logsumexp(node: Node, self: Tensor, dim: Axes, keepdim: bool = False) -> Tensor:
    axes = axes_of(self, dim)
    top = ops.max(self, axes, keepdims=True)
    total = ops.log(ops.sum(ops.exp(self - top), axes, keepdims=True)) + top
    return total if keepdim else ops.reshape(total, tuple(d for i, d in enumerate(self.shape) if i not in axes))


@handler("aten.var", "aten.std", "aten.var_mean", "aten.std_mean")
def variance(node: Node, self: Tensor, dim: Axes = None, unbiased: bool | None = None, keepdim: bool = False,
             correction: float | None = None) -> Any:
    by = float(correction) if correction is not None else 0.0 if unbiased is False else 1.0
    axes = axes_of(self, dim)
    count = dims.mul(*(self.shape[a] for a in axes))
    average = ops.mean(self, axes, keepdims=True)
    off = self - average
    total = ops.sum(off * off, axes, keepdim)
    left = ops.maximum(scalar(count, self.dtype) - by, 0.0) if isinstance(count, str) else max(count - by, 0.0)
    spread = total / (left if isinstance(left, Tensor) else scalar(left, self.dtype))
    spread = ops.sqrt(spread) if "std" in node.op else spread
    if not node.op.endswith("_mean"):
        return spread
    return [spread, average if keepdim else ops.mean(self, axes)]


@handler("aten.norm", "aten.linalg_vector_norm")
def norm(node: Node, self: Tensor, p: Any = 2, ord: Any = 2, dim: Axes = None, keepdim: bool = False,
         dtype: Any = None) -> Tensor:
    power = 2.0 if p is None else float(p if p != 2 else ord)
    x, axes = ops.abs(self), axes_of(self, dim)
    if power in (float("inf"), float("-inf")):
        return (ops.max if power > 0 else ops.min)(x, axes, keepdim)
    if power == 2.0:
        return ops.sqrt(ops.sum(self * self, axes, keepdim))
    if power == 1.0:
        return ops.sum(x, axes, keepdim)
    if power == 0.0:
        return ops.sum(ops.cast(x > 0.0, self.dtype), axes, keepdim)
    total: Tensor = ops.sum(x**power, axes, keepdim) ** (1.0 / power)
    return total


@handler("aten.cosine_similarity")
def cosine_similarity(node: Node, x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 x2 / max(|x1|, eps) / max(|x2|, eps), along an axis."""
    lengths = [ops.maximum(ops.sqrt(ops.sum(x * x, dim, keepdims=True)), eps) for x in (x1, x2)]
    return ops.sum((x1 / lengths[0]) * (x2 / lengths[1]), dim)


@handler("aten.prod")
def product(node: Node, self: Tensor, dim: int | None = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    x = _numbers(node, self, dtype)
    axis = (dim or 0) % max(x.rank, 1)
    x = x if dim is not None else ops.reshape(x, (dims.mul(*x.shape),))
    return ops.prod(x, axis, keepdims=keepdim)


@handler("aten.cumsum")
def cumsum(node: Node, self: Tensor, dim: int, dtype: Any = None) -> Tensor:
    return ops.cumsum(_numbers(node, self, dtype), dim)


# --- order ---------------------------------------------------------------------------------------------------------


@handler("aten.topk")
def topk(node: Node, self: Tensor, k: Dim, dim: int = -1, largest: bool = True, sorted: bool = True) -> list[Tensor]:
    return list(ops.top_k(self, k, dim, largest=largest))


@handler("aten.sort", "aten.argsort", "aten.msort", raw=True)
def sort(node: Node, self: Any, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Any:
    """A vector's order stays an idea (`Permutation`) as long as it only puts rows in order and back."""
    x = tensor_of(self)
    if x.rank == 1 and node.op == "aten.sort" and x.dtype.kind == "int":
        by = Permutation(x.value(), descending)
        return [Permuted(x, 0, by), by]
    axis = (0 if node.op == "aten.msort" else dim) % max(x.rank, 1)
    values, places = ops.top_k(x, x.shape[axis], axis, largest=descending)
    return places if node.op == "aten.argsort" else values if node.op == "aten.msort" else [values, places]


@handler("aten.kthvalue", "aten.median", "aten.mode")
def refuse_order(node: Node, **_: Any) -> Any:
    raise ImportModelError("order statistics are not supported; use topk or sort")
