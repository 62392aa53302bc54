"""States in which each step replaces its own place, and which it reads for nothing else: outputs of the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rnngraph.ir import Builder, Dim, Op, Scan, Value, dims
from rnngraph.ir.index_ops import ScatterAttrs, ScatterNdAttrs
from rnngraph.ir.induction import Affine, affine
from rnngraph.ir.ops import BroadcastAttrs
from rnngraph.rewrite import PassContext
from rnngraph.rewrite.scan_edit import add_y, set_next


@dataclass(frozen=True, slots=True)
class Plan:
    """``updates`` of step t stand at place ``start`` + t along ``axis``, or at those places counted ``backwards``."""

    updates: Value
    axis: int
    start: Dim
    backwards: bool


def written_states(op: Op, known: Mapping[Value, Affine], context: PassContext) -> bool:
    """Gives the scan an output for each such state, whose final value is then made of it."""
    scan = Scan(op)
    if scan.lengths is not None or scan.until is not None:
        return False
    changed = False
    for name in scan.attrs.carries:
        scan = Scan(op)
        at = scan.attrs.carries.index(name)
        arg, final = scan.carry_args[at], scan.finals[at]
        plan = _plan(scan, arg, scan.next_carries[at], known)
        if plan is None:
            continue
        inside = Builder(scan.body, before=scan.body.terminator)
        shape = [d for i, d in enumerate(arg.shape) if i != plan.axis]
        y = add_y(op, "written", inside.reshape(plan.updates, tuple(shape)))
        set_next(op, name, arg)
        final.replace_by(_joined(op, scan.inits[at], y, plan))
        context.applied(op.layer, f"each step writes its own place of {arg.type}: now an output of the steps")
        changed = True
    return changed


def _plan(scan: Scan, arg: Value, after: Value, known: Mapping[Value, Affine]) -> Plan | None:
    op = after.op
    if op is None or after.block is not scan.body or op.operands[0] is not arg or len(arg.uses) != 1 \
            or len(after.uses) != 1:
        return None
    _, index, updates = op.operands if isinstance(op.attrs, ScatterAttrs | ScatterNdAttrs) else (arg, arg, arg)
    if isinstance(op.attrs, ScatterNdAttrs) and op.attrs.reduction == "none" and index.shape[-1] == 1:
        axis = 0
    elif isinstance(op.attrs, ScatterAttrs) and op.attrs.reduction == "none":
        axis = op.attrs.axis % arg.type.rank
        if index.shape != tuple(1 if i == axis else d for i, d in enumerate(arg.shape)):
            return None
    else:
        return None
    place = affine(_one(index), known)
    if place is None or abs(place.step) != 1:
        return None
    steps, backwards = scan.attrs.steps, place.step < 0
    first = dims.sub(place.start, dims.sub(steps, 1)) if backwards else place.start
    if not dims.is_nonnegative(first) or not dims.is_nonnegative(dims.sub(arg.shape[axis], dims.add(first, steps))):
        return None
    return Plan(updates, axis, first, backwards)


def _one(value: Value) -> Value:
    """The one number that a value repeats, if it does."""
    while value.op is not None and isinstance(value.op.attrs, BroadcastAttrs):
        value = value.op.operands[0]
    return value


def _joined(op: Op, initial: Value, y: Value, plan: Plan) -> Value:
    """What the state is at last: its places before those written, these, and the ones behind."""
    assert op.parent is not None
    following = op.parent.ops[op.parent.ops.index(op) + 1 :]
    b = Builder(op.parent, before=following[0] if following else None, layer=op.layer)
    axis, size, steps = plan.axis, initial.shape[plan.axis], y.shape[0]
    y = b.reverse(y, 0) if plan.backwards else y
    y = b.transpose(y, (*range(1, axis + 1), 0, *range(axis + 1, y.type.rank)))
    end = dims.add(plan.start, steps)
    before = [b.slice(initial, axis, 0, plan.start)] if plan.start != 0 else []
    behind = [b.slice(initial, axis, end, dims.sub(size, end))] if end != size else []
    return b.concat([*before, y, *behind], axis) if before or behind else y
