"""The text form of schedules and memory plans: what dumps, reports and tests show."""

from __future__ import annotations

from rnngraph.ir import Value
from rnngraph.phases.instances import Instance, Kind, Piece, postorder
from rnngraph.phases.memory import MemoryPlan, Where
from rnngraph.phases.partition import Phase
from rnngraph.phases.stages import Schedule, Stage


def _dims(dims: tuple[int | str, ...]) -> str:
    return "*".join(map(str, dims)) or "1"


def stage_text(stage: Stage) -> list[str]:
    """One line for the stage, one per phase, one for its carries."""
    head = f"stage {stage.name}: rows {_dims(stage.rows)}"
    if stage.is_scan:
        head += f", {stage.steps} steps{' backwards' if stage.reverse else ''}"
    if stage.until:
        head += f", or until {stage.until} is not zero in all rows"
    lines = [head]
    if stage.carries:
        lines.append("  carries " + ", ".join(f"{c.name}[{c.n}] {c.mode.value}" for c in stage.carries))
    for k, p in enumerate(stage.partition.phases):
        wait = " after a barrier" if stage.waits[k] else ""
        lines.append(f"  phase {k} [{p.n}]{wait}: {_phase(p)}")
    return lines


def _phase(p: Phase) -> str:
    parts = []
    if p.row_scalars:
        parts.append(f"{len(p.row_scalars)} row scalars")
    parts += [f"matmul {'+'.join(map(_piece, g.pieces))} -> {len(g.parts)}x{p.n}" for g in p.groups]
    work = sum(1 for i in _elementwise(p))
    if work:
        parts.append(f"{work} elementwise")
    parts += [f"{'fold' if p.fold else 'partial'} {r.op.name}" for r in p.reduces]
    if p.stores:
        parts.append("store " + " ".join(s.dest + (f"+{s.pos}" if s.pos else "") for s in p.stores))
    return " | ".join(parts)


def _piece(q: Piece) -> str:
    """The extent of k, and the row it is read from where that is another one."""
    return f"{q.k}@{q.load.shift:+d}" if q.load.shift else str(q.k)


def _elementwise(p: Phase) -> list[Instance]:
    order = postorder((s.instance for s in p.stores), lambda i: i.args if i.level >= p.level else ())
    return [i for i in order if i.kind is Kind.ELEMENTWISE and i.level >= p.level]


def schedule_text(schedule: Schedule) -> str:
    """All stages of a schedule."""
    return "\n".join(line for s in schedule.stages for line in stage_text(s))


def _name(v: Value) -> str:
    return f"%{v.hint or v.index}: {v.type}"


def memory_text(plan: MemoryPlan) -> str:
    """Buffers with their lifetimes, what is written in place, what is copied."""
    lines = []
    for v, p in plan.placements.items():
        if p.where is Where.BUFFER:
            first, last = plan.lifetimes.get(v, (0, 0))
            lines.append(f"buffer {_name(v)} lives levels {first}..{last}")
        elif p.where is Where.OUTPUT:
            lines.append(f"output {_name(v)} is written in place")
        elif p.where is Where.INSIDE and p.of is not None and p.op is not None:
            lines.append(f"{_name(v)} lies in {_name(p.of)} ({p.op.name})")
    lines += [f"copy {_name(part)} into {_name(join)} at {at}" for part, join, at in plan.copies]
    lines += [f"output {_name(v)} is copied" for v in plan.output_copies]
    for k, g in enumerate(plan.gangs):
        lines.append(f"gang {k} at level {g.level}: stages {', '.join(map(str, g.stages))}")
    return "\n".join(lines)
