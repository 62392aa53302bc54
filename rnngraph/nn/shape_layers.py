"""Layers that move elements: Flatten, Reshape, Permute, RepeatVector, ZeroPadding, Cropping, UpSampling; Identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Dim, dims
from rnngraph.nn import ops
from rnngraph.nn.channels import channels_last
from rnngraph.nn.conv_layers import ChannelsLastLayer
from rnngraph.nn.convolution import Sizes, sizes
from rnngraph.nn.layer import Layer
from rnngraph.nn.tensor import Tensor

Pairs: TypeAlias = int | Sequence[int | Sequence[int]]


class Identity(Layer):
    """x itself (Keras's Identity)."""

    supports_masking = True

    def call(self, x: Tensor) -> Tensor:
        return x


class Flatten(Layer):
    """[batch, ...] -> [batch, product of the others] (Keras); channels_first is turned to channels last before."""

    def __init__(self, data_format: str | None = None, name: str | None = None) -> None:
        super().__init__(name)
        self.channels_first = data_format == "channels_first"

    def call(self, x: Tensor) -> Tensor:
        if self.channels_first and x.rank > 2:
            x = channels_last(x)
        return ops.reshape(x, (x.shape[0], dims.mul(*x.shape[1:])))


class Reshape(Layer):
    """[batch, ...] -> [batch, *target_shape]; one size may be -1 (Keras).

    Example:
        >>> from rnngraph.nn import Input, Reshape, trace
        >>> trace(Reshape((-1, 4)), Input(("batch", "time", 8))).outputs[0].shape
        ('batch', '2*time', 4)
    """

    def __init__(self, target_shape: Sequence[int], name: str | None = None) -> None:
        super().__init__(name)
        if list(target_shape).count(-1) > 1 or not all(isinstance(d, int) and d >= -1 for d in target_shape):
            raise TraceError(f"layer {self.path!r}: target_shape holds sizes >= 0 and at most one -1, got "
                             f"{target_shape!r}")
        self.target_shape = tuple(target_shape)

    def call(self, x: Tensor) -> Tensor:
        total = dims.mul(*x.shape[1:])
        known = dims.mul(*(d for d in self.target_shape if d != -1))
        if known == 0 and -1 in self.target_shape:
            raise ShapeError(f"expected sizes above 0 beside -1, got {list(self.target_shape)}")
        rest: Dim = dims.floordiv(total, known) if -1 in self.target_shape else 1
        return ops.reshape(x, (x.shape[0], *(rest if d == -1 else d for d in self.target_shape)))


class Permute(Layer):
    """The axes behind the batch in another order, counted from 1: Permute((2, 1)) turns time and features (Keras)."""

    def __init__(self, dims: Sequence[int], name: str | None = None) -> None:
        super().__init__(name)
        if sorted(dims) != list(range(1, len(dims) + 1)):
            raise TraceError(f"layer {self.path!r}: dims must be a permutation of 1..{len(dims)}, got {dims!r}")
        self.dims = tuple(dims)

    def call(self, x: Tensor) -> Tensor:
        if x.rank != 1 + len(self.dims):
            raise ShapeError(f"expected an input of rank {1 + len(self.dims)}, got {x.type}")
        return ops.transpose(x, (0, *self.dims))


class RepeatVector(Layer):
    """[batch, features] -> [batch, n, features], the same at every step (Keras).

    Example:
        >>> from rnngraph.nn import Input, RepeatVector, trace
        >>> trace(RepeatVector(5), Input(("batch", 8))).outputs[0].shape
        ('batch', 5, 8)
    """

    def __init__(self, n: int, name: str | None = None) -> None:
        super().__init__(name)
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise TraceError(f"layer {self.path!r}: n must be an int >= 1, got {n!r}")
        self.n = n

    def call(self, x: Tensor) -> Tensor:
        if x.rank != 2:
            raise ShapeError(f"expected an input [batch, features], got {x.type}")
        return ops.expand(ops.reshape(x, (x.shape[0], 1, x.shape[1])), (x.shape[0], self.n, x.shape[1]))


def _pairs(owner: str, name: str, given: Pairs, count: int) -> list[tuple[int, int]]:
    """(in front, behind) per spatial dim, as Keras's layers take it."""
    items: list[int | Sequence[int]]
    if isinstance(given, int):
        items = [given] * count
    elif count == 1 and len(given) == 2 and all(isinstance(v, int) for v in given):
        items = [[v for v in given if isinstance(v, int)]]
    else:
        items = list(given)
    if len(items) != count:
        raise TraceError(f"{owner}: {name} must have {count} numbers or pairs, got {given!r}")
    found = [sizes(owner, name, item, 2, 0) for item in items]
    return [(low, high) for low, high in found]


class _Around(ChannelsLastLayer):
    sign: int

    def __init__(self, around: Pairs, data_format: str | None, name: str | None) -> None:
        super().__init__(data_format, name)
        what = "padding" if self.sign > 0 else "cropping"
        self.around = _pairs(f"layer {self.path!r}", what, around, self.dims)

    def compute(self, x: Tensor) -> Tensor:
        return ops.pad(x, (0, *(self.sign * low for low, _ in self.around), 0),
                       (0, *(self.sign * high for _, high in self.around), 0))


class ZeroPadding1D(_Around):
    """Zeros in front of and behind the steps: a number for both, or a pair (Keras).

    Example:
        >>> from rnngraph.nn import Input, ZeroPadding1D, trace
        >>> trace(ZeroPadding1D((2, 1)), Input(("batch", "time", 8))).outputs[0].shape
        ('batch', 'time+3', 8)
    """

    dims, sign = 1, 1

    def __init__(self, padding: Pairs = 1, data_format: str | None = None, name: str | None = None) -> None:
        super().__init__(padding, data_format, name)


class ZeroPadding2D(_Around):
    """Zeros around images: a number, one per dim, or a pair (in front, behind) per dim; see `ZeroPadding1D`."""

    dims, sign = 2, 1

    def __init__(self, padding: Pairs = 1, data_format: str | None = None, name: str | None = None) -> None:
        super().__init__(padding, data_format, name)


class Cropping1D(_Around):
    """Cuts steps off in front and behind: a number for both, or a pair (Keras)."""

    dims, sign = 1, -1

    def __init__(self, cropping: Pairs = 1, data_format: str | None = None, name: str | None = None) -> None:
        super().__init__(cropping, data_format, name)


class Cropping2D(_Around):
    """Cuts the edges of images off: a number, one per dim, or a pair per dim (Keras; default 0)."""

    dims, sign = 2, -1

    def __init__(self, cropping: Pairs = 0, data_format: str | None = None, name: str | None = None) -> None:
        super().__init__(cropping, data_format, name)


class _UpSampling(ChannelsLastLayer):
    def __init__(self, size: Sizes = 2, data_format: str | None = None, name: str | None = None) -> None:
        super().__init__(data_format, name)
        self.size = sizes(f"layer {self.path!r}", "size", size, self.dims)

    def compute(self, x: Tensor) -> Tensor:
        for axis, n in enumerate(self.size, 1):
            shape = x.shape
            wide = ops.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
            wide = ops.expand(wide, (*shape[: axis + 1], n, *shape[axis + 1 :]))
            x = ops.reshape(wide, (*shape[:axis], dims.mul(shape[axis], n), *shape[axis + 1 :]))
        return x


class UpSampling1D(_UpSampling):
    """Every step ``size`` times (Keras).

    Example:
        >>> from rnngraph.nn import Input, UpSampling1D, trace
        >>> trace(UpSampling1D(3), Input(("batch", "time", 8))).outputs[0].shape
        ('batch', '3*time', 8)
    """

    dims = 1


class UpSampling2D(_UpSampling):
    """Every row and column ``size`` times: interpolation "nearest" (Keras)."""

    dims = 2


__all__ = ["Cropping1D", "Cropping2D", "Flatten", "Identity", "Permute", "RepeatVector", "Reshape", "UpSampling1D",
           "UpSampling2D", "ZeroPadding1D", "ZeroPadding2D"]
