"""Convolution, Deconvolution, Pooling, UpSampling, Pad: channels in axis 1, or last (layout NHWC)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.ir import Dim, dims
from rnngraph.nn import ops
from rnngraph.nn.channels import channels_first, channels_last
from rnngraph.nn.tensor import Tensor

LAYOUTS = ("None", "NCW", "NCHW", "NCDHW", "NWC", "NHWC", "NDHWC")


def _channels_last(node: Node, x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """f on x with its channels last, the result in x's layout again."""
    if node.attrs.choice("layout", "None", LAYOUTS).endswith("C"):
        return f(x)
    return channels_first(f(channels_last(x)))


def _window(node: Node, x: Tensor) -> tuple[tuple[int, ...], dict[str, tuple[int, ...]]]:
    """The kernel, and strides, dilation and padding along each axis."""
    kernel = node.attrs.ints("kernel")
    n = len(kernel)
    if n < 1 or x.rank != n + 2 or min(kernel) < 1:
        raise ImportModelError(f"{node}: a kernel {list(kernel)} takes [batch, channels] and {n} axes, got {x.type}")
    found = {ours: node.attrs.ints(name, (least,) * n) or (least,) * n for ours, name, least in (
        ("strides", "stride", 1), ("dilation", "dilate", 1), ("padding", "pad", 0))}
    if any(len(v) != n for v in found.values()):
        raise ImportModelError(f"{node}: expected {n} numbers for stride, dilate and pad, got {found}")
    return kernel, found


@handler("Convolution", "Convolution_v1")
def convolution(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel, window = _window(node, x)
    last = node.attrs.text("layout", "None").endswith("C")
    if weight.rank != x.rank or weight.shape[0] != node.attrs.integer("num_filter") or kernel != tuple(
            weight.shape[1:-1] if last else weight.shape[2:]):
        raise ImportModelError(f"{node}: a weight of {weight.type} does not fit kernel {list(kernel)}")
    order = (*range(1, x.rank), 0) if last else (*range(2, x.rank), 1, 0)

    def run(image: Tensor) -> Tensor:
        out = ops.conv(image, ops.transpose(weight, order), groups=node.attrs.integer("num_group", 1), **window)
        return out if bias is None or node.attrs.flag("no_bias") else out + bias

    return _channels_last(node, x, run)


@handler("Deconvolution")
def deconvolution(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A weight [channels, filters / groups, *size]; no bias unless no_bias is False, as in MXNet."""
    kernel, window = _window(node, x)
    if node.attrs.text("layout", "None").endswith("C") or weight.rank != x.rank or kernel != tuple(weight.shape[2:]):
        raise ImportModelError(f"{node}: expected channels in axis 1 and a weight of kernel {list(kernel)}, got "
                               f"{weight.type}")
    groups = node.attrs.integer("num_group", 1)
    n, (channels, each, *size) = len(kernel), weight.shape
    behind = node.attrs.ints("adj", (0,) * n) or (0,) * n
    if node.attrs.ints("target_shape", ()):
        raise ImportModelError(f"{node}: target_shape is not supported; say pad and adj")
    wide = ops.reshape(weight, (groups, dims.floordiv(channels, groups), each, *size))
    axes = [*range(3, 3 + n), 1, 0, 2]
    turned = ops.reshape(ops.transpose(wide, axes), (*size, dims.floordiv(channels, groups), dims.mul(groups, each)))

    def run(image: Tensor) -> Tensor:
        out = ops.conv_transpose(image, turned, output_padding=behind, groups=groups, **window)
        return out if bias is None or node.attrs.flag("no_bias", True) else out + bias

    return _channels_last(node, x, run)


@handler("Pooling", "Pooling_v1")
def pooling(node: Node, x: Tensor) -> Tensor:
    kind = node.attrs.choice("pool_type", "max", ("max", "avg", "sum", "lp"))
    if node.attrs.flag("global_pool"):
        return _channels_last(node, x, lambda image: _global(node, image, kind))
    kernel, window = _window(node, x)
    rule = node.attrs.choice("pooling_convention", "valid", ("valid", "full", "same"))
    if rule == "same":
        raise ImportModelError(f"{node}: pooling_convention same is not supported")
    options: dict[str, Any] = {"strides": window["strides"], "padding": window["padding"], "ceil": rule == "full"}

    def run(image: Tensor) -> Tensor:
        if kind == "max":
            return ops.max_pool(image, kernel, **options)
        if kind == "lp":
            return ops.lp_pool(image, kernel, p=_power(node), **options)
        if kind == "sum":
            return ops.lp_pool(image, kernel, p=1.0, **options) - 2.0 * ops.lp_pool(ops.minimum(image, 0.0), kernel,
                                                                                 p=1.0, **options)
        return ops.average_pool(image, kernel, count_padding=node.attrs.flag("count_include_pad", True), **options)

    return _channels_last(node, x, run)


def _power(node: Node) -> float:
    p = node.attrs.integer("p_value")
    if p not in (1, 2, 3):
        raise ImportModelError(f"{node}: p_value is 1, 2 or 3, got {p}")
    return float(p)


def _global(node: Node, x: Tensor, kind: str) -> Tensor:
    axes = list(range(1, x.rank - 1))
    if kind == "lp":
        p = _power(node)
        return ops.sum(ops.abs(x) ** p, axes, keepdims=True) ** (1.0 / p)
    return {"max": ops.max, "avg": ops.mean, "sum": ops.sum}[kind](x, axes, keepdims=True)


@handler("UpSampling", uses=1)
def up_sampling(node: Node, x: Tensor) -> Tensor:
    """Each element of an image repeated (sample_type nearest)."""
    if node.attrs.text("sample_type") != "nearest" or node.attrs.integer("num_args", 1) != 1 or x.rank != 4:
        raise ImportModelError(f"{node}: only sample_type nearest of one image is supported, got {x.type}")
    s = node.attrs.integer("scale")
    n, c, h, w = x.shape
    wide = ops.expand(ops.reshape(x, (n, c, h, 1, w, 1)), (n, c, h, s, w, s))
    return ops.reshape(wide, (n, c, dims.mul(h, s), dims.mul(w, s)))


@handler("Pad", "pad")
def pad(node: Node, x: Tensor) -> Tensor:
    width = node.attrs.ints("pad_width")
    if len(width) != 2 * x.rank:
        raise ImportModelError(f"{node}: expected {2 * x.rank} numbers as pad_width for {x.type}, got {list(width)}")
    mode = node.attrs.choice("mode", "constant", ("constant", "edge", "reflect"))
    low: list[Dim] = list(width[::2])
    return ops.pad(x, low, list(width[1::2]), mode, node.attrs.number("constant_value", 0.0))
