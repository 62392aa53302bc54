"""iterate-sequences: what a step reads at its own place of a sequence becomes a sequence of the scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import Builder, Dim, Graph, Op, Scan, Value, dims
from rnngraph.ir.induction import Affine, affine, of_scan
from rnngraph.ir.ops import AxisAttrs
from rnngraph.passes._written_states import written_states
from rnngraph.rewrite import Miss, Pass, PassContext
from rnngraph.rewrite.scan_edit import add_x, simplify, unreverse


@dataclass(frozen=True, slots=True)
class Plan:
    """Axis ``axis`` of ``source`` from ``start`` on, one place a step, ``backwards`` or not."""

    take: Op
    source: Value
    axis: int
    start: Dim
    backwards: bool


@dataclass(frozen=True)
class IterateSequences(Pass):
    """``take(x, t)`` in a scan's step t, with x from outside, becomes a sequence of the scan.

    Loops of other systems count their steps and read row t of a tensor. t may be the scan's own number of the step
    (a sequence 0, 1, ...) or a state that each step adds 1 to, with sizes added. States that only counted go away.
    A state in which each step only replaces its own place (scatter_nd, scatter_elements) is an output of the steps.
    """

    name: ClassVar[str] = "iterate-sequences"

    def run(self, graph: Graph, context: PassContext) -> None:
        for op in list(graph.walk()):
            if op.name == "scan" and op.parent is not None:
                _run(op, context)


def _run(op: Op, context: PassContext) -> None:
    scan = Scan(op)
    known = of_scan(scan)
    if not known:
        return
    found: dict[tuple[Value, int, Dim, bool], Value] = {}
    for inner in scan.body.body:
        plan = _plan(scan, inner, known)
        if isinstance(plan, Miss):
            context.missed(plan, op.layer)
        elif plan is not None:
            key = (plan.source, plan.axis, plan.start, plan.backwards)
            if key not in found:
                found[key] = add_x(op, "x", _sequence(op, scan.attrs.steps, plan))
                name = plan.source.hint
                what = f"%{name}" if name else str(plan.source.type)
                context.applied(op.layer, f"a step reads its own place of {what}: now a sequence of the scan")
            _replace(plan, found[key])
    written = written_states(op, known, context)
    if found or written:
        simplify(op)
        unreverse(op)


def _plan(scan: Scan, op: Op, known: Mapping[Value, Affine]) -> Plan | Miss | None:
    if op.name != "take" or not isinstance(op.attrs, AxisAttrs):
        return None
    source, index = op.operands
    at = affine(index, known)
    if at is None or at.step == 0 or source.block is scan.body:
        return None
    steps, size = scan.attrs.steps, source.shape[op.attrs.axis]
    if abs(at.step) != 1:
        return Miss(f"it reads every {abs(at.step)}. place of {source.type}, not one after the other")
    backwards = at.step < 0
    first = dims.sub(at.start, dims.sub(steps, 1)) if backwards else at.start
    if not dims.is_nonnegative(first) or not dims.is_nonnegative(dims.sub(size, dims.add(first, steps))):
        return Miss(f"its {steps} steps read from place {at.start} on of {source.type}, and nothing shows that these "
                    "are within it")
    return Plan(op, source, op.attrs.axis, first, backwards)


def _sequence(op: Op, steps: Dim, plan: Plan) -> Value:
    b = Builder.at(op)
    x = plan.source
    if plan.start != 0 or x.shape[plan.axis] != steps:
        x = b.slice(x, plan.axis, plan.start, steps)
    if plan.axis:
        x = b.transpose(x, (plan.axis, *(i for i in range(x.type.rank) if i != plan.axis)))
    if not plan.backwards:
        return x
    again = x.op is not None and x.op.name == "reverse" and x.op.attrs == AxisAttrs(0)
    return x.op.operands[0] if x.op is not None and again else b.reverse(x, 0)


def _replace(plan: Plan, step: Value) -> None:
    """The step's slice, in the form that the take had where that has an axis of one place left."""
    row = plan.take.result
    for user in list(row.users()):
        if user.name == "reshape" and user.result.shape == step.shape:
            user.result.replace_by(step)
            user.erase()
    if row.uses:
        row.replace_by(step if row.shape == step.shape else Builder.at(plan.take).reshape(step, row.shape))
    plan.take.erase()
