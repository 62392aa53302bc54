"""hoist-input-projection: x_t @ W leaves the scan and becomes one matmul over all steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import Block, Builder, Dim, Graph, Op, Scan, Value
from rnngraph.ir.dims import evaluate, symbols_of
from rnngraph.ir.grid_ops import CONV
from rnngraph.ir.ops import BROADCAST, CAST, CONST, MATMUL, SLICE, BroadcastAttrs, SliceAttrs, is_elementwise
from rnngraph.passes.select_implementation import Selection
from rnngraph.rewrite import Miss, Pass, PassContext
from rnngraph.rewrite.scan_edit import add_x, prune


@dataclass(frozen=True, slots=True)
class Plan:
    """Ops of a body that can run over whole sequences: projections, and what only follows from them."""

    projections: tuple[Op, ...]
    followers: tuple[Op, ...]


@dataclass(frozen=True)
class HoistInputProjection(Pass):
    """Matmuls and convolutions of a step of a sequence, or of a slice of its features, by outer weights move in front
    of the scan.

    For a GPU the steps that the user expects count, too: one step is a launch with fewer phases when it multiplies for
    itself.

    Elementwise ops that read only their results, and values without a batch (biases), go along: one sequence
    enters the scan either way. Scans with a known number of steps below ``min-steps`` stay as they are, and so do
    scans whose batch (a known dim, or one that the user expects) is larger than ``max-batch``: then a step has rows
    enough to reuse the projection's weights, and x @ W + h @ R is one accumulation that never leaves the cache.
    """

    name: ClassVar[str] = "hoist-input-projection"
    min_steps: int = 2
    max_batch: int = 15

    def run(self, graph: Graph, context: PassContext) -> None:
        self._run(graph.block, context)

    def _run(self, block: Block, context: PassContext) -> None:
        for op in block.body:
            for body in op.blocks:
                self._run(body, context)
            if op.name == "scan" and not self._stays(op, context):
                _hoist(op, self.min_steps, context)

    def _stays(self, op: Op, context: PassContext) -> bool:
        """Whether the batch is large enough for projection and recurrence to go together."""
        s = Scan(op)
        if context.options.get("packed") and s.lengths is not None and _recurrent(s):
            context.note(op.layer, "the projection stays in the step: rows are packed, and none is multiplied past its "
                                   "end")
            return True
        steps = _expected(s.attrs.steps, context) if _on_gpu(context) else None
        if steps is not None and steps < self.min_steps:
            context.note(op.layer, f"the projection stays in the step: {steps} expected < min-steps = {self.min_steps}")
            return True
        batch = next((v.shape[1] for v in s.xs if v.type.rank == 3), None)
        rows = None if batch is None else _expected(batch, context)
        if rows is None or rows <= self.max_batch or not _recurrent(s):
            return False
        if find(op, self.min_steps)[0].projections:
            context.note(op.layer, f"the projection stays in the step: {rows} rows > max-batch = {self.max_batch}")
        return True


def _on_gpu(context: PassContext) -> bool:
    """Whether a GPU is to run the graph: asked for, or chosen by select-implementation."""
    selection = context.artifacts.get("selection")
    return (selection.target if isinstance(selection, Selection) else context.target) == "gpu"


def _expected(dim: Dim, context: PassContext) -> int | None:
    """A size, as far as the user's expectations tell."""
    return evaluate(dim, context.dims) if symbols_of(dim) <= context.dims.keys() else None


def _recurrent(s: Scan) -> bool:
    """Whether a step multiplies a carry by weights."""
    return any(op.opdef is MATMUL and op.operands[0] in s.carry_args for op in s.body.body)


def _hoist(op: Op, min_steps: int, context: PassContext) -> None:
    plan, misses = find(op, min_steps)
    for miss in misses:
        context.missed(miss, op.layer)
    if plan.projections:
        for sentence in apply(op, plan):
            context.applied(op.layer, sentence)


def find(scan: Op, min_steps: int) -> tuple[Plan, list[Miss]]:
    """What can leave the scan, and why matmuls that depend on its sequences alone cannot."""
    s = Scan(scan)
    projections, misses = list[Op](), list[Miss]()
    timed = _follows_sequences(s)
    for op in s.body.body:
        if op.opdef not in (MATMUL, CONV):
            continue
        reason = _obstacle(op, s, timed)
        if reason is None:
            projections.append(op)
        elif reason:
            misses.append(Miss(reason, op.layer))
    steps = s.attrs.steps
    if projections and isinstance(steps, int) and steps < min_steps:
        return Plan((), ()), [Miss(f"the projections stay in the scan: {steps} steps < min-steps = {min_steps}")]
    return Plan(tuple(projections), _followers(s, projections)), misses


def _follows_sequences(s: Scan) -> set[Value]:
    """Values of the body that depend on sequences (and captures), never on a carry."""
    carried, timed = set[Value](s.carry_args), set[Value](s.x_args)
    for op in s.body.body:
        reads = [*op.operands, *(v for b in op.blocks for v in b.captures())]
        if any(v in carried for v in reads):
            carried.update(op.results)
        elif any(v in timed for v in reads):
            timed.update(op.results)
    return timed


def _obstacle(op: Op, s: Scan, timed: set[Value]) -> str | None:
    """Why a matmul or convolution stays: None when nothing keeps it, "" when it is no projection of a sequence."""
    x, w = op.operands
    if x not in timed:
        return ""
    source = _through_slices(x, s.body)
    if source not in s.x_args:
        kind = source.op.name if source.op is not None else "a value"
        return (f"the {op.name} of {_named(x)} stays in the scan: what it multiplies is computed in each step "
                f"(by {kind}), not a sequence itself")
    if w.block is s.body and not (w.op is not None and w.op.opdef is CONST):
        return f"the {op.name} of {_named(x)} stays in the scan: each step computes its weights {_named(w)}"
    if op.opdef is MATMUL and w.type.rank != 2:
        return f"the {op.name} of {_named(x)} stays in the scan: its weights have rank {w.type.rank}, not 2"
    return None


def _through_slices(value: Value, body: Block) -> Value:
    """The value that slices of the last axis were taken from."""
    while (op := value.op) is not None and op.parent is body and op.opdef is SLICE:
        assert isinstance(op.attrs, SliceAttrs)
        if op.attrs.axis != op.operands[0].type.rank - 1:
            break
        value = op.operands[0]
    return value


def _followers(s: Scan, projections: list[Op]) -> tuple[Op, ...]:
    """Elementwise ops that alone read each moved value they read, beside values without a batch."""
    moved = {op.result for op in projections}
    found = list[Op]()
    for op in s.body.body:
        reads = [v for v in op.operands if v in moved]
        if not reads or not (is_elementwise(op) or op.opdef is CAST):
            continue
        rest = [v for v in op.operands if v not in moved]
        if all(_without_batch(v, s.body) for v in rest) and all(v.users() == [op] for v in reads):
            found.append(op)
            moved.add(op.result)
    return tuple(found)


def _without_batch(value: Value, body: Block) -> bool:
    """A broadcast, along the first axis at least, of a value from outside or of a constant."""
    op = value.op
    if op is None or op.opdef is not BROADCAST or op.parent is not body:
        return False
    assert isinstance(op.attrs, BroadcastAttrs)
    source = op.operands[0]
    known = source.block is not body or (source.op is not None and source.op.opdef is CONST)
    return known and 0 not in op.attrs.axes


def apply(scan: Op, plan: Plan) -> list[str]:
    """Rebuild the plan's ops in front of the scan, feed the results in as sequences; returns what was done."""
    s = Scan(scan)
    steps = s.attrs.steps
    lifted: dict[Value, Value] = dict(zip(s.x_args, s.xs, strict=True))
    for op in (*plan.projections, *plan.followers):
        b = Builder(scan.parent, scan, op.layer) if scan.parent is not None else Builder.at(scan)
        operands = [_lift(v, lifted, b, s, op) for v in op.operands]
        new = b.op(op.opdef, *operands, attrs=op.attrs, hint=op.result.hint)
        lifted[op.result] = new
    gone = {*plan.projections, *plan.followers}
    said = [f"the projection of {_named(op.operands[0])} by {op.operands[1].type} left the scan: "
            f"one {op.name} over all {steps} steps" for op in plan.projections]
    for op in (*plan.projections, *plan.followers):
        if all(user in gone for user in op.result.users()):
            continue
        arg = add_x(scan, op.result.hint or "projected", lifted[op.result])
        for user, i in list(op.result.uses):
            if user not in gone:
                user.set_operand(i, arg)
    prune(scan)
    return said


def _lift(value: Value, lifted: dict[Value, Value], b: Builder, s: Scan, user: Op) -> Value:
    """What stands for ``value`` when ``user`` runs over all steps at once."""
    if value in lifted:
        return lifted[value]
    op = value.op
    if value.block is not s.body or op is None:
        return value  # weights
    if op.opdef is SLICE:
        a = op.attrs
        assert isinstance(a, SliceAttrs)
        source = _lift(op.operands[0], lifted, b, s, op)
        lifted[value] = b.slice(source, a.axis + 1, a.start, a.size, a.step)
    elif op.opdef is BROADCAST:
        a_ = op.attrs
        assert isinstance(a_, BroadcastAttrs)
        source = _lift(op.operands[0], lifted, b, s, op)
        lifted[value] = b.broadcast(source, (s.attrs.steps, *a_.shape), tuple(k + 1 for k in a_.axes))
    else:
        lifted[value] = b.op(op.opdef, attrs=op.attrs, hint=value.hint)  # a constant
    return lifted[value]


def _named(value: Value) -> str:
    return f"%{value.hint}" if value.hint else str(value.type)


__all__ = ["HoistInputProjection", "Plan", "apply", "find"]
