"""Tensors made of numbers and sizes, and copies and casts of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.items import ModuleZeros, Packed, Permutation, Permuted
from rnngraph.frontends.torch.ops.numbers import cast, scalar
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import F32, I64, DType, dims
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


def filled(value: Any, size: Any, dtype: DType) -> Tensor:
    """A tensor of one number."""
    shape = tuple(size)
    if isinstance(value, Tensor):
        return ops.expand(ops.cast(value, dtype), shape)
    return wrap(active().builder.broadcast(scalar(value, dtype).value(), shape, ()))


def _dtype(node: Node, dtype: DType | str | None) -> DType:
    found = node.dtype if dtype is None else dtype
    if not isinstance(found, DType):
        raise ImportModelError(f"dtype {dtype or node.dtype_name} is not supported")
    return found


@handler("aten.zeros", "aten.new_zeros", "aten.empty", "aten.new_empty", "aten.empty_strided")
def zeros(node: Node, size: list[Any], self: Any = None, dtype: Any = None, stride: Any = None) -> Tensor:
    return ModuleZeros(filled(0, size, _dtype(node, dtype)), node.path)


@handler("aten.zeros_like", "aten.empty_like", raw=True)
def zeros_like(node: Node, self: Any, dtype: Any = None) -> Any:
    if isinstance(self, Packed):
        return Packed(zeros_like(node, self.rows, dtype), self.lengths, self.by, zero=True)
    like = self.tensor if isinstance(self, Permuted) else self.lengths if isinstance(self, Permutation) else self
    return ModuleZeros(filled(0, like.shape, _dtype(node, dtype)), node.path)


@handler("aten.ones", "aten.new_ones")
def ones(node: Node, size: list[Any], self: Any = None, dtype: Any = None) -> Tensor:
    return filled(1, size, _dtype(node, dtype))


@handler("aten.ones_like")
def ones_like(node: Node, self: Tensor, dtype: Any = None) -> Tensor:
    return filled(1, self.shape, _dtype(node, dtype))


@handler("aten.full", "aten.new_full")
def full(node: Node, size: list[Any], fill_value: Any, self: Any = None, dtype: Any = None) -> Tensor:
    return filled(fill_value, size, _dtype(node, dtype))


@handler("aten.full_like")
def full_like(node: Node, self: Tensor, fill_value: Any, dtype: Any = None) -> Tensor:
    return filled(fill_value, self.shape, _dtype(node, dtype))


@handler("aten.fill", each_step=True)
def fill(node: Node, self: Tensor, value: Any) -> Tensor:
    return filled(value, self.shape, self.dtype)


@handler("aten.scalar_tensor")
def scalar_tensor(node: Node, s: Any, dtype: Any = None) -> Tensor:
    return scalar(s, _dtype(node, dtype))


@handler("aten.arange")
def arange(node: Node, end: Any, start: Any = 0, step: Any = 1, dtype: Any = None) -> Tensor:
    made = _dtype(node, dtype)
    if all(isinstance(v, int | float) for v in (start, end, step)):
        return wrap(active().builder.const(np.arange(start, end, step).astype(made.numpy)))
    if not isinstance(step, int) or not all(isinstance(v, int | str) for v in (start, end)) or step < 1:
        raise ImportModelError(f"arange({start}, {end}, {step}): expected sizes and a whole step >= 1")
    steps = ops.arange(dims.ceildiv(dims.sub(end, start), step), made)
    steps = steps if step == 1 else steps * cast(step, made)
    return steps if start == 0 else steps + cast(start, made)


@handler("aten.linspace")
def linspace(node: Node, start: float, end: float, steps: int, dtype: Any = None) -> Tensor:
    return wrap(active().builder.const(np.linspace(start, end, steps).astype(_dtype(node, dtype).numpy)))


@handler("aten.eye")
def eye(node: Node, n: int, m: int | None = None, dtype: Any = None) -> Tensor:
    return wrap(active().builder.const(np.eye(n, m).astype(_dtype(node, dtype).numpy)))


# --- the same values -----------------------------------------------------------------------------------------------

_SAME = ("clone", "detach", "detach_", "contiguous", "alias", "lift_fresh_copy", "lift_fresh", "lift", "positive",
         "resolve_conj", "resolve_neg", "conj", "_to_copy", "to", "type_as", "dropout", "feature_dropout",
         "alpha_dropout", "native_dropout", "feature_alpha_dropout")


@handler(*(f"aten.{name}" for name in _SAME), raw=True)
def same(node: Node, input: Any = None, self: Any = None, dtype: Any = None, other: Any = None, p: float = 0.5,
         train: bool = False, implicit: Any = None) -> Any:
    """The argument itself, in the node's dtype. Dropout does nothing in evaluation."""
    if train and p:
        raise ImportModelError("dropout with training=True draws random numbers on every call; leave training to the "
                               "module (module.eval())")
    x = self if input is None else input
    if isinstance(x, Packed):
        return x if node.dtype is None or x.rows.dtype is node.dtype else _packed_cast(x, node.dtype)
    if isinstance(x, Permutation | Permuted):
        dtype = I64 if isinstance(x, Permutation) else x.tensor.dtype
        return x if node.dtype in (None, dtype) else Permuted(ops.cast(x.tensor, node.dtype or F32), x.axis, x.by) \
            if isinstance(x, Permuted) else x
    if node.dtype is None:
        raise ImportModelError(f"dtype {node.dtype_name} is not supported")
    result = x if x.dtype is node.dtype else ops.cast(x, node.dtype)
    return [result, ops.ones_like(result)] if node.op == "aten.native_dropout" else result


def _packed_cast(x: Packed, dtype: DType) -> Packed:
    return Packed(ops.cast(x.rows, dtype), x.lengths, x.by, x.zero)


@handler("aten.copy")
def copy(node: Node, self: Tensor, src: Tensor) -> Tensor:
    return ops.expand(src if src.dtype is self.dtype else ops.cast(src, self.dtype), self.shape)
