"""Ops that move data, read by index, or make values of sizes."""

from __future__ import annotations

import numpy as np

from rnngraph.frontends.to_onnx.emitter import LAST, Emitter
from rnngraph.ir import Dim, Op, Shape, Value, dims, index_ops, size_ops
from rnngraph.ir import ops as ir_ops


def reshape(e: Emitter, op: Op) -> list[str]:
    return [reshaped(e, e.name(op.operands[0]), op.operands[0].shape, op.result.shape, op.result.hint)]


def reshaped(e: Emitter, name: str, old: Shape, new: Shape, hint: str = "") -> str:
    """A value in another shape: 0 keeps a size, -1 takes what is left; else the sizes are computed."""
    if 0 in new:
        return e.node("Reshape", [name, e.shape(new)], hint, allowzero=1)
    codes = [d if isinstance(d, int) else 0 if i < len(old) and old[i] == d else -1 for i, d in enumerate(new)]
    return e.node("Reshape", [name, e.ints(codes) if codes.count(-1) < 2 else e.shape(new)], hint)


def transpose(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, ir_ops.TransposeAttrs)
    return [e.node("Transpose", e.operands(op), op.result.hint, perm=list(op.attrs.perm))]


def concat(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, ir_ops.ConcatAttrs)
    return [e.node("Concat", e.operands(op), op.result.hint, axis=op.attrs.axis)]


def slice_(e: Emitter, op: Op) -> list[str]:
    a = op.attrs
    assert isinstance(a, ir_ops.SliceAttrs)
    end: Dim = dims.add(a.start, dims.mul(a.size, a.step))
    from_end = isinstance(a.start, int) and a.start < 0
    if from_end and (not isinstance(end, int) or end >= 0):
        end = LAST
    name = e.name(op.operands[0])
    return [e.node("Slice", [name, e.size(a.start), _position(e, end), e.ints([a.axis]), e.ints([a.step])],
                   op.result.hint)]


def _position(e: Emitter, end: Dim) -> str:
    return e.ints([end]) if isinstance(end, int) else e.size(end)


def reverse(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, ir_ops.AxisAttrs)
    return [reversed_(e, e.name(op.operands[0]), op.attrs.axis, op.result.hint)]


def reversed_(e: Emitter, name: str, axis: int, hint: str = "") -> str:
    return e.node("Slice", [name, e.ints([-1]), e.ints([-LAST]), e.ints([axis]), e.ints([-1])], hint)


def gather(e: Emitter, op: Op) -> list[str]:
    return [e.node("Gather", e.operands(op), op.result.hint, axis=0)]


def take(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, ir_ops.AxisAttrs)
    x, index = op.operands
    return [e.node("Gather", [e.name(x), _index(e, index)], op.result.hint, axis=op.attrs.axis)]


def gather_elements(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, ir_ops.AxisAttrs)
    x, index = op.operands
    return [e.node("GatherElements", [e.name(x), _index(e, index)], op.result.hint, axis=op.attrs.axis)]


def gather_nd(e: Emitter, op: Op) -> list[str]:
    assert isinstance(op.attrs, index_ops.GatherNdAttrs)
    x, index = op.operands
    return [e.node("GatherND", [e.name(x), _index(e, index)], op.result.hint, batch_dims=op.attrs.batch_dims)]


def scatter_elements(e: Emitter, op: Op) -> list[str]:
    a = op.attrs
    assert isinstance(a, index_ops.ScatterAttrs)
    x, index, updates = op.operands
    return [e.node("ScatterElements", [e.name(x), _index(e, index), e.name(updates)], op.result.hint, axis=a.axis,
                   reduction=a.reduction)]


def scatter_nd(e: Emitter, op: Op) -> list[str]:
    a = op.attrs
    assert isinstance(a, index_ops.ScatterNdAttrs)
    x, index, updates = op.operands
    return [e.node("ScatterND", [e.name(x), _index(e, index), e.name(updates)], op.result.hint, reduction=a.reduction)]


def _index(e: Emitter, index: Value) -> str:
    """Indices are i64 everywhere, and i32 in some ops."""
    name = e.name(index)
    return name if index.type.dtype.name == "i64" else e.node("Cast", [name], to=7)


def iota(e: Emitter, op: Op) -> list[str]:
    a = op.attrs
    assert isinstance(a, size_ops.IotaAttrs)
    ends = [e.constant(np.asarray(n, np.int64)) for n in (0, 1)]
    numbers = e.node("Range", [ends[0], _scalar(e, a.size), ends[1]], op.result.hint)
    return [numbers if a.dtype.name == "i64" else e.node("Cast", [numbers], to=e.code(a.dtype, op))]


def size(e: Emitter, op: Op) -> list[str]:
    a = op.attrs
    assert isinstance(a, size_ops.SizeAttrs)
    found = _scalar(e, a.dim)
    return [found if a.dtype.name == "i64" else e.node("Cast", [found], op.result.hint, to=e.code(a.dtype, op))]


def _scalar(e: Emitter, dim: Dim) -> str:
    return e.node("Squeeze", [e.size(dim), e.ints([0])])
