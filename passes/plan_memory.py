"""plan-memory: decide where every value of a native segment lives, what is written in place and what is copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnngraph.errors import PassError
from rnngraph.ir import Graph, Op
from rnngraph.passes.schedule_phases import Schedules
from rnngraph.phases.memory import MemoryPlan, plan_memory
from rnngraph.phases.text import memory_text
from rnngraph.rewrite import Pass, PassContext
from rnngraph.runtime.segments import segment


@dataclass(frozen=True, slots=True)
class MemoryPlans:
    """The artefact: a memory plan per native segment, by the segment's first op."""

    by_op: dict[Op, MemoryPlan]

    def to_text(self) -> str:
        return "\n".join(memory_text(p) for p in self.by_op.values())


@dataclass(frozen=True)
class PlanMemory(Pass):
    """Place the values of scheduled segments. The graph itself does not change; needs schedule-phases before it."""

    name: ClassVar[str] = "plan-memory"

    def run(self, graph: Graph, context: PassContext) -> None:
        schedules = context.artifacts.get("schedule")
        if not isinstance(schedules, Schedules):
            raise PassError("plan-memory needs the schedule that schedule-phases makes; put it before plan-memory")
        plans: dict[Op, MemoryPlan] = {}
        for s in segment(graph):
            if s.ops[0] in schedules.by_op:
                plans[s.ops[0]] = plan_memory(schedules.by_op[s.ops[0]], s.inputs, s.outputs)
        context.artifacts["memory"] = MemoryPlans(plans)
