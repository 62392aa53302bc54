"""Brings a scan whose states have dims of size 1 besides [batch, units] (as ONNX bodies often have) to rank 2."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.ir import Builder, Graph, Op, Scan, Shape, Value, make_op, ops
from rnngraph.ir.ops import BroadcastAttrs, YieldAttrs
from rnngraph.ir.scan import SCAN
from rnngraph.passes._move_patterns import elementwise_of_reshapes, reshape_of_broadcast_scalar, reshape_of_reshape
from rnngraph.passes._scalar_patterns import ELEMENTWISE, producer
from rnngraph.rewrite import pattern, rewrite

Values = Sequence[Value] | None


def squeezed(shape: Shape) -> Shape:
    """``shape`` without leading dims of size 1, as long as two dims are left."""
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    return shape


def squeeze(op: Op, graph: Graph) -> Op | None:
    """The scan with states, sequences and outputs of rank 2 a step, in place of ``op``; None where nothing is to do."""
    scan = Scan(op)
    if all(squeezed(v.shape) == v.shape for v in scan.carry_args):
        return None
    b, body = Builder.at(op), scan.body
    for v in [*scan.carry_args, *scan.x_args]:
        _squeeze_argument(v, body.ops[0])
    inits = [b.reshape(v, squeezed(v.shape)) for v in scan.inits]
    xs = [b.reshape(v, (v.shape[0], *squeezed(v.shape[1:]))) for v in scan.xs]
    end = body.terminator
    inner = Builder.at(end)
    new = [inner.reshape(v, squeezed(v.shape)) for v in end.operands]
    attrs = end.attrs
    assert isinstance(attrs, YieldAttrs)
    end.set_operands(new)
    lengths = [] if scan.lengths is None else [scan.lengths]
    op.blocks = ()
    made = b.insert(make_op(SCAN, (*inits, *xs, *lengths), op.attrs, (body,), op.layer))
    for old, result in zip(op.results, made.results, strict=True):
        old.replace_by(b.reshape(result, old.shape))
    op.erase()
    rewrite(graph, PATTERNS)
    return made


def _squeeze_argument(arg: Value, first: Op) -> None:
    """The argument gets its small type; the body reads it through a reshape."""
    old, small = arg.type, squeezed(arg.shape)
    if small == arg.shape:
        return
    uses = list(arg.uses)
    arg.type = old.with_shape(small)
    wide = Builder.at(first).reshape(arg, old.shape)
    for user, i in uses:
        user.set_operand(i, wide)


def _inside(op: Op) -> bool:
    return op.parent is not None and op.parent.parent is not None and op.parent.parent.name == "scan"


@pattern(ops.MATMUL)
def matmul_of_reshape(op: Op, b: Builder) -> Values:
    """reshape(x, [1, b, k]) @ w -> reshape(x @ w)   for x[b, k] and a matrix w"""
    x, w = op.operands
    inner = producer(x, ops.RESHAPE)
    if inner is None or not _inside(op) or w.type.rank != 2 or inner.operands[0].shape != squeezed(x.shape):
        return None
    return [b.reshape(b.matmul(inner.operands[0], w), op.result.shape)]


@pattern(*ELEMENTWISE)
def elementwise_of_squeezed(op: Op, b: Builder) -> Values:
    """f(reshape(x, [1, b, k]), broadcast(v, [1, b, k])) -> reshape(f(x, broadcast(v, [b, k])))"""
    shape = squeezed(op.result.shape)
    if shape == op.result.shape or not _inside(op):
        return None
    parts = [_small(v, shape, b) for v in op.operands]
    reshapes = [v for v in op.operands if producer(v, ops.RESHAPE) is not None]
    known = [v for v in parts if v is not None]
    if not reshapes or len(known) < len(parts):
        return None
    return [b.reshape(b.op(op.opdef, *known, attrs=op.attrs), op.result.shape)]


def _small(value: Value, shape: Shape, b: Builder) -> Value | None:
    op = value.op
    dropped = value.type.rank - len(shape)
    if op is not None and op.opdef is ops.RESHAPE and op.operands[0].shape == shape:
        return op.operands[0]
    if op is not None and isinstance(a := op.attrs, BroadcastAttrs) and all(axis >= dropped for axis in a.axes):
        return b.broadcast(op.operands[0], shape, tuple(axis - dropped for axis in a.axes))
    if op is not None and op.opdef is ops.CONST:
        return b.reshape(value, shape)
    return None


@pattern(ops.BROADCAST)
def broadcast_of_ones(op: Op, b: Builder) -> Values:
    """broadcast(x, [1, b, k]) -> reshape(x)   for x[b, k]"""
    (x,) = op.operands
    return [b.reshape(x, op.result.shape)] if _inside(op) and x.shape == squeezed(op.result.shape) != op.result.shape \
        else None


@pattern(ops.CONCAT, ops.SLICE, ops.SOFTMAX)
def columns_of_squeezed(op: Op, b: Builder) -> Values:
    """slices and concats of columns of reshape(x, [1, b, k]) -> reshape of those of x"""
    shape = squeezed(op.result.shape)
    last = op.result.type.rank - 1
    if shape == op.result.shape or not _inside(op) or getattr(op.attrs, "axis", 0) != last:
        return None
    parts = []
    for v in op.operands:
        part = _small(v, squeezed(v.shape), b)
        if part is None or part.shape == v.shape:
            return None
        parts.append(part)
    axis = len(shape) - 1
    if isinstance(op.attrs, ops.SliceAttrs):
        new = b.slice(parts[0], axis, op.attrs.start, op.attrs.size, op.attrs.step)
    elif op.opdef is ops.CONCAT:
        new = b.concat(parts, axis)
    else:
        new = b.op(ops.SOFTMAX, parts[0], attrs=ops.AxisAttrs(axis))
    return [b.reshape(new, op.result.shape)]


PATTERNS = (reshape_of_reshape, reshape_of_broadcast_scalar, elementwise_of_reshapes, matmul_of_reshape,
            elementwise_of_squeezed, broadcast_of_ones, columns_of_squeezed)
