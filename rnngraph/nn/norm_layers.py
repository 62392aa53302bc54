"""Layers that normalise: to mean 0 and variance 1, to a norm, or by numbers that are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Dim
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.layer import Layer
from rnngraph.nn.tensor import Tensor


class _Scaled(Layer):
    """What is normalised is scaled by gamma (``scale``) and moved by beta (``center``)."""

    def __init__(self, epsilon: float, center: bool, scale: bool, name: str | None) -> None:
        super().__init__(name)
        self.epsilon = epsilon
        self.center = center
        self.scale = scale

    def add_scale(self, sizes: tuple[int, ...]) -> None:
        """gamma and beta of these sizes, those that the layer has."""
        self.gamma = self.add_weight("gamma", sizes, "ones") if self.scale else None
        self.beta = self.add_weight("beta", sizes, "zeros") if self.center else None


class LayerNormalization(_Scaled):
    """(x - mean) / sqrt(variance + epsilon) over ``axis``, times gamma (scale), plus beta (center).

    ``axis`` is one or a rising list; gamma and beta have the sizes of the axes.
    """

    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
                 name: str | None = None) -> None:
        super().__init__(epsilon, center, scale, name)
        self.axis = axis

    def setup(self, shape: tuple[Dim, ...]) -> None:
        rank, axes = len(shape), [self.axis] if isinstance(self.axis, int) else list(self.axis)
        found = [a % rank for a in axes if -rank <= a < rank]
        sizes = tuple(d for a in found if isinstance(d := shape[a], int))
        if not axes or len(sizes) != len(axes) or found != sorted(set(found)):
            raise ShapeError(f"axis {self.axis} must be an axis of integer size, or several that rise, got "
                             f"[{','.join(map(str, shape))}]")
        self.add_scale(sizes)
        self.sizes = sizes

    def call(self, x: Tensor) -> Tensor:
        axes = [a % x.rank for a in ([self.axis] if isinstance(self.axis, int) else self.axis)]
        if tuple(x.shape[a] for a in axes) != self.sizes:
            raise ShapeError(f"expected size {', '.join(map(str, self.sizes))} at axis {', '.join(map(str, axes))}, "
                             f"got {x.type}")
        own = dict(zip(axes, self.sizes, strict=True))
        shape = tuple(own.get(i, 1) for i in range(axes[0], x.rank))
        gamma, beta = (None if w is None else ops.reshape(w, shape) for w in (self.gamma, self.beta))
        return ops.layer_norm(x, gamma, beta, axis=axes, epsilon=self.epsilon)


class BatchNormalization(_Scaled):
    """(x - moving_mean) / sqrt(moving_variance + epsilon) * gamma + beta, per index of ``axis`` (Keras; at inference).

    axis, epsilon  the axis of the channels (default -1), what is added to the variance (default 1e-3)
    center, scale  whether there are beta and gamma

    Weights: gamma, beta, moving_mean, moving_variance, [channels] each. Raises TraceError in training, which would
    take the mean and variance of a batch; ShapeError for an axis of symbolic size.

    Example:
        >>> from rnngraph.nn import BatchNormalization, Input, trace
        >>> trace(BatchNormalization(), Input(("batch", "time", 8))).outputs[0].shape
        ('batch', 'time', 8)
    """

    supports_masking = True

    def __init__(self, axis: int = -1, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
                 name: str | None = None) -> None:
        super().__init__(epsilon, center, scale, name)
        self.axis = axis

    def setup(self, shape: tuple[Dim, ...]) -> None:
        size = (_size(shape, self.axis),)
        self.add_scale(size)
        self.moving_mean = self.add_weight("moving_mean", size, "zeros")
        self.moving_variance = self.add_weight("moving_variance", size, "ones")

    def call(self, x: Tensor) -> Tensor:
        if active().options.training:
            raise TraceError(f"layer {active().path!r}: BatchNormalization computes with its moving mean and variance; "
                             "training, with those of a batch, is not supported")
        return ops.batch_norm(x, self.moving_mean, self.moving_variance, self.gamma, self.beta, axis=self.axis,
                              epsilon=self.epsilon)


class GroupNormalization(_Scaled):
    """Mean 0 and variance 1 in each row and group of channels, times gamma, plus beta (Wu and He 2018; Keras).

    groups  their number (default 32), which divides the channels; -1: every channel is a group

    Weights: gamma, beta, [channels] each, where ``scale`` and ``center`` say so.
    """

    def __init__(self, groups: int = 32, axis: int = -1, epsilon: float = 1e-3, center: bool = True,
                 scale: bool = True, name: str | None = None) -> None:
        super().__init__(epsilon, center, scale, name)
        self.groups = groups
        self.axis = axis

    def setup(self, shape: tuple[Dim, ...]) -> None:
        self.size = _size(shape, self.axis)
        self.add_scale((self.size,))

    def call(self, x: Tensor) -> Tensor:
        groups = self.size if self.groups == -1 else self.groups
        return ops.group_norm(x, groups, self.gamma, self.beta, axis=self.axis, epsilon=self.epsilon)


class RMSNormalization(Layer):
    """x / sqrt(mean of x**2 + epsilon) over ``axis``, times scale (Zhang and Sennrich 2019; Keras; epsilon 1e-6)."""

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, name: str | None = None) -> None:
        super().__init__(name)
        self.axis = axis
        self.epsilon = epsilon

    def setup(self, shape: tuple[Dim, ...]) -> None:
        sizes = tuple(_size(shape, a) for a in ([self.axis] if isinstance(self.axis, int) else self.axis))
        self.scale = self.add_weight("scale", sizes, "ones")

    def call(self, x: Tensor) -> Tensor:
        axes = [self.axis] if isinstance(self.axis, int) else list(self.axis)
        scale = ops.reshape(self.scale, _spread(self.scale.shape, axes, x.rank))
        return ops.rms_norm(x, scale, axis=axes, epsilon=self.epsilon)


class UnitNormalization(Layer):
    """x over its Euclidean norm along ``axis`` (Keras's UnitNormalization; the square is at least 1e-12)."""

    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, name: str | None = None) -> None:
        super().__init__(name)
        self.axis = axis

    def call(self, x: Tensor) -> Tensor:
        axes = [self.axis] if isinstance(self.axis, int) else list(self.axis)
        return x / ops.sqrt(ops.maximum(ops.sum(x * x, axes, keepdims=True), 1e-12))


class Normalization(Layer):
    """(x - mean) / max(sqrt(variance), 1e-7), with numbers given or set as weights (Keras's preprocessing layer).

    axis      the axes that have a mean of their own (default -1); () or None: one for all
    mean, variance  numbers or arrays; None: the weights ``mean`` and ``variance``
    invert    mean + x * sqrt(variance) instead
    """

    def __init__(self, axis: int | Sequence[int] | None = -1, mean: Any = None, variance: Any = None,
                 invert: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.axes = [] if axis is None else [axis] if isinstance(axis, int) else list(axis)
        if (mean is None) != (variance is None):
            raise TraceError(f"layer {self.path!r}: give both mean and variance, or neither")
        self.given = None if mean is None else (np.asarray(mean, np.float32), np.asarray(variance, np.float32))
        self.invert = invert

    def setup(self, shape: tuple[Dim, ...]) -> None:
        if self.given is None:
            sizes = tuple(_size(shape, a) for a in self.axes)
            self.mean, self.variance = self.add_weight("mean", sizes, "zeros"), self.add_weight("variance", sizes,
                                                                                                 "ones")

    def call(self, x: Tensor) -> Tensor:
        if self.given is not None:
            mean, root = self.given[0], np.maximum(np.sqrt(self.given[1]), np.float32(1e-7))
            return x * root + mean if self.invert else (x - mean) / root
        shape = _spread(self.mean.shape, self.axes, x.rank)
        center, spread = ops.reshape(self.mean, shape), ops.maximum(ops.sqrt(ops.reshape(self.variance, shape)), 1e-7)
        return x * spread + center if self.invert else (x - center) / spread


class Rescaling(Layer):
    """x * scale + offset (Keras), with numbers or arrays that broadcast."""

    supports_masking = True

    def __init__(self, scale: Any, offset: Any = 0.0, name: str | None = None) -> None:
        super().__init__(name)
        self.scale = np.asarray(scale, np.float32)
        self.offset = np.asarray(offset, np.float32)

    def call(self, x: Tensor) -> Tensor:
        if not x.dtype.is_float:
            x = ops.cast(x, "f32")
        return x * self.scale + self.offset


def _size(shape: tuple[Dim, ...], axis: int) -> int:
    """The size of an axis, which must be known."""
    size = shape[axis] if -len(shape) <= axis < len(shape) else None
    if not isinstance(size, int):
        raise ShapeError(f"axis {axis} must be an axis of integer size, got [{','.join(map(str, shape))}]")
    return size


def _spread(sizes: tuple[Dim, ...], axes: Sequence[int], rank: int) -> tuple[Dim, ...]:
    """The shape in which sizes of some axes broadcast over all."""
    found: list[Dim] = [1] * rank
    for size, axis in zip(sizes, axes, strict=True):
        found[axis] = size
    return tuple(found)


__all__ = ["BatchNormalization", "GroupNormalization", "LayerNormalization", "Normalization", "RMSNormalization",
           "Rescaling", "UnitNormalization"]
