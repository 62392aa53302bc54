"""Pooling over windows of spatial dims, channels last; part of `rnngraph.nn.ops`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnngraph.errors import ShapeError
from rnngraph.ir import make_op
from rnngraph.ir import ops as ir_ops
from rnngraph.ir.pool_ops import POOL, PoolAttrs
from rnngraph.nn.context import active
from rnngraph.nn.convolution import Padding, Sizes, pads, sizes
from rnngraph.nn.tensor import Tensor, composable, elementwise, wrap


@composable
def max_pool(x: Tensor, window: Sequence[int], *, strides: Sizes | None = None, padding: Padding = "valid",
             dilation: Sizes = 1, ceil: bool = False) -> Tensor:
    """The largest element of each window.

    x         [..., *spatial dims, channels]; spatial dims may be symbolic
    window    its size along each spatial dim
    strides   one number, or one per spatial dim (default: the window, as in Keras and PyTorch)
    padding   "same", "valid", a number, a number or a pair (in front, behind) per spatial dim; padding is never the
              largest
    dilation  the distance of the window's places
    ceil      a last window that is only partly there counts too (PyTorch's and ONNX's ceil_mode)

    >>> from rnngraph.nn import Input, ops
    >>> ops.max_pool(Input(("batch", "time", 8)), (2,)).shape
    ('batch', 'time//2', 8)
    """
    return wrap(_pool("max_pool", x, _attrs("max", x, window, strides, padding, dilation, ceil))[0])


@composable
def max_pool_with_indices(x: Tensor, window: Sequence[int], *, strides: Sizes | None = None,
                          padding: Padding = "valid", dilation: Sizes = 1,
                          ceil: bool = False) -> tuple[Tensor, Tensor]:
    """`max_pool`, and where each largest stood: i64 places in the spatial dims, counted row by row (PyTorch's)."""
    values, places = _pool("max_pool", x, _attrs("max", x, window, strides, padding, dilation, ceil, indices=True))
    return wrap(values), wrap(places)


@composable
def average_pool(x: Tensor, window: Sequence[int], *, strides: Sizes | None = None, padding: Padding = "valid",
                 dilation: Sizes = 1, ceil: bool = False, count_padding: bool = False) -> Tensor:
    """The mean of each window; arguments as of `max_pool`.

    ``count_padding``: the zeros of the padding count in the mean (PyTorch's count_include_pad), what ``ceil`` adds
    never does.
    """
    attrs = _attrs("average", x, window, strides, padding, dilation, ceil, counted=count_padding)
    return wrap(_pool("average_pool", x, attrs)[0])


@composable
def lp_pool(x: Tensor, window: Sequence[int], *, p: float = 2.0, strides: Sizes | None = None,
            padding: Padding = "valid", dilation: Sizes = 1, ceil: bool = False) -> Tensor:
    """(sum of abs(x)**p)**(1/p) of each window; arguments as of `max_pool`."""
    powers = elementwise(ir_ops.POW, elementwise(ir_ops.ABS, x), float(p))
    total = _pool("lp_pool", powers, _attrs("sum", x, window, strides, padding, dilation, ceil))[0]
    return elementwise(ir_ops.POW, wrap(total), 1.0 / p)


def _attrs(kind: str, x: Tensor, window: Sequence[int], strides: Any, padding: Any, dilation: Any, ceil: bool,
           **more: bool) -> PoolAttrs:
    n = len(window)
    if n < 1 or x.rank < n + 1:
        raise ShapeError(f"pool: a window {list(window)} takes [..., {n} spatial dims, channels], got {x.type}")
    kernel = sizes("pool", "window", tuple(window), n)
    step = kernel if strides is None else sizes("pool", "strides", strides, n)
    distance = sizes("pool", "dilation", dilation, n)
    spatial = [d for d in x.shape[-1 - n : -1] if isinstance(d, int)]
    if len(spatial) < n:
        if isinstance(padding, str) and padding.lower() == "same" and any(s > 1 for s in step):
            raise ShapeError(f"pool: padding='same' with strides needs integer spatial dims, got {x.type}")
        spatial = [1] * n  # "same" with stride 1 depends on the window alone
    low, high = pads("pool", padding, spatial, kernel, step, distance)
    return PoolAttrs(kind, kernel, step, low, high, distance, ceil, **more)


def _pool(owner: str, x: Tensor, attrs: PoolAttrs) -> Sequence[Any]:
    b = active().builder
    return b.insert(make_op(POOL, (x.value(),), attrs, layer=b.layer)).results


__all__ = ["average_pool", "lp_pool", "max_pool", "max_pool_with_indices"]
