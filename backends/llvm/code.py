"""A compiled segment: addresses of native code, packed weights, and what it was made of. The same for all sizes."""

from __future__ import annotations

from dataclasses import dataclass, field

from rnngraph.backends.llvm.args import Slots
from rnngraph.backends.llvm.layout import Tiling
from rnngraph.ir import Array, Op, Value
from rnngraph.phases.memory import MemoryPlan
from rnngraph.phases.stages import Schedule


@dataclass(slots=True)
class StageCode:
    """A stage's native code: entry address, slots of its table, tilings, packed weights by slot name."""

    address: int
    slots: Slots
    tilings: dict[int, Tiling]
    weights: dict[str, Array]


@dataclass(slots=True)
class SegmentCode:
    """What a plan needs of a compiled segment; the same for all sizes."""

    schedule: Schedule
    memory: MemoryPlan
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    stages: list[StageCode]
    copies: dict[int, int]  # address of rg_copy, by the size of an element
    nests: dict[Op, int] = field(default_factory=dict)  # address of the code of each nest
    ends: dict[str, int] = field(default_factory=dict)  # address of rg_ends by the dtype of lengths


__all__ = ["SegmentCode", "StageCode"]
