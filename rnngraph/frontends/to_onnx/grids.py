"""Convolution, pooling and padding: channels last in the IR, in axis 1 in ONNX."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from rnngraph.errors import ExportError
from rnngraph.frontends.to_onnx.emitter import Emitter
from rnngraph.frontends.to_onnx.movement import reshaped
from rnngraph.ir import Op, Shape, dims, grid_ops, pool_ops
from rnngraph.ir import ops as ir_ops


def _inward(e: Emitter, op: Op, n: int) -> tuple[str, Shape]:
    """The operand as [batch, channels, *spatial], and the leading dims that were joined to the batch."""
    x = op.operands[0]
    name, lead = e.name(x), x.shape[: -1 - n]
    if len(lead) != 1:
        name = reshaped(e, name, x.shape, (dims.mul(*lead), *x.shape[len(lead) :]))
    return e.node("Transpose", [name], perm=[0, n + 1, *range(1, n + 1)]), lead


def _outward(e: Emitter, op: Op, name: str, n: int, result: int = 0) -> str:
    shape = op.results[result].shape
    lead = shape[: -1 - n]
    out = e.node("Transpose", [name], "" if len(lead) != 1 else op.results[result].hint,
                 perm=[0, *range(2, n + 2), 1])
    return out if len(lead) == 1 else reshaped(e, out, (dims.mul(*lead), *shape[len(lead) :]), shape)


def conv(e: Emitter, op: Op) -> list[str]:
    a = op.attrs
    assert isinstance(a, grid_ops.ConvAttrs)
    kernel, n = op.operands[1], len(a.strides)
    name, _ = _inward(e, op, n)
    pads = [*a.low, *a.high]
    if any(isinstance(p, str) for p in pads):
        amounts = e.shape((0, 0, *a.low, 0, 0, *a.high))
        name, pads = e.node("Pad", [name, amounts]), [0] * (2 * n)
    order = (n + 1, n, *range(n))
    if kernel.op is not None and isinstance(kernel.op.attrs, ir_ops.ConstAttrs):
        weight = e.constant(kernel.op.attrs.value.array.transpose(order), kernel.hint)
    else:
        weight = e.node("Transpose", [e.name(kernel)], perm=list(order))
    out = e.node("Conv", [name, weight], strides=list(a.strides), pads=pads, dilations=list(a.dilation), group=a.groups,
                 kernel_shape=list(kernel.shape[:n]))
    return [_outward(e, op, out, n)]


def pool(e: Emitter, op: Op) -> list[str]:
    a = op.attrs
    assert isinstance(a, pool_ops.PoolAttrs)
    n = len(a.window)
    name, _ = _inward(e, op, n)
    window: dict[str, Any] = {"kernel_shape": list(a.window), "strides": list(a.strides), "pads": [*a.low, *a.high],
              "ceil_mode": int(a.ceil), "dilations": list(a.dilation)}
    if a.kind == "max":
        if not a.indices:
            return [_outward(e, op, e.node("MaxPool", [name], **window), n)]
        values, places = e.nodes("MaxPool", [name], ["values", "places"], **window)
        spatial = e.size(dims.mul(*op.operands[0].shape[-1 - n : -1]))
        return [_outward(e, op, values, n), _outward(e, op, e.node("Mod", [places, spatial]), n, 1)]
    if e.opset < 19:
        if any(d != 1 for d in a.dilation):
            raise ExportError(f"op pool of layer {op.layer!r}: a mean over dilated windows needs opset 19, not "
                              f"{e.opset}")
        del window["dilations"]
    counted = a.counted or a.kind == "sum"
    if a.kind == "sum" and a.ceil:
        raise ExportError(f"op pool of layer {op.layer!r}: sums of windows that are partly there cannot be written")
    out = e.node("AveragePool", [name], count_include_pad=int(counted), **window)
    if a.kind == "sum":
        out = e.node("Mul", [out, e.constant(np.asarray(prod(a.window), op.result.type.dtype.numpy))])
    return [_outward(e, op, out, n)]


def pad(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, grid_ops.PadAttrs)
    return [e.node("Pad", [e.name(op.operands[0]), e.shape((*op.attrs.low, *op.attrs.high))], op.result.hint)]
