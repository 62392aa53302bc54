"""Neighbouring stages as one cooperative kernel, for few rows: one step of a network is one launch.

    chain(args of each stage, first, last, arrivals)

runs the stages from ``first`` up to ``last``, so that a call may do something else in between. All read their weights
from memory (`Streamed`), and every block has lanes of each phase. In front of a stage that reads what an earlier one of
the launch has written the whole grid waits; states start where their start lies, so that nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rnngraph.backends.cupy.codegen.arguments import start_field, struct_dtype, struct_text
from rnngraph.backends.cupy.codegen.expressions import HELPERS
from rnngraph.backends.cupy.codegen.persistent import LoopPhase, loop_bytes, steps_text
from rnngraph.backends.cupy.codegen.phase import reducers
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.codegen.streamed import Streamed
from rnngraph.errors import ImplementationError
from rnngraph.ir import Op, Value
from rnngraph.phases.instances import Leaf
from rnngraph.phases.stages import JOINS, VIEWS, Schedule, Stage

CHAIN = "chain"  # the kernel's name
ROWS_STREAMED, LOOP_STREAMED = "cupy.rows.streamed", "cupy.loop.streamed"
CHAINED = frozenset({ROWS_STREAMED, LOOP_STREAMED})
ROOM = 3900  # bytes of arguments; a launch takes 4096


@dataclass(frozen=True, slots=True)
class Chain:
    """waits: of each stage, whether the grid waits in front of it. ``bytes``: shared memory of a block."""

    stages: tuple[Stage, ...]
    products: tuple[Streamed, ...]
    waits: tuple[bool, ...]
    source: Source
    blocks: int
    bytes: int


class ChainPhase(LoopPhase):
    """A phase in a chain. ``written``: inputs that earlier stages of the launch may have written."""

    written: frozenset[str] = frozenset()

    def read(self, leaf: Leaf, lane: str, shift: int = 0) -> str:
        place = super().read(leaf, lane, shift)
        return self.changing(place) if leaf.name in self.written else place

    def carry(self, name: str, ahead: int) -> str:
        """In the first step the old value is the start, wherever that lies."""
        buffer = super().carry(name, ahead)
        return f"(step == 0 ? a.{start_field(name)} : {buffer})" if ahead == 0 and not self.stage.until else buffer


def unchained(stage: Stage) -> str:
    """Why a rows stage is no stage of a chain; empty when it is one."""
    return "memory is read at other rows than its own" if stage.shifts.margins else ""


def chains(schedule: Schedule, sms: int, shared: int) -> list[Chain]:
    """The chains of a schedule, in order: every stage whose implementation is one of `CHAINED` is in one.

    Raises ImplementationError for a stage whose left sides do not fit into shared memory.
    """
    return [_chain(run, sms, shared) for run in _runs(schedule)]


def _runs(schedule: Schedule) -> Iterator[list[Stage]]:
    """Stages with only views between them, as many as have room for their arguments."""
    run: list[Stage] = []
    for item in schedule.items:
        if isinstance(item, Stage) and item.impl in CHAINED:
            if run and sum(struct_dtype(s, starts=True).itemsize for s in (*run, item)) > ROOM:
                yield run
                run = []
            run.append(item)
        elif run and (isinstance(item, Stage) or item.name not in VIEWS | JOINS):
            yield run
            run = []
    if run:
        yield run


def _chain(stages: Sequence[Stage], sms: int, shared: int) -> Chain:
    blocks = max(Streamed.grids(s, sms)[0] for s in stages)
    products = [Streamed(s, blocks) for s in stages]
    sizes = [loop_bytes(s, made) for s, made in zip(stages, products, strict=True)]
    for s, size in zip(stages, sizes, strict=True):
        if reason := unchained(s):
            raise ImplementationError(f"cupy: layer {s.name!r} has {s.impl}: {reason}", s.impl,
                                      s.name if s.is_scan else "")
        if size > shared:
            raise ImplementationError(f"cupy: layer {s.name!r}: the left sides of {s.impl} take {size >> 10} KiB, a "
                                      f"block has {shared >> 10}", s.impl, s.name if s.is_scan else "")
    waits, text, earlier = [], "", set[Value]()
    unseen = set[Value]()  # written since the grid has waited
    for k, (stage, made) in enumerate(zip(stages, products, strict=True)):
        waits.append(bool(_behind(stage.reads(), earlier) & unseen))
        unseen = set() if waits[-1] else unseen
        text += _stage_text(k, stage, made, earlier)
        earlier.update(stage.writes())
        unseen.update(stage.writes())
    head = "\n".join(['#include "port.h"\n', HELPERS, reducers()])
    return Chain(tuple(stages), tuple(products), tuple(waits), Source(f"{head}\n{text}{_kernel_text(waits)}", (CHAIN,)),
                 blocks, max(sizes))


def _stage_text(k: int, stage: Stage, products: Streamed, earlier: set[Value]) -> str:
    """A stage as a function in a namespace of its own."""
    written = frozenset(name for name, (_, v) in stage.inputs.items() if _behind([v], earlier))
    phases = [ChainPhase(stage, p, products) for p in range(len(stage.partition.phases))]
    for phase in phases:
        phase.written = written
    return (f"namespace s{k} {{\n{struct_text(stage, starts=True)}"
            f"RG_DEVICE void run(const Args& a, rg_u32* arrivals, rg_u32& turn) {{\n{steps_text(phases)}}}\n}}\n")


def _kernel_text(waits: Sequence[bool]) -> str:
    args = "".join(f"s{k}::Args a{k}, " for k in range(len(waits)))
    text = f"RG_KERNEL {CHAIN}({args}int first, int last, rg_u32* arrivals) {{\n    rg_u32 turn = 0;\n"
    for k, wait in enumerate(waits):
        sync = "rg_grid_sync(arrivals, ++turn)" if wait else "__syncthreads()"
        text += (f"    if (first <= {k} && {k} < last) {{\n        if (first < {k}) {sync};\n"
                 f"        s{k}::run(a{k}, arrivals, turn);\n    }}\n")
    return text + "    rg_grid_end(arrivals);\n}\n"


def _behind(values: Iterable[Value], made: set[Value]) -> set[Value]:
    """Which of ``made`` the values are, or are views of."""
    todo, found, seen = list(values), set[Value](), set[Value]()
    while todo:
        v = todo.pop()
        if v in made:
            found.add(v)
        elif v not in seen and isinstance(v.op, Op) and v.op.name in VIEWS | JOINS:
            todo.extend(v.op.operands)
        seen.add(v)
    return found


__all__ = ["CHAIN", "CHAINED", "LOOP_STREAMED", "ROWS_STREAMED", "Chain", "chains", "unchained"]
