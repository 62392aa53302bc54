"""A compiled segment on a GPU: modules of kernels, and a plan per size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from rnngraph.backends.cupy.codegen.persistent import blocks_for
from rnngraph.backends.cupy.codegen.stage import stage_source
from rnngraph.backends.cupy.machine import Device, Module
from rnngraph.backends.cupy.plan import Plan
from rnngraph.ir import Array, Dims, Value
from rnngraph.phases.stages import Schedule

LOOP_IMPL = "cupy.loop"  # the implementation of scans that are one kernel
MAX_SIZES = 16  # bindings of the symbols whose plans, with their memory, are kept


class GpuKernel:
    """Runs one segment. Reentrant: every call in progress has a plan of its own."""

    def __init__(self, schedule: Schedule, inputs: Sequence[Value], outputs: Sequence[Value], device: Device) -> None:
        self.schedule = schedule
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.device = device
        caps = device.caps
        self.blocks = [blocks_for(s, caps.sms, caps.shared) if s.impl == LOOP_IMPL else 0 for s in schedule.stages]
        self.sources = [stage_source(stage, n) for stage, n in zip(schedule.stages, self.blocks, strict=True)]
        built: dict[str, Module] = {}
        for source in self.sources:
            if source.text not in built:
                built[source.text] = device.build(source)
        self.modules = [built[source.text] for source in self.sources]
        self.plans: OrderedDict[tuple[tuple[str, int], ...], list[Plan]] = OrderedDict()
        self.lock = threading.Lock()

    def run(self, dims: Dims, inputs: Sequence[Array]) -> list[Array]:
        """Arrays in the segment's input order to arrays in its output order."""
        key = tuple(sorted(dims.items()))
        with self.lock:
            free = self.plans.get(key)
            plan = free.pop() if free else None
        if plan is None:
            plan = Plan(self.schedule, self.modules, self.blocks, self.inputs, self.outputs, self.device, dims)
        results = plan.run(inputs)
        with self.lock:
            self.plans.setdefault(key, []).append(plan)
            self.plans.move_to_end(key)
            while len(self.plans) > MAX_SIZES:
                self.plans.popitem(last=False)
        return results

    def artifacts(self) -> Mapping[str, str]:
        """The CUDA C of every stage, one file for stages with equal code."""
        out: dict[str, str] = {}
        for k, (stage, source) in enumerate(zip(self.schedule.stages, self.sources, strict=True)):
            if source.text not in out.values():
                out[f"{k}-{stage.name.replace('/', '.')}.cu"] = source.text
        return out


__all__ = ["GpuKernel"]
