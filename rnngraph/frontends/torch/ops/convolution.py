"""Convolutions and pools: PyTorch has channels first, the IR last."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.ops.emit import known
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import dims
from rnngraph.nn import ops
from rnngraph.nn.channels import channels_first, channels_last
from rnngraph.nn.tensor import Tensor


def many(value: Any, n: int) -> list[int]:
    """One number per axis."""
    given = [value] if isinstance(value, int) else list(value)
    return given * n if len(given) == 1 else given


@handler("aten.conv1d", "aten.conv2d", "aten.conv3d")
def conv(node: Node, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
         dilation: Any = 1, groups: int = 1) -> Tensor:
    n = weight.rank - 2
    known(input.shape[-1 - n], "the number of channels of a convolution")
    kernel = ops.transpose(weight, [*range(2, weight.rank), 1, 0])
    step, distance = many(stride, n), many(dilation, n)
    if isinstance(padding, str) and padding == "same":
        total = [d * (k - 1) for d, k in zip(distance, _ints(weight.shape[2:]), strict=True)]
        pads: Any = [(t // 2, t - t // 2) for t in total]
    else:
        pads = [(p, p) for p in ([0] * n if padding == "valid" else many(padding, n))]
    x = input if input.rank == n + 2 else ops.reshape(input, (1, *input.shape))
    y = ops.conv(channels_last(x, n), kernel, strides=step, padding=pads, dilation=distance, groups=groups)
    y = channels_first(y if bias is None else y + bias, n)
    return y if input.rank == n + 2 else ops.reshape(y, y.shape[1:])


def _ints(shape: Any) -> list[int]:
    return [d for d in shape if isinstance(d, int)]


@handler("aten.convolution", "aten._convolution")
def convolution(node: Node, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
                dilation: Any, transposed: bool, output_padding: Any, groups: int, **_: Any) -> Tensor:
    if transposed:
        return conv_transpose(node, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(node, input, weight, bias, stride, padding, dilation, groups)


@handler("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
def conv_transpose(node: Node, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
                   padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> Tensor:
    """weight [in, out / groups, *size]: each input is spread over its window."""
    n = weight.rank - 2
    step, pads, more, distance = (many(v, n) for v in (stride, padding, output_padding, dilation))
    channels, filters, *size = _ints(weight.shape)
    if channels % groups:
        raise ImportModelError(f"{channels} channels in {groups} groups")
    split = ops.reshape(weight, (groups, channels // groups, filters, *size))
    kernel = ops.transpose(split, [*range(3, n + 3), 1, 0, 2])
    kernel = ops.reshape(kernel, (*size, channels // groups, groups * filters))
    x = input if input.rank == n + 2 else ops.reshape(input, (1, *input.shape))
    y = ops.conv_transpose(channels_last(x, n), kernel, strides=step, padding=[(p, p) for p in pads],
                           dilation=distance, groups=groups, output_padding=more)
    y = channels_first(y if bias is None else y + bias, n)
    return y if input.rank == n + 2 else ops.reshape(y, y.shape[1:])


# --- pools ---------------------------------------------------------------------------------------------------------


def _pool(pool: Callable[..., Tensor], x: Tensor, n: int, window: Any, stride: Any, padding: Any,
          **options: Any) -> Tensor:
    size = many(window, n)
    whole = x if x.rank == n + 2 else ops.reshape(x, (1, *x.shape))
    y = pool(channels_last(whole, n), size, strides=size if stride in (None, []) else many(stride, n),
             padding=[(p, p) for p in many(padding, n)], **options)
    y = channels_first(y, n)
    return y if x.rank == n + 2 else ops.reshape(y, y.shape[1:])


@handler("aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d", "aten.max_pool1d_with_indices",
         "aten.max_pool2d_with_indices")
def max_pool(node: Node, self: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False) -> Any:
    n = _rank(node)
    y = _pool(ops.max_pool, self, n, kernel_size, stride, padding, dilation=many(dilation, n), ceil=ceil_mode)
    return [y] if node.op.endswith("indices") else y


@handler("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")
def avg_pool(node: Node, self: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    n = _rank(node)
    if divisor_override is not None:
        if ceil_mode or any(many(padding, n)):
            raise ImportModelError("divisor_override with padding or ceil_mode is not supported")
        factor = prod(many(kernel_size, n)) / divisor_override
        return _pool(ops.average_pool, self, n, kernel_size, stride, padding) * factor
    return _pool(ops.average_pool, self, n, kernel_size, stride, padding, ceil=ceil_mode,
                 count_padding=count_include_pad)


def _rank(node: Node) -> int:
    return next(int(c) for c in node.op if c in "123")


@handler("aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten.adaptive_avg_pool3d",
         "aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d")
def adaptive_pool(node: Node, self: Tensor, output_size: Any) -> Any:
    """Windows whose bounds are floor(i n / m) and ceil((i + 1) n / m); open sizes take 1 or the size itself."""
    n = _rank(node)
    largest = "max" in node.op
    x = self
    for axis, wanted in zip(range(self.rank - n, self.rank), many(output_size, n), strict=True):
        x = _adapted(x, axis, wanted, largest)
    return [x] if largest else x


def _adapted(x: Tensor, axis: int, wanted: Any, largest: bool) -> Tensor:
    size = x.shape[axis]
    reduce = ops.max if largest else ops.mean
    if wanted == size or wanted is None:
        return x
    if wanted == 1:
        return reduce(x, axis, keepdims=True)
    size, wanted = known(size, f"what is pooled to {wanted}"), known(wanted, "the size that is pooled to")
    lead = (slice(None),) * axis
    parts = [reduce(x[(*lead, slice(i * size // wanted, -(-(i + 1) * size // wanted)))], axis, keepdims=True)
             for i in range(wanted)]
    return ops.concat(parts, axis)


@handler("aten.upsample_nearest1d", "aten.upsample_nearest2d", "aten.upsample_nearest3d")
def upsample_nearest(node: Node, input: Tensor, output_size: Any = None, scale_factors: Any = None,
                     **scales: Any) -> Tensor:
    """Each place repeated a whole number of times."""
    n = _rank(node)
    x = input
    factors = scale_factors or [scales.get(k) for k in ("scales_d", "scales_h", "scales_w", "scales") if k in scales]
    for i, axis in enumerate(range(input.rank - n, input.rank)):
        size = x.shape[axis]
        if output_size is not None:
            by = dims.floordiv(output_size[i], size) if output_size[i] != 0 else 0
        else:
            by = int(factors[i]) if float(factors[i]) == int(factors[i]) else 0
        if not isinstance(by, int) or by < 1 or (output_size is not None and dims.mul(size, by) != output_size[i]):
            raise ImportModelError(f"nearest upsampling of {size}: expected a whole factor")
        wide = ops.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
        spread = ops.expand(wide, (*x.shape[: axis + 1], by, *x.shape[axis + 1 :]))
        x = ops.reshape(spread, (*x.shape[:axis], dims.mul(size, by), *x.shape[axis + 1 :]))
    return x
