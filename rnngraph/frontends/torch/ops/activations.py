"""Activation functions, with PyTorch's parameters and defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rnngraph.frontends.torch.ops.numbers import cast
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import DType
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

_SIMPLE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu6": ops.relu6, "selu": ops.selu, "silu": ops.silu, "hardsigmoid": ops.hard_sigmoid,
    "hardswish": lambda x: x * ops.hard_sigmoid(x), "mish": lambda x: x * ops.tanh(ops.softplus(x)),
    "log_sigmoid": lambda x: -ops.softplus(-x), "softsign": ops.softsign}


@handler(*(f"aten.{name}" for name in _SIMPLE), each_step=True)
def simple(node: Node, self: Tensor) -> Tensor:
    return _SIMPLE[node.op.removeprefix("aten.").removesuffix("_")](self)


@handler("aten.relu", each_step=True)
def relu(node: Node, self: Tensor) -> Tensor:
    return ops.relu(self) if self.dtype.is_float else ops.maximum(self, 0)


@handler("aten.gelu", each_step=True)
def gelu(node: Node, self: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "none":
        return ops.gelu(self)
    inner = math.sqrt(2.0 / math.pi) * (self + 0.044715 * (self * self * self))
    return 0.5 * self * (1.0 + ops.tanh(inner))


@handler("aten.elu", each_step=True)
def elu(node: Node, self: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    return scale * (ops.relu(self) + alpha * (ops.exp(input_scale * ops.minimum(self, 0.0)) - 1.0))


@handler("aten.celu", each_step=True)
def celu(node: Node, self: Tensor, alpha: float = 1.0) -> Tensor:
    return elu(node, self, alpha, 1.0, 1.0 / alpha)


@handler("aten.leaky_relu", each_step=True)
def leaky_relu(node: Node, self: Tensor, negative_slope: float = 0.01) -> Tensor:
    return ops.leaky_relu(self, negative_slope)


@handler("aten.rrelu", each_step=True)
def rrelu(node: Node, self: Tensor, lower: float = 0.125, upper: float = 1.0 / 3.0) -> Tensor:
    """In evaluation: the mean of the slopes."""
    return ops.leaky_relu(self, (lower + upper) / 2.0)


@handler("aten.prelu", each_step=True)
def prelu(node: Node, self: Tensor, weight: Tensor) -> Tensor:
    """The slope is one number, or one for each channel, axis 1."""
    if weight.rank == 1 and self.rank > 1 and weight.shape[0] != 1:
        weight = ops.reshape(weight, (*weight.shape, *[1] * (self.rank - 2)))
    return ops.relu(self) + weight * ops.minimum(self, 0.0)


@handler("aten.softplus", each_step=True)
def softplus(node: Node, self: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    scaled = self * float(beta)
    return ops.where(scaled > float(threshold), self, ops.softplus(scaled) * (1.0 / beta))


@handler("aten.hardtanh", each_step=True)
def hardtanh(node: Node, self: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    return ops.clip(self, cast(min_val, self.dtype), cast(max_val, self.dtype))


@handler("aten.threshold", each_step=True)
def threshold(node: Node, self: Tensor, threshold: float, value: float) -> Tensor:
    return ops.where(self > threshold, self, float(value))


@handler("aten.hardshrink", each_step=True)
def hardshrink(node: Node, self: Tensor, lambd: float = 0.5) -> Tensor:
    return ops.where(ops.abs(self) > lambd, self, 0.0)


@handler("aten.softshrink", each_step=True)
def softshrink(node: Node, self: Tensor, lambd: float = 0.5) -> Tensor:
    return ops.relu(self - lambd) - ops.relu(-self - lambd)


@handler("aten.glu", each_step=True)
def glu(node: Node, self: Tensor, dim: int = -1) -> Tensor:
    a, b = ops.split(self, 2, dim)
    return a * ops.sigmoid(b)


def safe_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """softmax, zero where all of a row is minus infinity, as PyTorch's attention has it."""
    top = ops.max(x, dim, keepdims=True)
    e = ops.exp(x - ops.where(ops.equal(top, -math.inf), 0.0, top))
    total = ops.sum(e, dim, keepdims=True)
    return e / ops.where(ops.equal(total, 0.0), 1.0, total)


@handler("aten._safe_softmax")
def safe(node: Node, self: Tensor, dim: int, dtype: DType | None = None) -> Tensor:
    return safe_softmax(self if dtype is None else ops.cast(self, dtype), dim)


@handler("aten.softmax", "aten._softmax", each_step=True)
def softmax(node: Node, self: Tensor, dim: int, dtype: DType | None = None, half_to_float: bool = False) -> Tensor:
    return ops.softmax(self if dtype is None else ops.cast(self, dtype), dim)


@handler("aten.log_softmax", "aten._log_softmax", each_step=True)
def log_softmax(node: Node, self: Tensor, dim: int, dtype: DType | None = None, half_to_float: bool = False) -> Tensor:
    x = self if dtype is None else ops.cast(self, dtype)
    shifted = x - ops.max(x, dim, keepdims=True)
    return shifted - ops.log(ops.sum(ops.exp(shifted), dim, keepdims=True))


@handler("aten.softmin", each_step=True)
def softmin(node: Node, self: Tensor, dim: int, dtype: Any = None) -> Tensor:
    return ops.softmax(-self, dim)
