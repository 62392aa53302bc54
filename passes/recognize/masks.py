"""A sequence of masks ``t < lengths``, made in front of a scan, that holds all states still: the scan gets lengths."""

from __future__ import annotations

from dataclasses import replace

from rnngraph.ir import I32, I64, Builder, Op, Scan, Value, make_op, ops
from rnngraph.ir.clone import clone_op
from rnngraph.ir.scan import SCAN
from rnngraph.ir.size_ops import IOTA, SIZE, SizeAttrs
from rnngraph.passes._scalar_patterns import producer, splat_of
from rnngraph.passes.recognize.pairs import untransposed
from rnngraph.rewrite.scan_edit import prune


def lengths_of_masks(op: Op) -> Op | None:
    """The scan with lengths in place of ``op``; None where no mask of that kind keeps every state.

    What a step gives must be the masked state itself, one that starts as zeros, or zeros where the mask is false.
    """
    scan = Scan(op)
    if scan.lengths is not None or scan.until is not None:
        return None
    held = {k: _held(arg, new) for k, (arg, new) in enumerate(zip(scan.carry_args, scan.next_carries, strict=True))}
    masks = {found[0] for found in held.values() if found is not None}
    if len(masks) != 1 or None in held.values():
        return None
    (mask,) = masks
    lengths = _lengths(scan, mask)
    news = {scan.next_carries[k]: (found[1], splat_of(scan.inits[k]) == 0) for k, found in held.items()
            if found is not None}
    outputs = [_output(v, mask, news) for v in scan.emitted]
    pads = {pad for found in outputs if found is not None for pad in [found[1]]}
    if lengths is None or None in outputs or len(pads) > 1:
        return None
    new_carries = [news[v][0] if v in news else v for v in scan.next_carries]
    return _with_lengths(op, lengths, [*new_carries, *(found[0] for found in outputs if found is not None)],
                         next(iter(pads), "zero"))


def _with_lengths(op: Op, lengths: Value, yielded: list[Value], pad: str) -> Op | None:
    """A copy in place of ``op`` that yields these; None where something else than rows is still carried."""
    b, image = Builder.at(op), dict[Value, Value]()
    copy = b.insert(clone_op(op, image))
    kept = [i for i, r in enumerate(op.results) if r.uses]
    copy.blocks[0].terminator.set_operands([image[v] if v in image else v for v in yielded])
    for i in kept:  # prune only drops what nobody reads
        op.results[i].replace_by(copy.results[i])
    results = [copy.results[i] for i in kept]
    prune(copy)
    scan = Scan(copy)
    batch = lengths.shape[0]
    if any(v.type.rank < 1 or v.shape[0] != batch for v in (*scan.next_carries, *scan.emitted)):
        for i, result in zip(kept, results, strict=True):
            result.replace_by(op.results[i])
        copy.erase()
        return None
    last = b.op(SIZE, attrs=SizeAttrs(scan.attrs.steps, lengths.type.dtype))
    last, zero = (b.broadcast(v, (batch,), ()) for v in (last, b.const(0, lengths.type.dtype)))
    rows = b.op(ops.MIN, b.op(ops.MAX, lengths, zero), last)
    body, copy.blocks = copy.blocks[0], ()
    attrs = replace(scan.attrs, lengths=True, pad=pad)
    made = b.insert(make_op(SCAN, (*copy.operands, rows), attrs, (body,), op.layer))
    for old, new in zip(copy.results, made.results, strict=True):
        old.replace_by(new)
    copy.erase()
    op.erase()
    return made


def _held(arg: Value, new: Value) -> tuple[Value, Value] | None:
    """(mask, value) where ``new`` is select(mask, value, arg)."""
    op = producer(new, ops.SELECT)
    return (_root(op.operands[0]), op.operands[1]) if op is not None and op.operands[2] is arg else None


def _output(value: Value, mask: Value, news: dict[Value, tuple[Value, bool]]) -> tuple[Value, str] | None:
    """(what an active step gives, the padding)."""
    if value in news:
        return (news[value][0], "repeat") if news[value][1] else None
    op = producer(value, ops.SELECT)
    if op is None or _root(op.operands[0]) is not mask or splat_of(op.operands[2]) != 0:
        return None
    shown = op.operands[1]
    return news[shown][0] if shown in news else shown, "zero"


def _root(value: Value) -> Value:
    """The value of one number a row behind broadcasts."""
    while value.op is not None and value.op.opdef in (ops.BROADCAST, ops.RESHAPE):
        (value,) = value.op.operands
    return value


def _lengths(scan: Scan, mask: Value) -> Value | None:
    """The lengths in mask = (t < lengths), computed for all steps in front of the scan."""
    if mask not in scan.x_args:
        return None
    source, perm = untransposed(scan.xs[scan.x_args.index(mask)])
    op = source.op
    if op is None or op.name not in ("lt", "gt") or source.type.rank != 2:
        return None
    time, rows = op.operands if op.name == "lt" else op.operands[::-1]
    counts, lengths = _along(time, perm[0]), _along(rows, perm[1])
    if counts is None or counts.op is None or counts.op.opdef is not IOTA or lengths is None:
        return None
    fits = lengths.type.dtype in (I32, I64) and lengths.shape == (scan.inits[0].shape[0],)
    return lengths if fits else None


def _along(value: Value, axis: int) -> Value | None:
    """The vector that ``value`` is, along ``axis``, the same on all other axes."""
    op = value.op
    if value.type.rank == 1 and axis == 0 and (op is None or op.opdef is not ops.BROADCAST):
        return value
    if op is None or not isinstance(op.attrs, ops.BroadcastAttrs) or op.attrs.axes != (axis,):
        return None
    return op.operands[0]
