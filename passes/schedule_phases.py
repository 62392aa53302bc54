"""schedule-phases: turn every segment chosen for native code into stages and phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnngraph.errors import CompileError
from rnngraph.ir import Graph, Op
from rnngraph.phases.lanes import Unsupported
from rnngraph.phases.stages import ERRORS, Schedule, build_schedule
from rnngraph.phases.text import schedule_text
from rnngraph.rewrite import Pass, PassContext
from rnngraph.runtime.segments import segment

GENERATING = ("llvm", "cupy")  # backends that run phases


@dataclass(frozen=True, slots=True)
class Schedules:
    """The artefact: a schedule per native segment, by the segment's first op."""

    by_op: dict[Op, Schedule]

    def to_text(self) -> str:
        return "\n".join(schedule_text(s) for s in self.by_op.values())


@dataclass(frozen=True)
class SchedulePhases(Pass):
    """Partition the bodies of native loops into phases. The graph itself does not change."""

    name: ClassVar[str] = "schedule-phases"

    def run(self, graph: Graph, context: PassContext) -> None:
        found: dict[Op, Schedule] = {}
        for s in segment(graph):
            if s.backend not in GENERATING:
                continue
            try:
                found[s.ops[0]] = build_schedule(s.ops, s.outputs)
            except Unsupported as e:
                raise CompileError(f"schedule-phases: {e}") from e
        context.artifacts["schedule"] = Schedules(found)
        for schedule in found.values():
            for stage in schedule.stages:
                phases = len(stage.partition.phases)
                what = "a step is" if stage.is_scan else "all steps at once:"
                context.note(stage.name, f"{what} {phases} phase{'s' if phases > 1 else ''}, "
                                         f"{sum(stage.waits)} barrier(s) when lanes are shared")
                if stage.precision in ERRORS and any(p.groups for p in stage.partition.phases):
                    what = "each weight" if stage.impl.startswith("llvm.") else "each factor"
                    context.note(stage.name, f"products in {stage.precision}: {what} is rounded, by up to "
                                             f"{ERRORS[stage.precision]:.2g} of it; sums and states are f32")
