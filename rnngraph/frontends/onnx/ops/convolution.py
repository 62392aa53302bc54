"""Convolutions; channels are moved to the end, where those of the IR are, and back."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.frontends.onnx.windows import auto_pad, images, numbers, window_of
from rnngraph.ir import dims
from rnngraph.nn import ops
from rnngraph.nn.channels import channels_first, channels_last
from rnngraph.nn.tensor import Tensor


@handler("Conv")
def conv(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    return convolved(node, x, w, b)


def convolved(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """x[N, C, *S] by w[M, C / group, *K] plus b[M]."""
    size = _size(node, x, w)
    window = window_of(node, images(node, x), size)
    kernel = ops.transpose(w, (*range(2, w.rank), 1, 0))
    out = ops.conv(channels_last(x), kernel, strides=window.strides, padding=window.pairs, dilation=window.dilations,
                   groups=node.attr("group", 1))
    return channels_first(out if b is None else out + b)


def _size(node: Node, x: Tensor, w: Tensor) -> list[int]:
    """The kernel's size, off the weights."""
    size = [d for d in w.shape[2:] if isinstance(d, int)]
    if w.rank != x.rank or len(size) != len(images(node, x)):
        raise ImportModelError(f"{node}: expected weights [filters, channels, *size] of the input's rank, got {x.type} "
                               f"and {w.type}")
    if list(node.ints("kernel_shape", size) or ()) != size:
        raise ImportModelError(f"{node}: kernel_shape {node.ints('kernel_shape')} is not that of the weights {w.type}")
    return size


@handler("ConvTranspose")
def conv_transpose(node: Node, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """w[C, M / group, *K]; pads are cut off the output, or follow from its size (output_shape, auto_pad)."""
    size, spatial, group = _size(node, x, w), images(node, x), node.attr("group", 1)
    n, channels = len(size), w.shape[0]
    strides, dilations = numbers(node, "strides", n, [1] * n, 1), numbers(node, "dilations", n, [1] * n, 1)
    extra = numbers(node, "output_padding", n, [0] * n, 0)
    if not isinstance(channels, int) or group < 1 or channels % group:
        raise ImportModelError(f"{node}: {group} groups do not divide the channels of {w.type}")
    totals, auto = None, auto_pad(node)
    if "output_shape" in node.attributes:
        totals = _totals_for(node, spatial, size, strides, dilations, extra)
    elif auto.startswith("SAME"):  # the output is stride * n
        totals = [d * (k - 1) + 1 + e - s for d, k, e, s in zip(dilations, size, extra, strides, strict=True)]
    if totals is None:
        pads = numbers(node, "pads", 2 * n, [0] * 2 * n, 0) if auto == "NOTSET" else (0,) * 2 * n
        pairs = list(zip(pads[:n], pads[n:], strict=True))
    else:
        extra = tuple(e + max(0, -t) for e, t in zip(extra, totals, strict=True))
        halves = [(max(t, 0) // 2, max(t, 0) - max(t, 0) // 2) for t in totals]
        pairs = halves if auto == "SAME_UPPER" else [(hi, lo) for lo, hi in halves]
    wide = ops.reshape(w, (group, channels // group, *w.shape[1:]))
    spread = ops.transpose(wide, (*range(3, wide.rank), 1, 0, 2))
    kernel = ops.reshape(spread, (*size, channels // group, -1))
    out = ops.conv_transpose(channels_last(x), kernel, strides=strides, padding=pairs, output_padding=extra,
                             dilation=dilations, groups=group)
    return channels_first(out if b is None else out + b)


def _totals_for(node: Node, spatial: tuple[int | str, ...], size: list[int], strides: tuple[int, ...],
                dilations: tuple[int, ...], extra: tuple[int, ...]) -> list[int]:
    """What is to be cut off for an output of output_shape."""
    n = len(size)
    wanted = (node.ints("output_shape") or ())[-n:]
    if len(wanted) != n:
        raise ImportModelError(f"{node}: output_shape must be {n} number(s), got {node.ints('output_shape')}")
    totals = []
    for d, k, s, dl, e, out in zip(spatial, size, strides, dilations, extra, wanted, strict=True):
        if not isinstance(d, int):
            raise NeedsSize(sorted(dims.symbols_of(d)), f"{node} pads an output of {d} to {out}")
        totals.append(s * (d - 1) + e + (k - 1) * dl + 1 - out)
    return totals
