"""Pooling over windows and over whole images."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.known import Known, as_dims
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import handler
from rnngraph.frontends.onnx.windows import images, numbers, window_of
from rnngraph.ir import I64, Dim, dims
from rnngraph.nn import ops
from rnngraph.nn.channels import channels_first, channels_last
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


@handler("MaxPool")
def max_pool(node: Node, x: Tensor) -> tuple[Tensor, ...] | Tensor:
    """The largest, and where asked its place in the whole input, counted by rows or (storage_order=1) columns."""
    window = window_of(node, images(node, x), None)
    last, ceil = channels_last(x), bool(node.attr("ceil_mode", 0))
    if len(node.outputs) < 2 or not node.outputs[1]:
        return channels_first(ops.max_pool(last, window.size, strides=window.strides, padding=window.pairs,
                                           dilation=window.dilations, ceil=ceil))
    values, places = ops.max_pool_with_indices(last, window.size, strides=window.strides, padding=window.pairs,
                                               dilation=window.dilations, ceil=ceil)
    return channels_first(values), _in_the_whole(x, channels_first(places), columns=bool(node.attr("storage_order", 0)))


def _in_the_whole(x: Tensor, places: Tensor, *, columns: bool) -> Tensor:
    """Places within an image as places in x[N, C, *S]."""
    if columns:  # the last axis counts least by rows, the first one by columns
        rest, out, step = places, ops.zeros_like(places), ops.size_of(dims.mul(*x.shape[2:]), I64)
        for size in reversed(x.shape[2:]):
            n = ops.size_of(size, I64)
            step = step / n
            out = out + ops.mod(rest, n) * step
            rest = rest / n
        places = out
    rows = ops.arange(dims.mul(*x.shape[:2]), I64) * ops.size_of(dims.mul(*x.shape[2:]), I64)
    return places + ops.reshape(rows, (*x.shape[:2], *[1] * (x.rank - 2)))


@handler("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    window = window_of(node, images(node, x), None)
    out = ops.average_pool(channels_last(x), window.size, strides=window.strides, padding=window.pairs,
                           dilation=window.dilations, ceil=bool(node.attr("ceil_mode", 0)),
                           count_padding=bool(node.attr("count_include_pad", 0)))
    return channels_first(out)


@handler("LpPool")
def lp_pool(node: Node, x: Tensor) -> Tensor:
    window = window_of(node, images(node, x), None)
    out = ops.lp_pool(channels_last(x), window.size, p=float(node.attr("p", 2)), strides=window.strides,
                      padding=window.pairs, dilation=window.dilations, ceil=bool(node.attr("ceil_mode", 0)))
    return channels_first(out)


@handler("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(node: Node, x: Tensor) -> Tensor:
    axes = list(range(2, 2 + len(images(node, x))))
    if node.op_type == "GlobalLpPool":
        p = float(node.attr("p", 2))
        return ops.sum(ops.abs(x) ** p, axes, keepdims=True) ** (1.0 / p)
    return (ops.mean if node.op_type == "GlobalAveragePool" else ops.max)(x, axes, keepdims=True)


@handler("MaxUnpool", known=(2,))
def max_unpool(node: Node, x: Tensor, places: Tensor, shape: Known | None = None) -> Tensor:
    """The elements where their places say, zeros elsewhere."""
    n = len(images(node, x))
    size = numbers(node, "kernel_shape", n, None, 1)
    strides, pads = numbers(node, "strides", n, [1] * n, 1), numbers(node, "pads", 2 * n, [0] * 2 * n, 0)
    own: list[Dim] = [dims.add(dims.mul(s, dims.sub(d, 1)), k - lo - hi) for d, k, s, lo, hi
                      in zip(x.shape[2:], size, strides, pads[:n], pads[n:], strict=True)]
    whole = (*x.shape[:2], *own)
    b = active().builder
    zeros = wrap(b.full(0, (dims.mul(*whole),), x.dtype))
    flat = ops.scatter_elements(zeros, ops.reshape(places, (-1,)), ops.reshape(x, (-1,)), 0)
    out = ops.reshape(flat, whole)
    wanted = whole if shape is None else as_dims(shape, str(node))
    if len(wanted) != x.rank:
        raise ImportModelError(f"{node}: expected an output_shape of {x.rank} numbers, got {list(wanted)}")
    return ops.pad(out, [0] * x.rank, [dims.sub(w, d) for w, d in zip(wanted, whole, strict=True)])
