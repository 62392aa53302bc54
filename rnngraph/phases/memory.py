"""Where every value of a schedule lives: an input, a constant, an output, a buffer, or a view of one of these.

Joins and transposes cost nothing where their operands can be written in place: a layer's two directions write into
the halves of the concat, and the last layer writes batch-major straight into the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from rnngraph.ir import Dim, Op, Value
from rnngraph.ir.dims import add
from rnngraph.ir.grid_ops import PadAttrs
from rnngraph.ir.ops import ConcatAttrs
from rnngraph.phases.gangs import Gang, find_gangs, levels_of
from rnngraph.phases.stages import JOINS, Schedule, is_foldable_reshape, is_nest


class Where(Enum):
    INPUT = "input"
    OUTPUT = "output"
    BUFFER = "buffer"
    VIEW = "view"  # of the op's operand, forwards: a constant, a slice, a transpose...
    INSIDE = "inside"  # of another value: a part of a join, or the other side of a transpose


@dataclass(frozen=True, slots=True)
class Placement:
    """``of`` and ``op`` say what a view or an inside placement refers to; ``offset`` is the part's place in a join."""

    where: Where
    of: Value | None = None
    op: Op | None = None
    offset: Dim = 0


@dataclass(slots=True)
class MemoryPlan:
    """Placements, the copies that remain, and how long buffers live (in levels of the schedule)."""

    placements: dict[Value, Placement] = field(default_factory=dict)
    copies: list[tuple[Value, Value, Dim]] = field(default_factory=list)  # (part, join, offset): written by a copy
    output_copies: list[Value] = field(default_factory=list)  # outputs that are copied from where they live
    dense: set[Value] = field(default_factory=set)  # buffers without gaps: they are seen in other shapes
    lifetimes: dict[Value, tuple[int, int]] = field(default_factory=dict)
    gangs: list[Gang] = field(default_factory=list)


_INVERTIBLE = frozenset({"transpose", "reverse", "reshape"})


class _Planner:
    def __init__(self, schedule: Schedule, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        self.schedule = schedule
        self.inputs = inputs
        self.outputs = outputs
        self.plan = MemoryPlan()
        ops = [i for i in schedule.items if isinstance(i, Op)]
        nests = [v for op in ops if is_nest(op) for v in op.results]
        self.written = dict.fromkeys([*(v for s in schedule.stages for v in s.writes()), *nests])
        self.by_rows = {*nests, *(v for s in schedule.stages if not s.is_scan for v in s.writes())}
        self.joins = {op.results[0]: op for op in ops if op.name in JOINS}
        self.moves = {op.results[0]: op for op in ops if op.name not in JOINS and not is_nest(op)}

    def build(self) -> MemoryPlan:
        placements = self.plan.placements
        for v in self.inputs:
            placements[v] = Placement(Where.INPUT)
        for v in dict.fromkeys(self.outputs):
            if not self.claim(v, Placement(Where.OUTPUT)):
                self.plan.output_copies.append(v)
        for v in reversed(self.joins):
            self.claim(v, Placement(Where.BUFFER))
        for v in self.written:
            placements.setdefault(v, Placement(Where.BUFFER))
        for v, op in self.moves.items():
            placements.setdefault(v, Placement(Where.VIEW, op.operands[0] if op.operands else None, op))
        for op in self.moves.values():
            if op.name == "windows" or (op.name == "reshape" and not is_foldable_reshape(op)):
                self.plan.dense.update(self.roots(op.operands[0]))
        order = {v: k for k, v in enumerate(self.joins)}
        self.plan.copies.sort(key=lambda c: order[c[1]])  # a join may hold a view of an earlier one
        self.plan.gangs = find_gangs(self.schedule.items)
        self.lifetimes()
        return self.plan

    def claim(self, v: Value, placement: Placement) -> bool:
        """Let ``v`` be stored at ``placement`` if whoever computes it can write there."""
        if v in self.plan.placements:
            return False
        if v in self.written:
            self.plan.placements[v] = placement
            return True
        if v in self.joins:
            if self.joins[v].name == "pad" and placement.where is not Where.BUFFER:
                return False  # its zeros are written once, when its own buffer is made
            self.plan.placements[v] = placement
            self.join(v, self.joins[v])
            return True
        op = self.moves.get(v)
        if op is not None and op.name in _INVERTIBLE and self.may_write(op, placement):
            if self.claim(op.operands[0], Placement(Where.INSIDE, v, op)):
                self.plan.placements[v] = placement
                return True
        return False

    def may_write(self, op: Op, placement: Placement) -> bool:
        """Whether the memory of a move's result can be written in the shape of its operand; an output is whole."""
        return op.name != "reshape" or is_foldable_reshape(op) or placement.where is Where.OUTPUT

    def join(self, v: Value, op: Op) -> None:
        if isinstance(op.attrs, PadAttrs):  # a buffer that starts as zeros; what is padded is written between them
            part = op.operands[0]
            if part not in self.by_rows or not self.claim(part, Placement(Where.INSIDE, v, op)):
                self.plan.copies.append((part, v, 0))
            return
        assert isinstance(op.attrs, ConcatAttrs)
        at: Dim = 0
        for part in op.operands:
            if not self.claim(part, Placement(Where.INSIDE, v, op, at)):
                self.plan.copies.append((part, v, at))
            at = add(at, part.shape[op.attrs.axis])

    def lifetimes(self) -> None:
        """Buffers live from the level that writes them to the last level that reads them, through any view."""
        level = levels_of(self.plan.gangs)
        last = max(level.values(), default=0) + 1
        spans: dict[Value, list[int]] = {}
        for k, s in enumerate(self.schedule.stages):
            for v in (*s.reads(), *s.writes()):
                for root in self.roots(v):
                    spans.setdefault(root, []).append(level[k])
        for v in self.outputs:
            for root in self.roots(v):
                spans.setdefault(root, []).append(last)
        for part, join, _ in self.plan.copies:
            for root in (*self.roots(part), *self.roots(join)):
                spans.setdefault(root, []).extend((0, last))
        self.plan.lifetimes = {v: (min(s), max(s)) for v, s in spans.items()}

    def roots(self, v: Value) -> list[Value]:
        """The buffers that ``v`` is a view of or lies in; its own parts when it is a join."""
        placement = self.plan.placements.get(v)
        if placement is None or placement.of is None:
            return [v]
        return self.roots(placement.of)


def plan_memory(schedule: Schedule, inputs: Sequence[Value], outputs: Sequence[Value]) -> MemoryPlan:
    """Place every value of a segment's schedule."""
    return _Planner(schedule, inputs, outputs).build()



