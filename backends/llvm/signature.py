"""What decides a stage's code, as text: the key under which its object is cached.

Emitting LLVM IR takes longer than linking a cached object, so the key is taken from the stage and not from the IR.
The generator's own source is part of the key: changed code never meets old objects.
"""

from __future__ import annotations

from pathlib import Path

from rnngraph.backends.cache import sources_digest
from rnngraph.backends.llvm.args import Slots
from rnngraph.phases.instances import Instance, Kind, walk
from rnngraph.phases.partition import Phase
from rnngraph.phases.stages import Stage

HERE = Path(__file__).parent


def generator_version() -> str:
    """A digest of the code generator's sources."""
    return sources_digest(HERE)


def signature(stage: Stage) -> str:
    """Equal for stages whose code is equal: structure, extents and offsets; no sizes of symbols, weights or names."""
    parts = stage.partition
    roots = [s.instance for p in parts.phases for s in p.stores] + [r for p in parts.phases for r in p.reduces]
    roots += [row for p in parts.phases for row in p.row_scalars]
    number: dict[Instance, int] = {}
    lines = [f"generator {generator_version()}", f"slots {' '.join(Slots(stage).names)}",
             f"scan {stage.is_scan} lengths {stage.lengths is not None} pad {stage.pad} waits {stage.waits} "
             f"until {stage.until} products {stage.precision}",
             "carries " + " ".join(f"{c.name}:{c.n}:{c.mode.value}" for c in stage.carries)]
    for i in walk(roots):
        for q in i.pieces:
            if q.load not in number:
                number[q.load] = len(number)
                lines.append(_instance(number, q.load, parts.spilled.get(q.load, "")))
        if i not in number:
            number[i] = len(number)
            lines.append(_instance(number, i, parts.spilled.get(i, "")))
    lines += [f"reduction {number[r]} {k}" for r, k in parts.reductions.items()]
    lines += [_phase(number, p) for p in parts.phases]
    return "\n".join(lines)


def _instance(number: dict[Instance, int], i: Instance, spilled: str) -> str:
    what = i.op.name if i.kind in (Kind.ELEMENTWISE, Kind.REDUCE) else ""
    what += f" {i.value.type.dtype}"
    leaf = f"{i.leaf.source.value}:{i.leaf.name}" if i.leaf is not None else ""
    args = " ".join(str(number[a]) for a in i.args)
    pieces = " ".join(f"{number[q.load]}*{q.k}" for q in i.pieces)
    return (f"{number[i]} {i.kind.value} {what} {i.off} {i.n} {i.level} {i.shift} {i.number!r} [{args}] [{pieces}] "
            f"{leaf} {spilled}")


def _phase(number: dict[Instance, int], p: Phase) -> str:
    stores = " ".join(f"{s.dest}+{s.pos}={number[s.instance]}" for s in p.stores)
    groups = " ".join("(" + " ".join(str(number[m]) for m in g.parts) + ")" for g in p.groups)
    reduces = " ".join(str(number[r]) for r in p.reduces)
    rows = " ".join(str(number[r]) for r in p.row_scalars)
    return f"phase {p.level} {p.n} fold {p.fold} stores {stores} groups {groups} reduces {reduces} rows {rows}"
