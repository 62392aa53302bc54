"""Which stages can run at the same time.

A gang is a set of stages that walk time together: a projection feeds its scan, a scan feeds the next layer's
projection, chunk by chunk (a stack's wavefront). Gangs of one level do not depend on each other: the two directions
of a bidirectional layer. Levels run one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnngraph.ir import Dim, Op, Value
from rnngraph.ir.ops import ConcatAttrs, SliceAttrs
from rnngraph.phases.stages import Stage


@dataclass(slots=True)
class Gang:
    """Stages (by number) in order; ``steps`` is the time dim that they share, None when they cannot be cut in time."""

    stages: list[int]
    steps: Dim | None
    reverse: bool
    level: int = 0


@dataclass(slots=True)
class _Edge:
    producer: int
    consumer: int
    aligned: bool  # the consumer's step t reads only the producer's step t


def time_of(stage: Stage) -> Dim | None:
    """The dim along which a stage can be run piece by piece."""
    if stage.is_scan:
        return stage.steps
    return stage.rows[0] if len(stage.rows) > 1 and stage.shifts.image else None


def find_gangs(items: Sequence[Stage | Op]) -> list[Gang]:
    """The gangs of a schedule, in an order that respects their dependencies."""
    stages = [i for i in items if isinstance(i, Stage)]
    edges = _edges(stages, frozenset(i for i in items if isinstance(i, Op)))
    gang_of = list(range(len(stages)))
    for e in edges:
        if e.aligned and _may_join(stages, edges, gang_of, e):
            old, new = gang_of[e.consumer], gang_of[e.producer]
            gang_of = [new if g == old else g for g in gang_of]
    level = _levels(gang_of, edges)
    gangs = []
    for name in sorted(level, key=lambda name: (level[name], name)):
        members = [k for k, g in enumerate(gang_of) if g == name]
        scans = [stages[k] for k in members if stages[k].is_scan]
        steps = time_of(stages[members[0]])
        gangs.append(Gang(members, steps, bool(scans) and scans[0].reverse, level[name]))
    return gangs


def _levels(gang_of: Sequence[int], edges: Sequence[_Edge]) -> dict[int, int]:
    """Gang -> length of the longest chain of gangs before it. (Gangs are few; networkx takes longer to import.)"""
    level = dict.fromkeys(gang_of, 0)
    between = {(gang_of[e.producer], gang_of[e.consumer]) for e in edges if gang_of[e.producer] != gang_of[e.consumer]}
    for _ in level:
        for producer, consumer in between:
            level[consumer] = max(level[consumer], level[producer] + 1)
    return level


def _may_join(stages: Sequence[Stage], edges: Sequence[_Edge], gang_of: Sequence[int], e: _Edge) -> bool:
    """Join a consumer to its producer's gang when all that it waits for is in that gang, walking the same way."""
    target = gang_of[e.producer]
    joining = gang_of[e.consumer]
    incoming = [x for x in edges if gang_of[x.consumer] == joining and gang_of[x.producer] != joining]
    if any(gang_of[x.producer] != target or not x.aligned for x in incoming):
        return False
    members = [s for k, s in enumerate(stages) if gang_of[k] in (target, gang_of[e.consumer])]
    ways = {s.reverse for s in members if s.is_scan}
    return len(ways) <= 1 and len({time_of(s) for s in members}) == 1


def _edges(stages: Sequence[Stage], moves: frozenset[Op]) -> list[_Edge]:
    writer = {v: k for k, s in enumerate(stages) for v in s.writes()}
    sequences = {v for s in stages for v in s.outputs.values()}
    found: dict[tuple[int, int], bool] = {}
    known: dict[Value, dict[Value, bool]] = {}
    for k, s in enumerate(stages):
        moving = {v for name, (_, v) in s.inputs.items() if not s.is_scan or name.startswith("x")}
        for v in s.reads():
            for source, straight in _sources(v, writer, moves, known).items():
                aligned = straight and v in moving and source in sequences and v.shape[:1] == (time_of(s),)
                key = (writer[source], k)
                found[key] = found.get(key, True) and aligned
    return [_Edge(p, c, a) for (p, c), a in sorted(found.items())]


def _sources(v: Value, writer: dict[Value, int], moves: frozenset[Op],
             known: dict[Value, dict[Value, bool]]) -> dict[Value, bool]:
    """The stage results that ``v`` is made of by moves of this schedule, each with whether every way to it leaves the
    leading axis alone."""
    if v in writer:
        return {v: True}
    if v.op is None or v.op not in moves:
        return {}
    if v not in known:
        a = v.op.attrs
        straight = isinstance(a, ConcatAttrs | SliceAttrs) and a.axis > 0
        found: dict[Value, bool] = {}
        for operand in v.op.operands:
            for source, ok in _sources(operand, writer, moves, known).items():
                found[source] = found.get(source, True) and ok and straight
        known[v] = found
    return known[v]


def levels_of(gangs: Sequence[Gang]) -> dict[int, int]:
    """Stage number -> level."""
    return {k: g.level for g in gangs for k in g.stages}
