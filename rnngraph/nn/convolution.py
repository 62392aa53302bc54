"""Convolution of channels-last tensors, and the arguments that layers give it: sizes, paddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Dim, Shape, dims
from rnngraph.ir.grid_ops import CONV, ConvAttrs
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, composable, value_of, wrap

Sizes: TypeAlias = int | Sequence[int]
Padding: TypeAlias = str | int | Sequence[int | Sequence[int]]


@composable
def conv(x: Tensor, kernel: Tensor, *, strides: Sizes = 1, padding: Padding = "same", dilation: Sizes = 1,
         groups: int = 1) -> Tensor:
    """Convolution (cross-correlation) over the spatial dims of x, in 1, 2, 3 or more dims.

    x         [batch, ..., *spatial dims, channels], float; channels are an integer, spatial dims may be symbols
    kernel    [*size, channels / groups, filters], what Keras and TensorFlow call a kernel
    strides   one number, or one per spatial dim (default 1)
    padding   "same" (TensorFlow's and Keras's rule: the size is ceil(n / stride), an odd zero goes behind), "valid"
              (none), a number, a number per spatial dim, or a pair (in front, behind) per spatial dim
    dilation  the distance of the kernel's taps (default 1)
    groups    channels and filters in this many independent groups (default 1)

    Returns [batch, ..., *spatial dims', filters]; n of a spatial dim becomes (n + low + high - dilation (k - 1) - 1) //
    stride + 1. Raises ShapeError for shapes that do not fit, a kernel larger than its padded input; TraceError for
    arguments of a wrong kind.

    >>> from rnngraph.nn import Input, Layer, ops, trace
    >>> class Blur(Layer):
    ...     def setup(self, shape):
    ...         self.kernel = self.add_weight("kernel", (3, 3, shape[-1], 8))
    ...     def call(self, x):
    ...         return ops.conv(x, self.kernel, strides=2)
    >>> trace(Blur(), Input(("batch", 9, 9, 4))).outputs[0].shape
    ('batch', 5, 5, 8)
    """
    kernel_shape = kernel.shape if isinstance(kernel, Tensor) else getattr(kernel, "shape", ())
    n = len(kernel_shape) - 2
    if n < 1 or not isinstance(x, Tensor) or x.rank < n + 2:
        raise ShapeError("conv: expected x [batch, *spatial dims, channels] and a kernel [*size, channels, filters], "
                         f"got {getattr(x, 'type', x)} and {getattr(kernel, 'type', kernel)}")
    window = [d for d in kernel_shape[:n] if isinstance(d, int)]
    if any(isinstance(d, str) for d in kernel_shape):
        raise ShapeError(f"conv: kernel sizes must be integers, got a kernel of shape {list(kernel_shape)}")
    step, distance = sizes("conv", "strides", strides, n), sizes("conv", "dilation", dilation, n)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise TraceError(f"conv: groups must be an int >= 1, got {groups!r}")
    low, high = symbolic_pads("conv", padding, x.shape[-1 - n : -1], window, step, distance)
    attrs = ConvAttrs(step, low, high, distance, groups)
    return wrap(active().builder.op(CONV, x.value(), value_of(kernel), attrs=attrs))


def sizes(owner: str, name: str, given: Any, n: int, least: int = 1) -> tuple[int, ...]:
    """One number per spatial dim from a number or a sequence of them; TraceError when it is neither."""
    values = (given,) * n if isinstance(given, int) else tuple(given) if isinstance(given, Sequence) else ()
    good = len(values) == n and all(isinstance(v, int) and not isinstance(v, bool) and v >= least for v in values)
    if isinstance(given, str | bool) or not good:
        raise TraceError(f"{owner}: {name} must be a whole number >= {least}, or {n} of them, got {given!r}")
    return values


def symbolic_pads(owner: str, padding: Any, spatial: Shape, kernel: Sequence[int], strides: Sequence[int],
                  dilation: Sequence[int]) -> tuple[Shape, Shape]:
    """The zeros in front and behind of every spatial dim; dims may be symbolic, and then the zeros may be."""
    known = [d for d in spatial if isinstance(d, int)]
    if not isinstance(padding, str) or padding.lower() != "same" or len(known) == len(spatial):
        numbers = known if len(known) == len(spatial) else [1] * len(spatial)
        return pads(owner, padding, numbers, kernel, strides, dilation)
    total = [_missing(size, s, d * (k - 1) + 1)
             for size, k, s, d in zip(spatial, kernel, strides, dilation, strict=True)]
    low = tuple(dims.floordiv(t, 2) for t in total)
    return low, tuple(dims.sub(t, lo) for t, lo in zip(total, low, strict=True))


def _missing(size: Dim, stride: int, window: int) -> Dim:
    """How many zeros ceil(size / stride) windows need."""
    if window == 1:
        return 0
    more = dims.sub(dims.add(dims.mul(dims.sub(dims.ceildiv(size, stride), 1), stride), window), size)
    return more if window >= stride else dims.maximum(0, more)


def pads(owner: str, padding: Any, spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int],
         dilation: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The zeros in front and behind of every spatial dim."""
    n = len(spatial)
    if isinstance(padding, str):
        which = padding.lower()
        if which == "valid":
            return (0,) * n, (0,) * n
        if which == "same":
            total = [max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
                     for size, k, s, d in zip(spatial, kernel, strides, dilation, strict=True)]
            return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        raise TraceError(f"{owner}: padding must be 'same', 'valid' or numbers, got {padding!r}")
    if isinstance(padding, Sequence) and any(isinstance(p, Sequence) for p in padding):
        pairs = [sizes(owner, "padding", p, 2, 0) for p in padding]
        if len(pairs) != n:
            raise TraceError(f"{owner}: padding must have {n} pairs, got {padding!r}")
        return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
    both = sizes(owner, "padding", padding, n, 0)
    return both, both


__all__ = ["Padding", "Sizes", "conv", "pads", "sizes", "symbolic_pads"]
