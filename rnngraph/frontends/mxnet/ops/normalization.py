"""Normalizations, with the statistics that they have at inference."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


@handler("BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm", "CuDNNBatchNorm")
def batch_norm(node: Node, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    if node.attrs.flag("output_mean_var"):
        raise ImportModelError(f"{node}: output_mean_var is not supported")
    return ops.batch_norm(x, mean, var, None if node.attrs.flag("fix_gamma", True) else gamma, beta,
                          axis=node.attrs.integer("axis", 1), epsilon=node.attrs.number("eps", 1e-3))


@handler("LayerNorm")
def layer_norm(node: Node, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    axis = node.attrs.integer("axis", -1) % x.rank
    shape = (gamma.shape[0], *[1] * (x.rank - 1 - axis))
    return ops.layer_norm(x, ops.reshape(gamma, shape), ops.reshape(beta, shape), axis=axis,
                          epsilon=node.attrs.number("eps", 1e-5))


@handler("InstanceNorm")
def instance_norm(node: Node, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return ops.instance_norm(x, gamma, beta, axis=1, epsilon=node.attrs.number("eps", 1e-3))


@handler("GroupNorm")
def group_norm(node: Node, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """MXNet 1.x has one gamma and beta for each group, 2.x for each channel."""
    groups, channels = node.attrs.integer("num_groups", 1), x.shape[1]
    if gamma.shape == (groups,) and isinstance(channels, int) and 0 < groups < channels:
        each = (groups, channels // groups)
        gamma, beta = (ops.reshape(ops.expand(ops.reshape(t, (groups, 1)), each), (channels,)) for t in (gamma, beta))
    return ops.group_norm(x, groups, gamma, beta, axis=1, epsilon=node.attrs.number("eps", 1e-5))


@handler("L2Normalization")
def l2_normalization(node: Node, x: Tensor) -> Tensor:
    """x over the root of its sum of squares: of a row, over the channels (axis 1), or over the places behind them."""
    mode = node.attrs.choice("mode", "instance", ("instance", "channel", "spatial"))
    axes = {"instance": range(1, x.rank), "channel": range(1, 2), "spatial": range(2, x.rank)}[mode]
    return x / ops.sqrt(ops.sum(x * x, list(axes), keepdims=True) + node.attrs.number("eps", 1e-10))


@handler("LRN")
def lrn(node: Node, x: Tensor) -> Tensor:
    return ops.local_response_norm(x, node.attrs.integer("nsize"), alpha=node.attrs.number("alpha", 1e-4),
                                   beta=node.attrs.number("beta", 0.75), bias=node.attrs.number("knorm", 2.0), axis=1)
