"""Where the emission of a phase stands: the function's arguments, and the row and vector of a loop."""

from __future__ import annotations

from dataclasses import dataclass

from rnngraph.backends.llvm.vector import IRValue


@dataclass(slots=True)
class Step:
    """The arguments of a phase function, as IR values."""

    args: IRValue
    step: IRValue
    t: IRValue
    before: IRValue
    part: IRValue
    parts: IRValue
    row0: IRValue
    row1: IRValue
    live: IRValue = None  # of a stage with `Stage.until`: all rows from here on are done


@dataclass(slots=True)
class Place:
    """Where the epilogue stands: a row, the first lane of a vector, and the mask of its live lanes."""

    row: IRValue
    lane: IRValue
    vector: IRValue  # number of the vector within its domain
    mask: IRValue | None
    sums: list[IRValue]  # per group: address of this row's sums; the vector's offset is added per part
    inner: IRValue  # number of the vector within its tile
