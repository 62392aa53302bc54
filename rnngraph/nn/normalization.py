"""Normalizations, composed of elementwise ops and reductions; part of `rnngraph.nn.ops`.

``axis`` says where the channels are: the last axis, as in Keras, unless it is given (1 in ONNX and PyTorch).
"""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import ops as ir_ops
from rnngraph.ir.pool_ops import POOL, PoolAttrs
from rnngraph.nn.context import active
from rnngraph.nn.numeric import axis_of
from rnngraph.nn.reductions import mean as average
from rnngraph.nn.reductions import sum as total_of
from rnngraph.nn.tensor import Operand, Tensor, composable, elementwise, wrap


@composable
def batch_norm(x: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, *,
               axis: int = -1, epsilon: float = 1e-3) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta with one number of each per channel: at inference."""
    axis = axis_of("batch_norm", x, axis)
    scale = elementwise(ir_ops.DIV, 1.0 if gamma is None else gamma, _root(variance + epsilon))
    shift = -mean * scale if beta is None else beta - mean * scale
    return x * _per_channel(scale, x, axis) + _per_channel(shift, x, axis)


@composable
def instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, *, axis: int = -1,
                  epsilon: float = 1e-5) -> Tensor:
    """x[batch, ...] made of mean 0 and variance 1 in each row and channel; gamma and beta have one number per
    channel."""
    axis = axis_of("instance_norm", x, axis)
    spatial = [i for i in range(1, x.rank) if i != axis]
    if not spatial or axis == 0:
        raise TraceError(f"instance_norm: expected [batch, channels, *spatial dims], got {x.type} with axis {axis}")
    return _scaled(_standard(x, spatial, epsilon), gamma, beta, axis)


@composable
def group_norm(x: Tensor, groups: int, gamma: Tensor | None = None, beta: Tensor | None = None, *, axis: int = -1,
               epsilon: float = 1e-3) -> Tensor:
    """x[batch, ...] made of mean 0 and variance 1 in each row and each of ``groups`` groups of channels.

    gamma and beta have one number per channel.
    """
    axis = axis_of("group_norm", x, axis)
    channels = x.shape[axis]
    if axis == 0 or not isinstance(channels, int) or groups < 1 or channels % groups:
        raise ShapeError(f"group_norm: expected channels in axis {axis} of {x.type} that {groups} groups divide")
    b = active().builder
    wide = wrap(b.reshape(x.value(), (*x.shape[:axis], groups, channels // groups, *x.shape[axis + 1 :])))
    out = _standard(wide, [i for i in range(1, wide.rank) if i != axis], epsilon)
    return _scaled(wrap(b.reshape(out.value(), x.shape)), gamma, beta, axis)


def layer_norm(x: Tensor, gamma: Operand | None = None, beta: Operand | None = None, *,
               axis: int | Sequence[int] = -1, epsilon: float = 1e-3) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) over ``axis`` (one or more), times gamma, plus beta where given."""
    centered = x - average(x, axis, keepdims=True)
    out = centered / _root(average(centered * centered, axis, keepdims=True) + epsilon)
    if gamma is not None:
        out = out * gamma
    return out if beta is None else out + beta


@composable
def rms_norm(x: Tensor, gamma: Operand | None = None, *, axis: int | Sequence[int] = -1,
             epsilon: float = 1e-5) -> Tensor:
    """x / sqrt(mean of x**2 + epsilon) over ``axis``, times gamma (Zhang and Sennrich, 2019)."""
    axes = [axis_of("rms_norm", x, a) for a in ([axis] if isinstance(axis, int) else axis)]
    out = x / _root(average(x * x, axes, keepdims=True) + epsilon)
    return out if gamma is None else out * gamma


@composable
def local_response_norm(x: Tensor, size: int, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0,
                        axis: int = -1) -> Tensor:
    """x / (bias + alpha / size * sum of x**2 over ``size`` neighbouring channels)**beta (ONNX's LRN, PyTorch's)."""
    axis = axis_of("local_response_norm", x, axis)
    b, low = active().builder, (size - 1) // 2
    order = [i for i in range(x.rank) if i != axis] + [axis]
    last = b.transpose((x * x).value(), order)
    attrs = PoolAttrs("sum", (size,), (1,), (low,), (size - 1 - low,), (1,))
    total = b.reshape(b.op(POOL, b.reshape(last, (*last.shape, 1)), attrs=attrs), last.shape)
    back = b.transpose(total, [order.index(i) for i in range(x.rank)])
    return x / (wrap(back) * (alpha / size) + bias) ** beta


@composable
def lp_normalize(x: Tensor, p: int = 2, *, axis: int = -1) -> Tensor:
    """x over its norm along ``axis``, the sum of absolute values (p = 1) or the root of the sum of squares (p = 2);
    0 where the norm is 0."""
    if p not in (1, 2):
        raise TraceError(f"lp_normalize: p must be 1 or 2, got {p!r}")
    axes = [axis_of("lp_normalize", x, axis)]
    norm = total_of(elementwise(ir_ops.ABS, x) if p == 1 else x * x, axes, keepdims=True)
    norm = norm if p == 1 else _root(norm)
    empty = elementwise(ir_ops.EQ, norm, 0.0)
    b = active().builder
    return x / wrap(b.elementwise(ir_ops.SELECT, empty.value(), 1.0, norm.value()))


# --- parts ----------------------------------------------------------------------------------------------------


def _root(x: Tensor) -> Tensor:
    return elementwise(ir_ops.SQRT, x)


def _standard(x: Tensor, axes: Sequence[int], epsilon: float) -> Tensor:
    centered = x - average(x, axes, keepdims=True)
    return centered / _root(average(centered * centered, axes, keepdims=True) + epsilon)


def _scaled(x: Tensor, gamma: Tensor | None, beta: Tensor | None, axis: int) -> Tensor:
    if gamma is not None:
        x = x * _per_channel(gamma, x, axis)
    return x if beta is None else x + _per_channel(beta, x, axis)


def _per_channel(vector: Tensor, x: Tensor, axis: int) -> Tensor:
    """A vector over the channels as it broadcasts to x."""
    if vector.rank == 0:
        return vector
    b = active().builder
    return wrap(b.reshape(vector.value(), (vector.shape[0], *[1] * (x.rank - 1 - axis))))


__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "lp_normalize", "rms_norm"]
