"""Patterns of canonicalize: transposes sink towards the outputs, so that those around time-major scans meet and cancel.

A transpose sinks only below an op of its own block: below one of a scan body it would run in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rnngraph.ir import Builder, Op, Value, ops
from rnngraph.ir.index_ops import TAKE, is_lookup
from rnngraph.ir.ops import AxisAttrs, BroadcastAttrs, ConcatAttrs, ReduceAttrs, SliceAttrs, TransposeAttrs
from rnngraph.passes._scalar_patterns import ELEMENTWISE, REDUCTIONS, producer
from rnngraph.rewrite import Pattern, pattern

Values = Sequence[Value] | None
Perm = tuple[int, ...]


def transposed(value: Value, op: Op) -> tuple[Value, Perm] | None:
    """x and p where ``value`` is transpose(x, p), computed in the block of its user ``op``."""
    inner = producer(value, ops.TRANSPOSE)
    if inner is None or inner.parent is not op.parent:
        return None
    assert isinstance(inner.attrs, TransposeAttrs)
    return inner.operands[0], inner.attrs.perm


def inverse(perm: Perm) -> Perm:
    return tuple(perm.index(i) for i in range(len(perm)))


@pattern(ops.TRANSPOSE)
def transpose_of_transpose(op: Op, b: Builder) -> Values:
    """transpose(x, identity) -> x,  transpose(transpose(x, p), q) -> transpose(x, p[q])"""
    assert isinstance(op.attrs, TransposeAttrs)
    perm = op.attrs.perm
    if perm == tuple(range(len(perm))):
        return [op.operands[0]]
    inner = producer(op.operands[0], ops.TRANSPOSE)
    if inner is None:
        return None
    assert isinstance(inner.attrs, TransposeAttrs)
    return [b.transpose(inner.operands[0], [inner.attrs.perm[q] for q in perm])]


@pattern(ops.TRANSPOSE)
def transpose_of_broadcast(op: Op, b: Builder) -> Values:
    """transpose(broadcast(x)) -> broadcast(x)   where the axes of x keep their order"""
    assert isinstance(op.attrs, TransposeAttrs)
    inner = producer(op.operands[0], ops.BROADCAST)
    if inner is None:
        return None
    assert isinstance(inner.attrs, BroadcastAttrs)
    axes = tuple(op.attrs.perm.index(a) for a in inner.attrs.axes)
    return [b.broadcast(inner.operands[0], op.result.shape, axes)] if list(axes) == sorted(axes) else None


@pattern(*ELEMENTWISE)
def elementwise_of_transposes(op: Op, b: Builder) -> Values:
    """f(transpose(x, p), transpose(y, p), broadcast(z)) -> transpose(f(x, y, broadcast(z)), p)"""
    found = [t for v in op.operands if (t := transposed(v, op)) is not None]
    if not found or any(perm != found[0][1] for _, perm in found):
        return None
    perm, shape = found[0][1], found[0][0].shape
    new = list[Value]()
    for v in op.operands:
        if (t := transposed(v, op)) is not None:
            new.append(t[0])
        elif (axes := _untransposed_axes(v, perm)) is not None and v.op is not None:
            new.append(b.broadcast(v.op.operands[0], shape, axes))
        else:
            return None
    return [b.transpose(b.op(op.opdef, *new, attrs=op.attrs), perm)]


def _untransposed_axes(value: Value, perm: Perm) -> Perm | None:
    """The axes of a broadcast before the transpose; None if that is not a broadcast, or not one in order."""
    op = producer(value, ops.BROADCAST)
    if op is None:
        return None
    assert isinstance(op.attrs, BroadcastAttrs)
    axes = tuple(perm[a] for a in op.attrs.axes)
    return axes if list(axes) == sorted(axes) else None


@pattern(ops.MATMUL)
def matmul_of_transpose(op: Op, b: Builder) -> Values:
    """transpose(x, p) @ w -> transpose(x @ w, p)   when p keeps the last axis and w is a matrix

    Where w makes rows longer, only towards another transpose: else there would be more to transpose, for nothing.
    """
    x, w = op.operands
    found = transposed(x, op)
    if found is None or w.type.rank != 2 or found[1][-1] != x.type.rank - 1:
        return None
    before, after = w.shape
    shrinks = isinstance(before, int) and isinstance(after, int) and after <= before
    if not shrinks and not _meets_transpose(op.result):
        return None
    return [b.transpose(b.matmul(found[0], w), found[1])]


def _meets_transpose(value: Value) -> bool:
    """Whether a transpose follows, behind few ops that transposes sink below."""
    stack, looks = [value], 0
    while stack and looks < 32:
        for user in stack.pop().users():
            looks += 1
            if user.opdef is ops.TRANSPOSE:
                return True
            if user.opdef in SINKS:
                stack.append(user.result)
    return False


SINKS: Final = (*ELEMENTWISE, ops.MATMUL, ops.CONCAT, ops.SLICE, ops.SOFTMAX)


@pattern(ops.RESHAPE)
def reshape_of_transpose(op: Op, b: Builder) -> Values:
    """reshape(transpose(x, p), s) -> transpose(reshape(x), p')   where s adds and drops dims of size 1"""
    if (found := transposed(op.operands[0], op)) is None:
        return None
    x, perm = found
    shape = op.result.shape
    long = [a for a in perm if x.shape[a] != 1]  # the axes of x that stay, in the order of the result
    if [x.shape[a] for a in long] != [d for d in shape if d != 1]:
        return None
    order = sorted(long)
    places = iter(order.index(a) for a in long)
    ones = iter(range(len(long), len(shape)))  # new axes stand behind the others
    back = [next(places) if d != 1 else next(ones) for d in shape]
    narrow = (*(x.shape[a] for a in order), *(1 for d in shape if d == 1))
    return [b.transpose(b.reshape(x, narrow), back)]


@pattern(ops.CONCAT)
def concat_of_transposes(op: Op, b: Builder) -> Values:
    """concat(transpose(x, p), transpose(y, p), axis a) -> transpose(concat(x, y, axis p[a]), p)"""
    assert isinstance(op.attrs, ConcatAttrs)
    found = [transposed(v, op) for v in op.operands]
    pairs = [t for t in found if t is not None]
    if len(pairs) != len(found) or any(perm != pairs[0][1] for _, perm in pairs):
        return None
    perm = pairs[0][1]
    return [b.transpose(b.concat([x for x, _ in pairs], perm[op.attrs.axis]), perm)]


@pattern(ops.SLICE)
def slice_of_transpose(op: Op, b: Builder) -> Values:
    """slice(transpose(x, p), axis a) -> transpose(slice(x, axis p[a]), p)"""
    a = op.attrs
    assert isinstance(a, SliceAttrs)
    if (found := transposed(op.operands[0], op)) is None:
        return None
    x, perm = found
    return [b.transpose(b.slice(x, perm[a.axis], a.start, a.size, a.step), perm)]


@pattern(*REDUCTIONS)
def reduce_of_transpose(op: Op, b: Builder) -> Values:
    """reduce(transpose(x, p), axes) -> transpose(reduce(x, p[axes]), p without them)"""
    assert isinstance(op.attrs, ReduceAttrs)
    if (found := transposed(op.operands[0], op)) is None:
        return None
    x, perm = found
    axes = [perm[a] for a in op.attrs.axes]
    left = [p for p in perm if p not in axes]
    order = sorted(left)
    return [b.transpose(b.reduce(op.opdef, x, axes), [order.index(p) for p in left])]


@pattern(ops.SOFTMAX)
def softmax_of_transpose(op: Op, b: Builder) -> Values:
    """softmax(transpose(x, p), axis a) -> transpose(softmax(x, p[a]), p)"""
    assert isinstance(op.attrs, AxisAttrs)
    if (found := transposed(op.operands[0], op)) is None:
        return None
    x, perm = found
    return [b.transpose(b.op(ops.SOFTMAX, x, attrs=AxisAttrs(perm[op.attrs.axis])), perm)]


@pattern(ops.BROADCAST)
def broadcast_of_transpose(op: Op, b: Builder) -> Values:
    """broadcast(transpose(x, p), s, axes) -> transpose(broadcast(x, s', axes), p')"""
    assert isinstance(op.attrs, BroadcastAttrs)
    if (found := transposed(op.operands[0], op)) is None:
        return None
    x, perm = found
    axes, order = op.attrs.axes, list(range(len(op.attrs.shape)))
    for i, a in enumerate(axes):
        order[a] = axes[perm[i]]
    back = inverse(tuple(order))
    wide = b.broadcast(x, tuple(op.attrs.shape[a] for a in back), axes)
    return [b.transpose(wide, order)]


@pattern(ops.GATHER, TAKE)
def gather_of_transpose(op: Op, b: Builder) -> Values:
    """gather(table, transpose(i, p)) -> transpose(gather(table, i), p and the table's axes); a take of rows too"""
    table, index = op.operands
    if not is_lookup(op) or (found := transposed(index, op)) is None:
        return None
    i, perm = found
    return [b.transpose(b.op(op.opdef, table, i, attrs=op.attrs), (*perm, *range(len(perm), op.result.type.rank)))]


def _of_scan(value: Value) -> bool:
    return value.op is not None and value.op.name == "scan"


@pattern(ops.REVERSE)
def reverse_of_transpose(op: Op, b: Builder) -> Values:
    """reverse(transpose(x, p), a) -> transpose(reverse(x, p[a]), p)   for an output x of a scan"""
    assert isinstance(op.attrs, AxisAttrs)
    found = transposed(op.operands[0], op)
    if found is None or not _of_scan(found[0]):
        return None
    return [b.transpose(b.reverse(found[0], found[1][op.attrs.axis]), found[1])]


@pattern(ops.TRANSPOSE)
def transpose_of_reverse(op: Op, b: Builder) -> Values:
    """transpose(reverse(x, a), p) -> reverse(transpose(x, p), p's place of a)   unless x is an output of a scan"""
    assert isinstance(op.attrs, TransposeAttrs)
    inner = producer(op.operands[0], ops.REVERSE)
    if inner is None or inner.parent is not op.parent or _of_scan(inner.operands[0]):
        return None
    assert isinstance(inner.attrs, AxisAttrs)
    return [b.reverse(b.transpose(inner.operands[0], op.attrs.perm), op.attrs.perm.index(inner.attrs.axis))]


LAYOUT_PATTERNS: Final[tuple[Pattern, ...]] = (
    transpose_of_transpose, transpose_of_broadcast, elementwise_of_transposes, matmul_of_transpose,
    reshape_of_transpose, concat_of_transposes, slice_of_transpose, reduce_of_transpose, softmax_of_transpose,
    broadcast_of_transpose, gather_of_transpose, reverse_of_transpose, transpose_of_reverse,
)
