"""Normalisations, in evaluation."""

from __future__ import annotations

from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.ops.emit import over_channels
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import Dim, dims
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


def normalised(x: Tensor, axes: list[int], eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over axes."""
    off = x - ops.mean(x, axes, keepdims=True)
    return off / ops.sqrt(ops.mean(off * off, axes, keepdims=True) + eps)


def scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@handler("aten.batch_norm", "aten._native_batch_norm_legit_no_training", "aten.native_batch_norm",
         "aten.cudnn_batch_norm", "aten._batch_norm_no_update")
def batch_norm(node: Node, input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
               running_mean: Tensor | None = None, running_var: Tensor | None = None, training: bool = False,
               momentum: float = 0.1, eps: float = 1e-5, cudnn_enabled: bool = False) -> Any:
    """By the running statistics; without them, by those of the batch, as PyTorch."""
    if running_mean is None or running_var is None:
        axes = [i for i in range(input.rank) if i != 1]
        y = normalised(input, axes, eps)
        y = scaled(y, *(None if w is None else over_channels(w, input) for w in (weight, bias)))
    else:
        if training:
            raise ImportModelError("batch_norm in training mode changes its running statistics; call module.eval()")
        factor = 1.0 / ops.sqrt(running_var + eps)
        factor = factor if weight is None else factor * weight
        shift = 0.0 - running_mean * factor
        shift = shift if bias is None else shift + bias
        y = input * over_channels(factor, input) + over_channels(shift, input)
    return y if node.op == "aten.batch_norm" else [y]


@handler("aten.layer_norm", "aten.native_layer_norm", each_step=True)
def layer_norm(node: Node, input: Tensor, normalized_shape: list[Any], weight: Tensor | None = None,
               bias: Tensor | None = None, eps: float = 1e-5, cudnn_enable: bool = True) -> Any:
    axes = list(range(input.rank - len(normalized_shape), input.rank))
    y = scaled(normalised(input, axes, eps), weight, bias)
    return y if node.op == "aten.layer_norm" else [y]


@handler("aten.rms_norm", each_step=True)
def rms_norm(node: Node, input: Tensor, normalized_shape: list[Any], weight: Tensor | None = None,
             eps: float | None = None) -> Tensor:
    axes = list(range(input.rank - len(normalized_shape), input.rank))
    eps = 1.1920928955078125e-07 if eps is None else eps
    return scaled(input / ops.sqrt(ops.mean(input * input, axes, keepdims=True) + eps), weight, None)


@handler("aten.group_norm")
def group_norm(node: Node, input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-5, cudnn_enabled: bool = True) -> Tensor:
    """Over the channels of a group and all places."""
    channels = input.shape[1]
    if not isinstance(channels, int) or channels % num_groups:
        raise ImportModelError(f"group_norm: {num_groups} groups of {channels} channels")
    rest: Dim = dims.mul(channels // num_groups, *input.shape[2:])
    y = normalised(ops.reshape(input, (input.shape[0], num_groups, rest)), [2], eps)
    y = ops.reshape(y, input.shape)
    return scaled(y, *(None if w is None else over_channels(w, input) for w in (weight, bias)))


@handler("aten.instance_norm")
def instance_norm(node: Node, input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
                  running_mean: Tensor | None = None, running_var: Tensor | None = None, use_input_stats: bool = True,
                  momentum: float = 0.1, eps: float = 1e-5, cudnn_enabled: bool = True) -> Any:
    if not use_input_stats:
        return batch_norm(Node(node.name, "aten.batch_norm", "", {}, node.path), input, weight, bias, running_mean,
                          running_var, eps=eps)
    y = normalised(input, list(range(2, input.rank)), eps)
    return scaled(y, *(None if w is None else over_channels(w, input) for w in (weight, bias)))


@handler("aten._weight_norm", "aten._weight_norm_interface")
def weight_norm(node: Node, v: Tensor, g: Tensor, dim: int = 0) -> Any:
    """g v / |v|, the norm over all axes but ``dim`` (all of them: -1)."""
    axes = [i for i in range(v.rank) if dim == -1 or i != dim % v.rank]
    y = v * (g / ops.sqrt(ops.sum(v * v, axes, keepdims=True)))
    return y if node.op == "aten._weight_norm" else [y, g]
