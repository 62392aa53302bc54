"""What is done between stages: parts are copied into joins, views that memory does not allow are copies, nests run.

Each is done once, by one thread, before the first stage that reads its result, through any views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rnngraph.backends.llvm.arrays import Arrays, part_of
from rnngraph.backends.llvm.copy import copy_shape
from rnngraph.backends.llvm.nest_tables import NestTables
from rnngraph.backends.llvm.tasks import Record
from rnngraph.backends.llvm.words import Words
from rnngraph.errors import CompileError
from rnngraph.ir import Array, Dim, Op, Value
from rnngraph.phases.memory import MemoryPlan
from rnngraph.phases.stages import Schedule, Stage, is_nest


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """What makes (a part of) the results of ``op`` from the operands: the record is ``make``'s."""

    op: Op
    operands: tuple[Value, ...]
    make: Callable[[], Record]

    @property
    def results(self) -> set[Value]:
        return set(self.op.results)


class Moves:
    """What one plan does between its stages, in order."""

    def __init__(self, schedule: Schedule, memory: MemoryPlan, arrays: Arrays, words: Words,
                 copies: dict[int, int], nests: NestTables) -> None:
        self.arrays = arrays
        self.words = words
        self.copies = copies  # address of rg_copy by the size of an element
        self.stages: Sequence[Stage] = schedule.stages
        self.ops = frozenset(i for i in schedule.items if isinstance(i, Op))
        self.behind: dict[Value, frozenset[Value]] = {}
        ops = [i for i in schedule.items if isinstance(i, Op)]
        place = {op: k for k, op in enumerate(ops)}
        found = [self._part(*c) for c in memory.copies]
        found += [self._fill(v.op, *pair) for v, pair in arrays.filled.items() if v.op is not None]
        found += [Move(op, op.operands, partial(nests.record, op)) for op in ops if is_nest(op)]
        self.waiting = sorted(found, key=lambda move: place[move.op])

    def _part(self, part: Value, join: Value, offset: Dim) -> Move:
        assert join.op is not None
        target = part_of(self.arrays.get(join), join.op, part, offset, self.arrays.dims)
        return Move(join.op, (part,), partial(self.copy, target, self.arrays.get(part)))

    def _fill(self, op: Op, target: Array, source: Array) -> Move:
        return Move(op, op.operands, partial(self.copy, target, source))

    # --- when ---------------------------------------------------------------------------------------------------

    def joins(self, stages: Sequence[int]) -> list[Record]:
        """What these stages, which may run side by side, read and none of them writes."""
        written = {v for k in stages for v in self.stages[k].writes()}
        wanted = {v for k in stages for v in self.stages[k].reads()}
        return self._take([m for m in self.waiting if not self._reads(m, written)], wanted)

    def before(self, stage: int) -> list[Record]:
        """What a stage reads and is not there yet."""
        return self._take(self.waiting, set(self.stages[stage].reads()))

    def rest(self) -> list[Record]:
        """What only the outputs are made of."""
        return self._take(self.waiting, {v for m in self.waiting for v in m.results})

    def inner(self, stages: Sequence[int]) -> bool:
        """Whether one of the stages reads what a move makes of another's result."""
        written = {v for k in stages for v in self.stages[k].writes()}
        reads = {v for k in stages for v in self.stages[k].reads()}
        return any(self._reads(m, written) and any(self.reaches(m.results, v) for v in reads) for m in self.waiting)

    def _reads(self, move: Move, sources: set[Value]) -> bool:
        return any(self.reaches(sources, v) for v in move.operands)

    def _take(self, moves: Sequence[Move], wanted: set[Value]) -> list[Record]:
        taken = [m for m in moves if any(self.reaches(m.results, v) for v in wanted)]
        self.waiting = [m for m in self.waiting if m not in taken]
        return [m.make() for m in taken]

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
