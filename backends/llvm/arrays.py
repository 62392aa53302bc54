"""A memory plan for given sizes: a numpy array, or a view of one, for every value of a segment.

Inputs and outputs differ from call to call, so their arrays here are templates that are never touched; only offsets
from their start are kept (`Arrays.locate`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rnngraph.backends.llvm.layout import ALIGN, aligned
from rnngraph.errors import CompileError
from rnngraph.ir import BOOL, F32, Array, Dim, Dims, Interpreter, Op, Value, resolve
from rnngraph.ir.ops import AxisAttrs, ConcatAttrs, ConstAttrs, TransposeAttrs
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
            return self.buffer(shape or (1,), self.margins.get(v, (0, 0))).reshape(shape)
        assert p.op is not None
        if p.where is Where.VIEW:
            return self._view(p.op)
        assert p.of is not None
        return self._inside(v, p.op, self.get(p.of), p.offset)

    def _view(self, op: Op) -> Array:
        for operand in op.operands:
            self.views.bind(operand, self.get(operand))
        self.views.run_op(op)
        return self.views.env[op.result] if op.operands else _padded(self.views.env[op.result])

    def _inside(self, v: Value, op: Op, container: Array, offset: Dim) -> Array:
        """Where the operand ``v`` of ``op`` lies within the array of the op's result."""
        a = op.attrs
        if isinstance(a, ConcatAttrs):
            size = resolve(v.shape, self.dims)[a.axis]
            index = [slice(None)] * container.ndim
            (start,) = resolve((offset,), self.dims)
            index[a.axis] = slice(start, start + size)
            return container[tuple(index)]
        if isinstance(a, TransposeAttrs):
            return container.transpose(np.argsort(a.perm))
        if isinstance(a, AxisAttrs):
            return np.flip(container, a.axis)
        return _reshape(container, resolve(v.shape, self.dims))

    def locate(self, array: Array) -> Address:
        """The address of a (view of an) array of this plan."""
        at = array.__array_interface__["data"][0]
        for start, end, which in self.templates:
            if start <= at < end:
                return Address(which, at - start)
        return Address(None, at)


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


def row_stride(array: Array) -> int | None:
    """The one stride (in floats) from row to row when all dims but the last are rows; None when there is none, or
    when the lanes are not contiguous."""
    if array.shape[-1] != 1 and array.strides[-1] != 4:
        return None
    dims = [(n, s) for n, s in zip(array.shape[:-1], array.strides[:-1], strict=True) if n != 1]
    for (_, outer), (n, inner) in pairwise(dims):
        if outer != n * inner:
            return None
    return dims[-1][1] // 4 if dims else 0


__all__ = ["ALIGN", "Address", "Arrays", "margins", "row_stride"]
