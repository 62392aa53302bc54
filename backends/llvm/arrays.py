"""A memory plan for given sizes: a numpy array, or a view of one, for every value of a segment.

Inputs and outputs differ from call to call, so their arrays here are templates that are never touched; only offsets
from their start are kept (`Arrays.locate`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnngraph.backends.llvm.layout import ALIGN, aligned
from rnngraph.errors import CompileError
from rnngraph.ir import BOOL, F32, Array, Dim, Dims, Interpreter, Op, Value, resolve
from rnngraph.ir.grid_ops import PadAttrs, WindowsAttrs, windows_of
from rnngraph.ir.ops import AxisAttrs, ConcatAttrs, ConstAttrs, ReshapeAttrs, TransposeAttrs
from rnngraph.phases.lanes import LANES as LANE_DTYPES
from rnngraph.phases.memory import MemoryPlan, Where
from rnngraph.phases.stages import Stage

LANES = 16  # own buffers keep whole vectors of the widest kind per row


@dataclass(frozen=True, slots=True)
class Address:
    """An absolute address (``base`` None), or an offset from the array of an input ("in", k) or output ("out", k)."""

    base: tuple[str, int] | None
    offset: int


class Arrays:
    """The arrays of one segment for one binding of the symbols."""

    def __init__(self, plan: MemoryPlan, inputs: Sequence[Value], outputs: Sequence[Value], dims: Dims,
                 margins: Mapping[Value, tuple[int, int]] | None = None) -> None:
        self.plan = plan
        self.dims = dims
        self.margins = margins or {}  # rows of zeros in front of and behind a value, should it get a buffer
        self.found: dict[Value, Array] = {}
        self.templates: list[tuple[int, int, tuple[str, int]]] = []  # start, end, which
        self.outputs = [self._template(v, ("out", k)) for k, v in enumerate(outputs)]
        self.bytes = 0  # of own buffers
        self.flags: dict[int, Array] = {}  # bool inputs, by number, as the numbers 0 and 1 that native code reads
        for k, v in enumerate(inputs):
            if v.type.dtype is BOOL:
                shape = resolve(v.shape, dims)
                self.flags[k] = self.buffer(shape or (1,)).reshape(shape)
            self.found[v] = self.flags[k] if k in self.flags else self._template(v, ("in", k))
        for k, v in enumerate(outputs):
            p = plan.placements.get(v)
            if p is not None and p.where is Where.OUTPUT and v not in self.found:
                self.found[v] = self.outputs[k]
        self.filled: dict[Value, tuple[Array, Array]] = {}  # views that memory does not allow: copied to, from
        self.views = Interpreter(dims)

    def _template(self, v: Value, which: tuple[str, int]) -> Array:
        dtype = F32 if v.type.dtype is BOOL else v.type.dtype
        array = np.empty(resolve(v.shape, self.dims), dtype.numpy)
        start = array.ctypes.data
        self.templates.append((start, start + max(array.nbytes, 1), which))
        return array

    def get(self, v: Value) -> Array:
        if v not in self.found:
            self.found[v] = self._make(v)
        return self.found[v]

    def buffer(self, shape: Sequence[int], margin: tuple[int, int] = (0, 0)) -> Array:
        """An own buffer: rows of whole vectors, readable a little beyond its end, with a margin of rows of zeros that
        nobody writes."""
        n, width = shape[-1], -(-shape[-1] // LANES) * LANES
        rows = math.prod(shape[:-1])
        padded = aligned((margin[0] + rows + margin[1], width), slack=4 * LANES)
        self.bytes += padded.nbytes
        return padded[margin[0] : margin[0] + rows].reshape(*shape[:-1], width)[..., :n]

    def has_margin(self, v: Value) -> bool:
        """Whether the rows around the memory of ``v`` that somebody reads are zeros of its own buffer."""
        p = self.plan.placements.get(v)
        return v in self.margins and p is not None and p.where is Where.BUFFER

    def _make(self, v: Value) -> Array:
        p = self.plan.placements.get(v)
        if p is None:
            if v.op is not None and isinstance(v.op.attrs, ConstAttrs):
                return _padded(v.op.attrs.value.array)
            raise CompileError(f"llvm: no placement for value %{v.hint} of type {v.type}")
        if p.where is Where.BUFFER:
            shape = resolve(v.shape, self.dims)
            if v in self.plan.dense or v.type.dtype not in LANE_DTYPES:
                return self.dense(shape, F32.numpy if v.type.dtype in LANE_DTYPES else v.type.dtype.numpy)
            return self.buffer(shape or (1,), self.margins.get(v, (0, 0))).reshape(shape)
        assert p.op is not None
        if p.where is Where.VIEW:
            return self._view(p.op)
        assert p.of is not None
        return self._inside(v, p.op, self.get(p.of), p.offset)

    def dense(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An own buffer without gaps, whose elements any shape can view."""
        array = aligned(shape, dtype=dtype, slack=4 * LANES)
        self.bytes += array.nbytes
        return array

    def _view(self, op: Op) -> Array:
        if isinstance(op.attrs, ReshapeAttrs):
            return self._reshaped(op, self.get(op.operands[0]))
        if isinstance(op.attrs, WindowsAttrs):
            return self._windows(op, op.attrs, self.get(op.operands[0]))
        for operand in op.operands:
            self.views.bind(operand, self.get(operand))
        self.views.run_op(op)
        return self.views.env[op.result] if op.operands else _padded(self.views.env[op.result])

    def _reshaped(self, op: Op, source: Array) -> Array:
        shape = resolve(op.result.shape, self.dims)
        out = source.reshape(shape)
        if np.may_share_memory(out, source):
            return out
        out = self.dense(shape, source.dtype)
        self.filled[op.result] = out.reshape(source.shape), source
        return out

    def _windows(self, op: Op, a: WindowsAttrs, source: Array) -> Array:
        """Rows must stand side by side, lane by lane."""
        lanes = source.shape[-1]
        row, lane = source.strides[-2:]
        if lanes == 1:  # whatever its stride, it is not used
            source = np.lib.stride_tricks.as_strided(source, strides=(*source.strides[:-1], row))
        elif lane != source.itemsize or row != lanes * lane:
            copy = self.dense(source.shape, source.dtype)
            self.filled[op.result] = copy, source
            source = copy
        return windows_of(source, a.size, a.stride)

    def _inside(self, v: Value, op: Op, container: Array, offset: Dim) -> Array:
        """Where the operand ``v`` of ``op`` lies within the array of the op's result."""
        a = op.attrs
        if isinstance(a, ConcatAttrs | PadAttrs):
            return part_of(container, op, v, offset, self.dims)
        if isinstance(a, TransposeAttrs):
            return container.transpose(np.argsort(a.perm))
        if isinstance(a, AxisAttrs):
            return np.flip(container, a.axis)
        shape = resolve(v.shape, self.dims)
        return container.reshape(shape) if container.flags.c_contiguous else _reshape(container, shape)

    def locate(self, array: Array) -> Address:
        """The address of a (view of an) array of this plan."""
        at = array.__array_interface__["data"][0]
        for start, end, which in self.templates:
            if start <= at < end:
                return Address(which, at - start)
        return Address(None, at)


def part_of(container: Array, op: Op, part: Value, offset: Dim, dims: Dims) -> Array:
    """Where a part of a join, the result of ``op``, stands in its memory."""
    if isinstance(op.attrs, PadAttrs):
        low, sizes = resolve(op.attrs.low, dims), resolve(part.shape, dims)
        return container[tuple(slice(lo, lo + n) for lo, n in zip(low, sizes, strict=True))]
    assert isinstance(op.attrs, ConcatAttrs)
    axis = op.attrs.axis
    start, size = resolve((offset, part.shape[axis]), dims)
    return container[(*[slice(None)] * axis, slice(start, start + size))]


def margins(stages: Sequence[Stage]) -> dict[Value, tuple[int, int]]:
    """How many rows in front of and behind each value some stage reads."""
    found: dict[Value, tuple[int, int]] = {}
    for stage in stages:
        for name, (low, high) in stage.shifts.margins.items():
            if name in stage.inputs:
                value = stage.inputs[name][1]
                before = found.get(value, (0, 0))
                found[value] = (max(low, before[0]), max(high, before[1]))
    return found


def _reshape(array: Array, shape: tuple[int, ...]) -> Array:
    """A reshape that only adds or drops dims of size one, as a view whatever the strides."""
    sizes = iter([(n, s) for n, s in zip(array.shape, array.strides, strict=True) if n != 1])
    strides = [next(sizes)[1] if n != 1 else 4 for n in shape]
    return np.lib.stride_tricks.as_strided(array, shape, strides)


def _padded(array: Array) -> Array:
    """A constant as native memory holds it, which may be read up to a vector beyond its end."""
    if array.dtype == np.bool_:
        array = array.astype(np.float32)
    if array.dtype == np.int32:
        array = array.view(np.float32)
    if array.ndim == 0 or array.dtype != np.float32:
        return array
    out = aligned(array.shape, slack=4 * LANES)
    out[...] = array
    return out


__all__ = ["ALIGN", "Address", "Arrays", "margins", "part_of"]
