"""Normalizations: channels stand in axis 1."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.ir import F32
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


def _channels(vector: Tensor, rank: int) -> Tensor:
    return ops.reshape(vector, (vector.shape[0], *[1] * (rank - 2)))


@handler("BatchNormalization")
def batch_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor,
                        variance: Tensor) -> tuple[Tensor, ...] | Tensor:
    """With training_mode (opset 14) the batch's own mean and variance, and the moved ones as further outputs."""
    epsilon, momentum = node.attr("epsilon", 1e-5), node.attr("momentum", 0.9)
    if node.version < 9 and not node.attr("spatial", 1):
        raise ImportModelError(f"{node}: spatial=0, a mean for each element, is not supported")
    training = node.version >= 14 and node.attr("training_mode", 0)
    if not training:
        if len(node.outputs) > 1:
            raise ImportModelError(f"{node}: its further outputs are for training; export the model for inference")
        return ops.batch_norm(x, mean, variance, scale, bias, axis=1, epsilon=epsilon)
    axes = [i for i in range(x.rank) if i != 1]
    own = ops.mean(x, axes)
    apart = x - _channels(own, x.rank)
    spread = ops.mean(apart * apart, axes)
    out = ops.batch_norm(x, own, spread, scale, bias, axis=1, epsilon=epsilon)
    moved = (old * momentum + new * (1.0 - momentum) for old, new in ((mean, own), (variance, spread)))
    return (out, *moved)


@handler("InstanceNormalization")
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return ops.instance_norm(x, scale, bias, axis=1, epsilon=node.attr("epsilon", 1e-5))


@handler("GroupNormalization")
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """scale and bias have one number for each channel, before opset 21 for each group."""
    groups, epsilon = node.attr("num_groups", 0), node.attr("epsilon", 1e-5)
    channels = x.shape[1]
    if groups < 1 or not isinstance(channels, int):
        raise ImportModelError(f"{node}: expected num_groups and a known number of channels, got {x.type}")
    if node.version >= 21:
        return ops.group_norm(x, groups, scale, bias, axis=1, epsilon=epsilon)
    out = ops.group_norm(x, groups, axis=1, epsilon=epsilon)
    each = channels // groups
    gamma, beta = (ops.reshape(ops.expand(ops.reshape(v, (groups, 1)), (groups, each)), (channels,))
                   for v in (scale, bias))
    return out * _channels(gamma, x.rank) + _channels(beta, x.rank)


def _stash(node: Node, x: Tensor) -> Tensor:
    """Half floats are normalized as f32 (stash_type)."""
    return ops.cast(x, F32) if node.attr("stash_type", 1) == 1 and x.dtype.itemsize < 4 else x


@handler("LayerNormalization")
def layer_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
    """The result, the mean, and one over the standard deviation."""
    axes = _trailing(node, x)
    wide = _stash(node, x)
    mean = ops.mean(wide, axes, keepdims=True)
    apart = wide - mean
    inverse = 1.0 / ops.sqrt(ops.mean(apart * apart, axes, keepdims=True) + node.attr("epsilon", 1e-5))
    out = ops.cast(apart * inverse, x.dtype) * scale
    return out if bias is None else out + bias, mean, inverse


def _trailing(node: Node, x: Tensor) -> Sequence[int]:
    return list(range(axis_of(node, node.attr("axis", -1), x.rank), x.rank))


@handler("RMSNormalization")
def rms_normalization(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    out = ops.rms_norm(_stash(node, x), axis=_trailing(node, x), epsilon=node.attr("epsilon", 1e-5))
    return ops.cast(out, x.dtype) * scale


@handler("LRN")
def local_response(node: Node, x: Tensor) -> Tensor:
    return ops.local_response_norm(x, node.attr("size", 1), alpha=node.attr("alpha", 1e-4),
                                   beta=node.attr("beta", 0.75), bias=node.attr("bias", 1.0), axis=1)


@handler("LpNormalization")
def lp_normalization(node: Node, x: Tensor) -> Tensor:
    return ops.lp_normalize(x, node.attr("p", 2), axis=axis_of(node, node.attr("axis", -1), x.rank))


@handler("MeanVarianceNormalization")
def mean_variance(node: Node, x: Tensor) -> Tensor:
    axes = [axis_of(node, a, x.rank) for a in node.ints("axes", (0, 2, 3)) or ()]
    apart = x - ops.mean(x, axes, keepdims=True)
    return apart / (ops.sqrt(ops.mean(apart * apart, axes, keepdims=True)) + 1e-9)


