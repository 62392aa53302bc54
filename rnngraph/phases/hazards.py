"""Carries in memory, and where threads that share a step's lanes must wait for each other.

A carry is updated in place when nobody needs its old value after the phase that writes it, else it has two buffers
that swap roles every step. Barriers are found by simulating a few steps: a phase waits when it reads across lanes
what was written since the last barrier, or overwrites what was read across lanes since then.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from rnngraph.phases.instances import Instance, Kind, Leaf, Source, postorder
from rnngraph.phases.partition import Partition, Phase, evaluated, is_loaded

STEPS = 4  # of the simulation; parities repeat every two steps


class CarryMode(Enum):
    IN_PLACE = "in place"
    DOUBLE = "double"


def carry_modes(partition: Partition, carries: Sequence[str]) -> dict[str, CarryMode]:
    """For each carry (by buffer name): updated in place, or double-buffered."""
    modes = {}
    for name in carries:
        writers = [k for k, p in enumerate(partition.phases) if any(s.dest == name for s in p.stores)]
        across, along = _readers(partition, name)
        writer = writers[0]
        safe = len(writers) == 1 and all(k < writer for k in across) and all(k <= writer for k in along)
        modes[name] = CarryMode.IN_PLACE if safe else CarryMode.DOUBLE
    return modes


def _readers(partition: Partition, name: str) -> tuple[list[int], list[int]]:
    """Phases that read carry ``name`` across lanes, and those that read it at the lanes that they write."""
    across: list[int] = []
    along: list[int] = []
    for k, p in enumerate(partition.phases):
        if any(leaf.name == name for leaf in left_leaves(p)):
            across.append(k)
        for i in loads(partition, p):
            if i.leaf is not None and i.leaf.name == name:
                (along if not p.fold and _same_lanes(partition, i, name) else across).append(k)
    return across, along


def _same_lanes(partition: Partition, load: Instance, name: str) -> bool:
    """Whether a load reads exactly the lanes that its own thread writes: one window, the same everywhere."""
    if load.shift:
        return False
    return all(s.pos == load.off and s.instance.n == load.n for p in partition.phases for s in p.stores
               if s.dest == name)


def left_leaves(p: Phase) -> list[Leaf]:
    return [q.load.leaf for g in p.groups for q in g.pieces if q.load.leaf is not None]


def loads(partition: Partition, p: Phase) -> list[Instance]:
    """Lane and row loads that phase ``p`` does in its epilogue and row prologue."""

    def operands(i: Instance) -> Sequence[Instance]:
        return () if i.kind is Kind.REDUCE or is_loaded(partition.spilled, p, i) else i.args

    roots = [s.instance for s in p.stores] + [r.args[0] for r in p.reduces]
    return [i for i in postorder(roots, operands) if i.kind is Kind.LOAD]


def reduced(partition: Partition, p: Phase) -> list[int]:
    """Numbers of the reductions whose partials of all threads phase ``p`` combines in its row prologue."""
    order = postorder(p.row_scalars, lambda i: () if i.kind is Kind.REDUCE else i.args)
    return [partition.reductions[i] for i in order if i.kind is Kind.REDUCE and i not in partition.folded]


def barriers(partition: Partition, modes: dict[str, CarryMode]) -> tuple[bool, ...]:
    """For each phase, whether threads that own lanes wait before it (in the steady state of the loop)."""
    read: set[str] = set()
    written: set[str] = set()
    answer: list[bool] = []
    for step in range(STEPS):
        answer = []
        for p in partition.phases:
            across, writes = _accesses(partition, p, modes, step)
            wait = bool(across & written or writes & read)
            if wait:
                read.clear()
                written.clear()
            read |= across
            written |= writes
            answer.append(wait)
    return tuple(answer)


def _accesses(partition: Partition, p: Phase, modes: dict[str, CarryMode], step: int) -> tuple[set[str], set[str]]:
    """Buffers (with parity) that phase ``p`` reads across lanes, and that it writes."""

    def buffer(name: str, ahead: int) -> str:
        return f"{name}.{(step + ahead) % 2}" if modes.get(name) is CarryMode.DOUBLE else name

    across = {buffer(leaf.name, 0) for leaf in left_leaves(p)}
    for i in loads(partition, p):
        if i.leaf is not None and i.leaf.source in (Source.CARRY, Source.TEMPORARY):
            if p.fold or not _same_lanes(partition, i, i.leaf.name):
                across.add(buffer(i.leaf.name, 0))
    if p.fold:
        across |= {partition.spilled[i] for i in evaluated(partition.spilled, p) if i in partition.spilled}
        return across | {f"partial{k}" for k in reduced(partition, p)}, set()
    across |= {f"partial{k}" for k in reduced(partition, p)}
    writes = {buffer(s.dest, 1) for s in p.stores}
    writes |= {f"partial{partition.reductions[r]}" for r in p.reduces}
    return across, writes
