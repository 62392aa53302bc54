"""masks-to-lengths: a step that leaves rows alone from their length on, by a comparison, is a scan with lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from rnngraph.ir import Builder, Dim, Graph, Op, Scan, Value, dims
from rnngraph.ir.induction import Affine, affine, of_scan
from rnngraph.ir.ops import MAX, MIN, BroadcastAttrs, ConstAttrs
from rnngraph.ir.size_ops import SIZE, SizeAttrs
from rnngraph.passes._counters import number_steps
from rnngraph.rewrite import Pass, PassContext
from rnngraph.rewrite.scan_edit import simplify


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that are active in step t: those with t < lengths + more. ``negated``: the condition says which are
    not."""

    lengths: Value
    more: Dim
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a step makes where the lengths say which rows take part."""

    rows: Rows
    states: tuple[Value, ...]
    outputs: tuple[Value, ...]
    pad: str


@dataclass(frozen=True)
class MasksToLengths(Pass):
    """``select(t < lengths, new, old)`` of every state becomes the scan's lengths, as tf.nn.dynamic_rnn needs it.

    Outputs are those of the masked state (then padding repeats the last one) or masked with zero. Lengths beyond the
    steps mean all of them, below 0 none.
    """

    name: ClassVar[str] = "masks-to-lengths"

    def run(self, graph: Graph, context: PassContext) -> None:
        for op in list(graph.walk()):
            if op.name != "scan" or op.parent is None:
                continue
            plan = _plan(Scan(op))
            if plan is not None and len(plan.states) < len(Scan(op).attrs.carries):
                number_steps(op)
                plan = _plan(Scan(op))
            if plan is not None:
                _apply(op, plan)
                name = plan.rows.lengths.hint or "lengths"
                context.applied(op.layer, f"its mask compares the step with %{name}: now the lengths of the scan")


def _plan(scan: Scan) -> Plan | None:
    known = of_scan(scan)
    if scan.lengths is not None or scan.until is not None or not known or not scan.attrs.carries:
        return None
    states: list[Value] = []
    found: list[Rows] = []
    masked: dict[Value, tuple[Value, Value]] = {}  # of a masked state what it was without the mask, and its start
    for arg, init, after in zip(scan.carry_args, scan.inits, scan.next_carries, strict=True):
        if arg in known:
            continue  # a counter
        chosen = _chosen(scan, after, known)
        if chosen is None or chosen[2] is not arg:
            return None
        found.append(chosen[0])
        states.append(chosen[1])
        masked[after] = chosen[1], init
    outputs: list[Value] = []
    pads: set[str] = set()
    for value in scan.emitted:
        if value in masked and _is_zero(masked[value][1]):
            outputs.append(masked[value][0])
            pads.add("repeat")
            continue
        chosen = _chosen(scan, value, known)
        if chosen is None or not _is_zero(chosen[2]):
            return None
        found.append(chosen[0])
        outputs.append(chosen[1])
        pads.add("zero")
    if not states or len(set(found)) != 1 or len(pads) > 1:
        return None
    return Plan(found[0], tuple(states), tuple(outputs), pads.pop() if pads else "zero")


def _chosen(scan: Scan, value: Value, known: Mapping[Value, Affine]) -> tuple[Rows, Value, Value] | None:
    """(rows, new, old) of a value that is new in the active rows."""
    op = value.op
    if op is None or value.block is not scan.body:
        return None
    if op.name == "mul":
        return _kept(scan, op, known)
    if op.name != "select":
        return None
    condition, a, b = op.operands
    rows = _rows(scan, condition, known)
    if rows is None:
        return None
    new, old = (b, a) if rows.negated else (a, b)
    return replace(rows, negated=False), new, old


def _kept(scan: Scan, op: Op, known: Mapping[Value, Affine]) -> tuple[Rows, Value, Value] | None:
    """The same of new * cast(condition), which is 0 in the other rows."""
    for new, flags in (op.operands, op.operands[::-1]):
        cast = _cast_of(flags)
        rows = None if cast is None else _rows(scan, cast, known)
        if rows is not None and not rows.negated:
            zero = Builder.at(scan.op).const(0.0, op.result.type.dtype)
            return rows, new, zero
    return None


def _cast_of(value: Value) -> Value | None:
    """The bool, of one number a row, that a value holds as numbers."""
    while value.op is not None and value.op.name in ("broadcast", "reshape"):
        value = value.op.operands[0]
    op = value.op
    return op.operands[0] if op is not None and op.name == "cast" and op.operands[0].type.dtype.kind == "bool" else None


def _rows(scan: Scan, condition: Value, known: Mapping[Value, Affine]) -> Rows | None:
    batch = condition.shape[0] if condition.shape else None
    value, negated = _by_row(condition, batch), False
    while value is not None and value.op is not None and value.op.name == "not":
        value, negated = _by_row(value.op.operands[0], batch), not negated
    op = value.op if value is not None else None
    if op is None or op.name not in ("lt", "le", "gt", "ge"):
        return None
    low, high = op.operands if op.name in ("lt", "le") else op.operands[::-1]
    gap = 1 if op.name in ("le", "ge") else 0
    for step, lengths, more, flips in ((low, high, gap, False), (high, low, 1 - gap, True)):
        at, rows = affine(_one(step), known), _outer(scan, lengths, batch)
        if at is not None and at.step == 1 and rows is not None:
            return Rows(rows, dims.sub(more, at.start), negated != flips)
    return None


def _by_row(value: Value, batch: Dim | None) -> Value | None:
    """What a value repeats along its later axes: of shape [batch] or [batch, 1, ...]; None where rows are mixed."""
    while value.op is not None and value.op.name in ("broadcast", "reshape", "cast"):
        source = value.op.operands[0]
        if not source.shape or source.shape[0] != batch:
            break
        if isinstance(value.op.attrs, BroadcastAttrs) and value.op.attrs.axes[0] != 0:
            return None
        value = source
    return value if all(d == 1 for d in value.shape[1:]) and value.shape[:1] == (batch,) else None


def _one(value: Value) -> Value:
    """The one number that a value repeats, if it does."""
    while value.op is not None and value.op.name == "broadcast":
        value = value.op.operands[0]
    return value


def _outer(scan: Scan, value: Value, batch: Dim | None) -> Value | None:
    """Integers of rows that come from outside of the scan."""
    found = _by_row(value, batch)
    outside = found is not None and found.block is not scan.body and not (
        found.op is not None and found.op.is_inside(scan.body))
    return found if outside and found is not None and found.type.dtype.name in ("i32", "i64") else None


def _is_zero(value: Value) -> bool:
    value = _one(value)
    return value.op is not None and isinstance(value.op.attrs, ConstAttrs) and value.op.attrs.value.splat == 0


def _apply(op: Op, plan: Plan) -> None:
    scan, b = Scan(op), Builder.at(op)
    lengths = b.reshape(plan.rows.lengths, plan.rows.lengths.shape[:1])

    def number(dim: Dim) -> Value:
        one = b.const(dim, lengths.type.dtype) if isinstance(dim, int) else \
            b.op(SIZE, attrs=SizeAttrs(dim, lengths.type.dtype))
        return b.broadcast(one, lengths.shape, ())

    if plan.rows.more != 0:
        lengths = b.add(lengths, number(plan.rows.more))
    lengths = b.op(MIN, b.op(MAX, lengths, number(0)), number(scan.attrs.steps))
    scan.body.terminator.set_operands((*plan.states, *plan.outputs))
    op.set_operands((*op.operands, lengths))
    op.attrs = replace(scan.attrs, lengths=True, pad=plan.pad)
    simplify(op)
