"""Patterns of canonicalize: slices, concatenations, reshapes, broadcasts, reversals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from rnngraph.ir import Builder, Dim, Op, Scan, Value, dims, grid_ops, index_ops, ops
from rnngraph.ir.ops import AxisAttrs, BroadcastAttrs, ConcatAttrs, ConstAttrs, ReshapeAttrs, SliceAttrs, TransposeAttrs
from rnngraph.passes._scalar_patterns import ELEMENTWISE, producer
from rnngraph.rewrite import Pattern, pattern

Values = Sequence[Value] | None


def _from_end(start: Dim) -> bool:
    return isinstance(start, int) and start < 0


@pattern(ops.RESHAPE)
def reshape_of_reshape(op: Op, b: Builder) -> Values:
    """reshape(x, x's shape) -> x,  reshape(reshape(x), s) -> reshape(x, s)"""
    (x,) = op.operands
    if x.shape == op.result.shape:
        return [x]
    inner = producer(x, ops.RESHAPE)
    return [b.reshape(inner.operands[0], op.result.shape)] if inner is not None else None


@pattern(ops.BROADCAST)
def broadcast_of_broadcast(op: Op, b: Builder) -> Values:
    """broadcast(x, x's shape) -> x,  broadcast(broadcast(x, .., p), s, q) -> broadcast(x, s, q[p])"""
    (x,) = op.operands
    assert isinstance(op.attrs, BroadcastAttrs)
    if x.type == op.result.type:
        return [x]
    inner = producer(x, ops.BROADCAST)
    if inner is None:
        return None
    assert isinstance(inner.attrs, BroadcastAttrs)
    axes = tuple(op.attrs.axes[a] for a in inner.attrs.axes)
    return [b.broadcast(inner.operands[0], op.attrs.shape, axes)]


@pattern(ops.BROADCAST)
def broadcast_of_reshape(op: Op, b: Builder) -> Values:
    """broadcast(reshape(x), x's shape) -> x   where both only drop and add dims of size 1"""
    inner = producer(op.operands[0], ops.RESHAPE)
    assert isinstance(op.attrs, BroadcastAttrs)
    if inner is None or inner.operands[0].type != op.result.type:
        return None
    added = [d for i, d in enumerate(op.result.shape) if i not in op.attrs.axes]
    kept = tuple(op.result.shape[a] for a in op.attrs.axes)
    return [inner.operands[0]] if all(d == 1 for d in added) and kept == inner.result.shape else None


@pattern(ops.REVERSE)
def reverse_of_reverse(op: Op, b: Builder) -> Values:
    """reverse(reverse(x, a), a) -> x,  and reverse(x, a) -> x   when axis a has size 1 or repeats"""
    (x,) = op.operands
    assert isinstance(op.attrs, AxisAttrs)
    axis = op.attrs.axis
    if x.shape[axis] == 1:
        return [x]
    if (inner := producer(x, ops.REVERSE)) is not None and inner.attrs == op.attrs:
        return [inner.operands[0]]
    if (inner := producer(x, ops.BROADCAST)) is not None:
        assert isinstance(inner.attrs, BroadcastAttrs)
        return [x] if axis not in inner.attrs.axes else None
    return None


@pattern(ops.SLICE)
def slice_of_everything(op: Op, b: Builder) -> Values:
    """slice(x, 0, x's size) -> x,  and a start from the end becomes one from the front where the size is known"""
    (x,) = op.operands
    a = op.attrs
    assert isinstance(a, SliceAttrs)
    dim = x.shape[a.axis]
    start = dims.add(a.start, dim) if isinstance(a.start, int) and a.start < 0 and isinstance(dim, int) else a.start
    step = 1 if a.size == 1 else a.step
    if start == 0 and step == 1 and a.size == dim:
        return [x]
    if (start, step) != (a.start, a.step):
        return [b.slice(x, a.axis, start, a.size, step)]
    return None


@pattern(ops.SLICE)
def slice_of_slice(op: Op, b: Builder) -> Values:
    """slice(slice(x)) -> slice(x)   on one axis"""
    outer = op.attrs
    inner = producer(op.operands[0], ops.SLICE)
    assert isinstance(outer, SliceAttrs)
    if inner is None or not isinstance(inner.attrs, SliceAttrs) or inner.attrs.axis != outer.axis:
        return None
    first = inner.attrs
    if _from_end(outer.start):
        return None  # of a symbolic size: the two starts do not add up
    end = dims.add(outer.start, dims.mul(dims.sub(outer.size, 1), outer.step), 1)
    if not dims.is_nonnegative(dims.sub(first.size, end)):
        return None  # whether the outer slice fits is checked at run time
    start = dims.add(first.start, dims.mul(outer.start, first.step))
    if _from_end(first.start) and not _from_end(start):
        return None
    return [b.slice(inner.operands[0], outer.axis, start, outer.size, first.step * outer.step)]


@pattern(ops.SLICE)
def slice_of_concat(op: Op, b: Builder) -> Values:
    """slice(concat(x, y, ..)) -> the pieces that it covers, or concat(slice(x), slice(y), ..) on another axis"""
    a = op.attrs
    inner = producer(op.operands[0], ops.CONCAT)
    assert isinstance(a, SliceAttrs)
    if inner is None or not isinstance(inner.attrs, ConcatAttrs):
        return None
    axis = inner.attrs.axis
    if axis != a.axis:
        return [b.concat([b.slice(v, a.axis, a.start, a.size, a.step) for v in inner.operands], axis)]
    if a.step != 1 or not isinstance(a.start, int) or a.start < 0 or not isinstance(a.size, int) or a.size == 0:
        return None
    pieces, at = list[Value](), 0
    for v in inner.operands:
        dim = v.shape[axis]
        if not isinstance(dim, int):
            return None
        first, end = max(a.start - at, 0), min(a.start + a.size - at, dim)
        if first < end:
            pieces.append(b.slice(v, axis, first, end - first))
        at += dim
    return [b.concat(pieces, axis)]


@pattern(ops.SLICE)
def slice_of_broadcast(op: Op, b: Builder) -> Values:
    """slice(broadcast(x, s)) -> broadcast(x, smaller s), or broadcast(slice(x), smaller s)"""
    a = op.attrs
    inner = producer(op.operands[0], ops.BROADCAST)
    assert isinstance(a, SliceAttrs)
    if inner is None or not isinstance(inner.attrs, BroadcastAttrs):
        return None
    axes = inner.attrs.axes
    x = inner.operands[0]
    if a.axis in axes:
        x = b.slice(x, axes.index(a.axis), a.start, a.size, a.step)
    elif not all(isinstance(d, int) for d in (op.operands[0].shape[a.axis], a.start, a.size)):
        return None  # whether a slice fits a symbolic size is checked at run time: keep it
    return [b.broadcast(x, op.result.shape, axes)]


@pattern(index_ops.TAKE)
def take_of_constant(op: Op, b: Builder) -> Values:
    """take(x, i, axis) -> slice(x, axis, i, ..)   for constants i, i+k, i+2k, .. (k > 0) within the axis"""
    x, index = op.operands
    known = producer(index, ops.CONST)
    assert isinstance(op.attrs, AxisAttrs)
    if known is None or not isinstance(known.attrs, ConstAttrs) or index.type.rank > 1:
        return None
    axis, dim = op.attrs.axis, x.shape[op.attrs.axis]
    places = [int(i) for i in known.attrs.value.array.reshape(-1)]
    if not isinstance(dim, int) or not places or not all(-dim <= i < dim for i in places):
        return None
    at = [i % dim for i in places]
    step = at[1] - at[0] if len(at) > 1 else 1
    if step < 1 or any(later - i != step for i, later in pairwise(at)):
        return None
    return [b.reshape(b.slice(x, axis, at[0], len(at), step), op.result.shape)]


@pattern(ops.CONCAT)
def concat_of_concat(op: Op, b: Builder) -> Values:
    """concat(x) -> x,  concat(concat(x, y), z) -> concat(x, y, z)   on one axis"""
    if len(op.operands) == 1:
        return [op.operands[0]]
    flat = list[Value]()
    for v in op.operands:
        inner = producer(v, ops.CONCAT)
        flat.extend(inner.operands if inner is not None and inner.attrs == op.attrs else [v])
    if len(flat) == len(op.operands):
        return None
    return [b.op(ops.CONCAT, *flat, attrs=op.attrs)]


@pattern(ops.CONCAT)
def concat_of_slices(op: Op, b: Builder) -> Values:
    """concat(slice(x, 0, n), slice(x, n, m)) -> slice(x, 0, n+m)   for neighbours in x"""
    assert isinstance(op.attrs, ConcatAttrs)
    axis = op.attrs.axis
    runs = list[tuple[Value, SliceAttrs | None]]()
    for v in op.operands:
        inner = producer(v, ops.SLICE)
        a = inner.attrs if inner is not None else None
        here = a if isinstance(a, SliceAttrs) and a.axis == axis and a.step == 1 and not _from_end(a.start) else None
        source = inner.operands[0] if inner is not None and here is not None else v
        joined = _join(*runs[-1], source, here) if runs else None
        if joined is not None:
            runs[-1] = (source, joined)
        else:
            runs.append((source, here))
    if len(runs) == len(op.operands):
        return None
    return [b.concat([v if a is None else b.slice(v, axis, a.start, a.size) for v, a in runs], axis)]


def _join(x: Value, left: SliceAttrs | None, y: Value, right: SliceAttrs | None) -> SliceAttrs | None:
    """The slice that two neighbouring slices of one value make together."""
    if x is not y or left is None or right is None:
        return None
    if dims.add(left.start, left.size) != right.start:
        return None
    return replace(left, size=dims.add(left.size, right.size))


@pattern(ops.TRANSPOSE)
def transpose_of_ones(op: Op, b: Builder) -> Values:
    """transpose(x, p) -> reshape(x)   between reshapes or in a scan body, where p moves only dims of size 1

    Beside convolutions only between reshapes: propagate-layout knows an image with channels first by its transposes.
    """
    assert isinstance(op.attrs, TransposeAttrs)
    (x,) = op.operands
    alone = producer(x, ops.RESHAPE) is not None and all(user.opdef is ops.RESHAPE for user in op.result.users())
    if not alone:
        in_scan = op.parent is not None and op.parent.parent is not None and op.parent.parent.name == "scan"
        if op.parent is None or not in_scan or any(other.opdef is grid_ops.CONV for other in op.parent.ops):
            return None
    long = [a for a in op.attrs.perm if x.shape[a] != 1]
    return [b.reshape(x, op.result.shape)] if long == sorted(long) else None


@pattern(ops.RESHAPE)
def reshape_of_broadcast_scalar(op: Op, b: Builder) -> Values:
    """reshape(broadcast(scalar, s), t) -> broadcast(scalar, t)"""
    assert isinstance(op.attrs, ReshapeAttrs)
    inner = producer(op.operands[0], ops.BROADCAST)
    if inner is None or inner.operands[0].type.rank:
        return None
    return [b.broadcast(inner.operands[0], op.attrs.shape, ())]


@pattern(*ELEMENTWISE)
def elementwise_of_reshapes(op: Op, b: Builder) -> Values:
    """f(reshape(x, s), reshape(y, s), broadcast(z)) -> reshape(f(x, y, broadcast(z)), s)

    For reshapes that add or drop dims of size 1: those around a keepdims reduction meet and cancel. Beside a z that is
    no scalar only those that add dims: loops compute on rows and lanes, without others.
    """
    reshapes = [producer(v, ops.RESHAPE) for v in op.operands]
    sources = [r.operands[0] for r in reshapes if r is not None and r.parent is op.parent]
    if not sources or any(v.shape != sources[0].shape for v in sources):
        return None
    shape = sources[0].shape
    before, after = ([a for a, d in enumerate(s) if d != 1] for s in (shape, op.result.shape))
    if [shape[a] for a in before] != [op.result.shape[a] for a in after]:
        return None
    places = dict(zip(after, before, strict=True))
    new = list[Value]()
    for v, r in zip(op.operands, reshapes, strict=True):
        wide = producer(v, ops.BROADCAST)
        if r is not None and r.parent is op.parent:
            new.append(r.operands[0])
        elif wide is not None and isinstance(wide.attrs, BroadcastAttrs) and places.keys() >= set(wide.attrs.axes) \
                and (not wide.attrs.axes or len(shape) < len(op.result.shape)):
            new.append(b.broadcast(wide.operands[0], shape, tuple(places[a] for a in wide.attrs.axes)))
        else:
            return None
    return [b.reshape(b.op(op.opdef, *new, attrs=op.attrs), op.result.shape)]


@pattern(ops.MATMUL)
def matmul_of_concat(op: Op, b: Builder) -> Values:
    """concat(x_t, h) @ w -> x_t @ w's first rows + h @ its last   in a scan body, when x_t is a step of a sequence"""
    x, w = op.operands
    inner = producer(x, ops.CONCAT)
    scan = op.parent.parent if op.parent is not None else None
    if inner is None or scan is None or scan.name != "scan" or w.type.rank != 2:
        return None
    assert isinstance(inner.attrs, ConcatAttrs)
    steps = [v in Scan(scan).x_args for v in inner.operands]
    if inner.attrs.axis != x.type.rank - 1 or not any(steps) or all(steps):
        return None
    total: Value | None = None
    at = 0
    for v in inner.operands:
        size = v.shape[-1]
        if not isinstance(size, int):
            return None
        part = b.matmul(v, b.slice(w, 0, at, size))
        total = part if total is None else b.add(total, part)
        at += size
    return [total] if total is not None else None


@pattern(grid_ops.CONV)
def conv_of_concat(op: Op, b: Builder) -> Values:
    """conv(concat(x_t, h), w) -> conv(x_t, w's first channels) + conv(h, its last)   in a scan body, when x_t is a step
    of a sequence"""
    x, w = op.operands
    inner = producer(x, ops.CONCAT)
    scan = op.parent.parent if op.parent is not None else None
    if inner is None or scan is None or scan.name != "scan" or w.block is op.parent:
        return None
    assert isinstance(inner.attrs, ConcatAttrs)
    assert isinstance(op.attrs, grid_ops.ConvAttrs)
    steps = [v in Scan(scan).x_args for v in inner.operands]
    if inner.attrs.axis != x.type.rank - 1 or op.attrs.groups != 1 or not any(steps) or all(steps):
        return None
    total: Value | None = None
    at = 0
    for v in inner.operands:
        size = v.shape[-1]
        assert isinstance(size, int)
        part = b.op(grid_ops.CONV, v, b.slice(w, -2, at, size), attrs=op.attrs)
        total = part if total is None else b.add(total, part)
        at += size
    return [total] if total is not None else None


MOVE_PATTERNS: Final[tuple[Pattern, ...]] = (
    reshape_of_reshape, reshape_of_broadcast_scalar, broadcast_of_broadcast, broadcast_of_reshape,
    reverse_of_reverse, slice_of_everything,
    slice_of_slice, slice_of_concat, slice_of_broadcast, concat_of_concat, concat_of_slices, matmul_of_concat,
    conv_of_concat, elementwise_of_reshapes, transpose_of_ones, take_of_constant,
)
