"""Pooling as layers, with Keras's arguments: the largest or the mean of windows, or of everything."""

from __future__ import annotations

from typing import ClassVar

from rnngraph.errors import TraceError
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.conv_layers import ChannelsLastLayer, SpatialLayer
from rnngraph.nn.convolution import Sizes, sizes
from rnngraph.nn.tensor import Tensor, wrap


class _Pooling(ChannelsLastLayer):
    kind: ClassVar[str]

    def __init__(self, pool_size: Sizes = 2, strides: Sizes | None = None, padding: str = "valid",
                 data_format: str | None = None, name: str | None = None) -> None:
        super().__init__(data_format, name)
        where = f"layer {self.path!r}"
        self.pool_size = sizes(where, "pool_size", pool_size, self.dims)
        self.strides = self.pool_size if strides is None else sizes(where, "strides", strides, self.dims)
        if not isinstance(padding, str) or padding.lower() not in ("valid", "same"):
            raise TraceError(f"{where}: padding must be 'valid' or 'same', got {padding!r}")
        self.padding = padding.lower()

    def compute(self, x: Tensor) -> Tensor:
        pool = ops.max_pool if self.kind == "max" else ops.average_pool
        return pool(x, self.pool_size, strides=self.strides, padding=self.padding)


class MaxPooling1D(_Pooling):
    """The largest of each window of steps: [batch, steps, channels] -> [batch, steps', channels] (Keras).

    pool_size    the size of a window (default 2)
    strides      the distance of windows; None (default): pool_size
    padding      "valid" (default) or "same", in which padding is never the largest and no part of a mean
    data_format  "channels_last" (default) or "channels_first"

    Example:
        >>> from rnngraph.nn import Input, MaxPooling1D, trace
        >>> trace(MaxPooling1D(2), Input(("batch", "time", 8))).outputs[0].shape
        ('batch', 'time//2', 8)
    """

    dims, kind = 1, "max"


class MaxPooling2D(_Pooling):
    """The largest of each window of an image; see `MaxPooling1D`."""

    dims, kind = 2, "max"


class MaxPooling3D(_Pooling):
    """The largest of each window of a volume; see `MaxPooling1D`."""

    dims, kind = 3, "max"


class AveragePooling1D(_Pooling):
    """The mean of each window of steps; see `MaxPooling1D`."""

    dims, kind = 1, "average"


class AveragePooling2D(_Pooling):
    """The mean of each window of an image; see `MaxPooling1D`."""

    dims, kind = 2, "average"


class AveragePooling3D(_Pooling):
    """The mean of each window of a volume; see `MaxPooling1D`."""

    dims, kind = 3, "average"


class _GlobalPooling(SpatialLayer):
    kind: ClassVar[str]
    masks: ClassVar[bool] = False

    def __init__(self, data_format: str | None = None, keepdims: bool = False, name: str | None = None) -> None:
        super().__init__(data_format, name)
        self.keepdims = keepdims

    def call(self, x: Tensor) -> Tensor:
        self.check(x)
        first = 2 if self.channels_first else 1
        axes = tuple(range(first, first + self.dims))
        if self.kind == "max":
            return ops.max(x, axes, keepdims=self.keepdims)
        mask = active().time_masks.get(x.value()) if self.masks else None
        if mask is None:
            return ops.mean(x, axes, keepdims=self.keepdims)
        keep = ops.reshape(wrap(mask), (*mask.shape[:1], 1, mask.shape[1]) if self.channels_first else
                           (*mask.shape, 1))
        kept = ops.sum(ops.where(keep, x, 0.0), axes, keepdims=self.keepdims)
        return kept / ops.sum(ops.where(keep, 1.0, 0.0), axes, keepdims=self.keepdims)

    def compute_mask(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        return None


class GlobalMaxPooling1D(_GlobalPooling):
    """The largest over all steps: [batch, steps, channels] -> [batch, channels] (Keras), with keepdims [batch, 1, ...].

    Example:
        >>> from rnngraph.nn import GlobalMaxPooling1D, Input, trace
        >>> trace(GlobalMaxPooling1D(), Input(("batch", "time", 8))).outputs[0].shape
        ('batch', 8)
    """

    dims, kind = 1, "max"


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest over an image; see `GlobalMaxPooling1D`."""

    dims, kind = 2, "max"


class GlobalMaxPooling3D(_GlobalPooling):
    """The largest over a volume; see `GlobalMaxPooling1D`."""

    dims, kind = 3, "max"


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean over all steps, those that the input's mask leaves out apart; see `GlobalMaxPooling1D`."""

    dims, kind, masks = 1, "average", True


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean over an image; see `GlobalMaxPooling1D`."""

    dims, kind = 2, "average"


class GlobalAveragePooling3D(_GlobalPooling):
    """The mean over a volume; see `GlobalMaxPooling1D`."""

    dims, kind = 3, "average"


__all__ = ["AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "GlobalAveragePooling1D",
           "GlobalAveragePooling2D", "GlobalAveragePooling3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D",
           "GlobalMaxPooling3D", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D"]
