"""What moves data between stages: parts that are copied into joins, and views that memory does not allow.

A move is done once, by one thread, before the first stage that reads its result, through any views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnngraph.backends.llvm.arrays import Arrays, part_of
from rnngraph.backends.llvm.copy import copy_shape
from rnngraph.backends.llvm.tasks import Record
from rnngraph.backends.llvm.words import Words
from rnngraph.errors import CompileError
from rnngraph.ir import Array, Dim, Op, Value
from rnngraph.phases.memory import MemoryPlan
from rnngraph.phases.stages import Schedule, Stage


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """A copy from ``source`` to ``target``, which is (a part of) the memory of ``result``."""

    result: Value
    operand: Value
    target: Array
    source: Array


class Moves:
    """The moves of one plan, in order."""

    def __init__(self, schedule: Schedule, memory: MemoryPlan, arrays: Arrays, words: Words,
                 copies: dict[int, int]) -> None:
        self.arrays = arrays
        self.words = words
        self.copies = copies  # address of rg_copy by the size of an element
        self.stages: Sequence[Stage] = schedule.stages
        self.ops = frozenset(i for i in schedule.items if isinstance(i, Op))
        self.behind: dict[Value, frozenset[Value]] = {}
        place = {op: k for k, op in enumerate(i for i in schedule.items if isinstance(i, Op))}
        found = [(op, self._part(part, join, at)) for part, join, at in memory.copies if (op := join.op) is not None]
        found += [(op, Move(v, op.operands[0], *pair)) for v, pair in arrays.filled.items() if (op := v.op) is not None]
        self.waiting = [move for _, move in sorted(found, key=lambda pair: place[pair[0]])]

    def _part(self, part: Value, join: Value, offset: Dim) -> Move:
        assert join.op is not None
        container = self.arrays.get(join)
        return Move(join, part, part_of(container, join.op, part, offset, self.arrays.dims), self.arrays.get(part))

    # --- when ---------------------------------------------------------------------------------------------------

    def joins(self, stages: Sequence[int]) -> list[Record]:
        """What these stages, which may run side by side, read and none of them writes."""
        written = {v for k in stages for v in self.stages[k].writes()}
        wanted = {v for k in stages for v in self.stages[k].reads()}
        return self._take([m for m in self.waiting if not self.reaches(written, m.operand)], wanted)

    def before(self, stage: int) -> list[Record]:
        """What a stage reads and is not there yet."""
        return self._take(self.waiting, set(self.stages[stage].reads()))

    def rest(self) -> list[Record]:
        """What only the outputs are made of."""
        return self._take(self.waiting, {m.result for m in self.waiting})

    def inner(self, stages: Sequence[int]) -> bool:
        """Whether one of the stages reads what a move makes of another's result."""
        written = {v for k in stages for v in self.stages[k].writes()}
        reads = {v for k in stages for v in self.stages[k].reads()}
        return any(self.reaches(written, m.operand) and any(self.reaches({m.result}, v) for v in reads)
                   for m in self.waiting)

    def _take(self, moves: Sequence[Move], wanted: set[Value]) -> list[Record]:
        taken = [m for m in moves if any(self.reaches({m.result}, v) for v in wanted)]
        self.waiting = [m for m in self.waiting if m not in taken]
        return [self.copy(m.target, m.source) for m in taken]

    def reaches(self, sources: set[Value], v: Value) -> bool:
        """Whether ``v`` is one of the sources, or a view or join of one."""
        return not sources.isdisjoint(self._behind(v))

    def _behind(self, v: Value) -> frozenset[Value]:
        """The value, and all that it is a view or join of."""
        if v not in self.behind:
            found, todo = {v}, [v]
            while todo:
                op = todo.pop().op
                if op is not None and op in self.ops:
                    fresh = [x for x in op.operands if x not in found]
                    found.update(fresh)
                    todo += fresh
            self.behind[v] = frozenset(found)
        return self.behind[v]

    # --- records ------------------------------------------------------------------------------------------------

    def copy(self, target: Array, source: Array) -> Record:
        """A copy as a record."""
        shape = copy_shape(target, source)
        if shape is None:
            raise CompileError(f"llvm: cannot copy an array of shape {source.shape} in one piece")
        at = self.words.table([0, 0, *shape])
        self.words.put(at, target)
        self.words.put(at + 1, source)
        return (self.copies[source.itemsize], at)


__all__ = ["Moves"]
