"""The argument table of a stage: one i64 per slot, addresses in bytes and strides in floats, named."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.phases.instances import Piece
from rnngraph.phases.partition import Partition, Phase
from rnngraph.phases.stages import Stage

TIMED = ("x", "y")  # buffers that move with time have a stride for it


class Slots:
    """Names the slots of a stage's argument table. The order depends on the stage's structure alone, so that equal
    stages have equal code."""

    def __init__(self, stage: Stage) -> None:
        self.names: list[str] = ["t.first", "t.step", "rows"]
        outer = () if stage.is_scan else ("u",)  # rows of a rows stage have up to three strides
        self.names += [] if stage.is_scan else ["t.inner"]
        for name in (*stage.inputs, *stage.outputs):
            self.names += [name, *(f"{name}.{stride}" for stride in (*outer, "t", "r"))]
        for carry in stage.carries:
            self.names += [f"{carry.name}.0", f"{carry.name}.1", f"{carry.name}.r"]
        for name in stage.partition.temporaries:
            self.names += [name, *(() if stage.is_scan else (f"{name}.t",)), f"{name}.r"]
        for k in range(len(stage.partition.reductions)):
            self.names += [f"partial{k}"]
        if has_row_scalars(stage.partition):
            self.names += ["scalars", "scalars.part"]
        if stage.partition.reductions or has_row_scalars(stage.partition):
            self.names += ["row.capacity"]
        if stage.lengths is not None:
            self.names += ["lengths", "live"]
        for p, phase in enumerate(stage.partition.phases):
            self.names += [weight_slot(p, g, q) for g, group in enumerate(phase.groups)
                           for q in range(len(group.pieces))]
        self.names += shifts_of(stage)
        self.index = {name: k for k, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> int:
        return self.index[name]


def weight_slot(phase: int, group: int, piece: int) -> str:
    return f"w{phase}.{group}.{piece}"


def shift_slot(phase: int, group: int, piece: int) -> str:
    return f"s{phase}.{group}.{piece}"


def runs(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Neighbouring pieces that differ in their weights and the rows that they read alone, as (first, count): the taps
    of a convolution, which one loop accumulates."""
    found: list[tuple[int, int]] = []
    for k, piece in enumerate(pieces):
        first, count = found[-1] if found else (0, 0)
        if found and _alike(pieces[first], piece) and any(q.load.shift for q in (pieces[first], piece)):
            found[-1] = (first, count + 1)
        else:
            found.append((k, 1))
    return found


def _alike(a: Piece, b: Piece) -> bool:
    return a.load.leaf == b.load.leaf and (a.load.off, a.k) == (b.load.off, b.k)


def shifts_of(stage: Stage) -> dict[str, int]:
    """By slot: how many rows further a tap reads. The slots of a run stand side by side, as those of its weights do."""
    return {shift_slot(p, g, first + k): group.pieces[first + k].load.shift
            for p, phase in enumerate(stage.partition.phases) for g, group in enumerate(phase.groups)
            for first, count in runs(group.pieces) if count > 1 for k in range(count)}


def has_row_scalars(partition: Partition) -> bool:
    return any(p.row_scalars for p in partition.phases)


def most_row_scalars(partition: Partition) -> int:
    """How many numbers per row the widest row prologue keeps."""
    return max((len(p.row_scalars) for p in partition.phases), default=0)


__all__ = ["Phase", "Slots", "has_row_scalars", "most_row_scalars", "runs", "shift_slot", "shifts_of", "weight_slot"]
