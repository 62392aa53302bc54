"""Activations, and the softmax family with its meaning before opset 13."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.onnx.broadcasting import common_shape
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


@handler("Relu")
def relu(node: Node, x: Tensor) -> Tensor:
    return ops.relu(x) if x.dtype.is_float else ops.maximum(x, 0)


@handler("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return ops.leaky_relu(x, node.attr("alpha", 0.01))


@handler("PRelu")
def p_relu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    common_shape(node, [x.shape, slope.shape])
    return ops.where(x < 0, x * slope, x)


@handler("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return ops.where(x > node.attr("alpha", 1.0), x, 0.0)


@handler("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    return ops.elu(x, node.attr("alpha", 1.0))


@handler("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))"""
    alpha = node.attr("alpha", 1.0)
    return ops.relu(x) + ops.minimum(alpha * (ops.exp(x * (1.0 / alpha)) - 1.0), 0.0)


@handler("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    return node.attr("gamma", 1.0507010221481323) * ops.elu(x, node.attr("alpha", 1.6732631921768188))


@handler("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return ops.clip(x * node.attr("alpha", 0.2) + node.attr("beta", 0.5), 0.0, 1.0)


@handler("HardSwish")
def hard_swish(node: Node, x: Tensor) -> Tensor:
    return x * ops.clip(x * (1.0 / 6.0) + 0.5, 0.0, 1.0)


@handler("Softplus")
def softplus(node: Node, x: Tensor) -> Tensor:
    return ops.softplus(x)


@handler("Softsign")
def softsign(node: Node, x: Tensor) -> Tensor:
    return ops.softsign(x)


@handler("Mish")
def mish(node: Node, x: Tensor) -> Tensor:
    return x * ops.tanh(ops.softplus(x))


@handler("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    alpha = node.attr("alpha", 1.0)
    return x * ops.sigmoid(x if alpha == 1.0 else x * alpha)


@handler("Shrink")
def shrink(node: Node, x: Tensor) -> Tensor:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    bias, bound = node.attr("bias", 0.0), node.attr("lambd", 0.5)
    if x.dtype.is_float:
        return ops.where(x < -bound, x + bias, ops.where(x > bound, x - bias, 0.0))
    wide = ops.cast(x, "f64")
    return ops.cast(ops.where(wide < -bound, wide + bias, ops.where(wide > bound, wide - bias, 0.0)), x.dtype)


@handler("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    if node.attr("approximate", "none") == "tanh":
        return tanh_gelu(x)
    return ops.gelu(x)


def tanh_gelu(x: Tensor) -> Tensor:
    """The approximation by tanh (Hendrycks and Gimpel, 2016)."""
    return 0.5 * x * (1.0 + ops.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


# --- softmax ----------------------------------------------------------------------------------------------------


@handler("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    """Along one axis; before opset 13 over all axes from ``axis`` on, as if the tensor were a matrix."""
    old = node.version < 13
    axis = axis_of(node, node.attr("axis", 1 if old else -1), x.rank)
    axes = list(range(axis, x.rank)) if old else [axis]
    if node.op_type == "Hardmax":
        return _hardmax(node, x, axes)
    shifted = x - ops.max(x, axes, keepdims=True)
    if node.op_type == "LogSoftmax":
        return shifted - ops.log(ops.sum(ops.exp(shifted), axes, keepdims=True))
    e = ops.exp(shifted)
    return e / ops.sum(e, axes, keepdims=True)


def _hardmax(node: Node, x: Tensor, axes: Sequence[int]) -> Tensor:
    """1 at the first largest element, 0 elsewhere."""
    if len(axes) > 1 and axes[-1] != x.rank - 1:
        raise ImportModelError(f"{node}: expected trailing axes")
    flat = x if len(axes) == 1 else ops.reshape(x, (*x.shape[: axes[0]], -1))
    axis = axes[0]
    b, size = active().builder, flat.shape[axis]
    place = ops.arg_largest(flat, axis)
    at = b.broadcast(place.value(), flat.shape, tuple(i for i in range(flat.rank) if i != axis))
    each = b.broadcast(ops.arange(size, "i64").value(), flat.shape, (axis,))
    return ops.reshape(ops.cast(ops.equal(wrap(at), wrap(each)), x.dtype), x.shape)
