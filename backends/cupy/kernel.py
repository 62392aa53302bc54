"""A compiled segment on a GPU: modules of kernels, and a plan per size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from rnngraph.backends.cupy.codegen.chain import Chain, chains
from rnngraph.backends.cupy.codegen.persistent import PRODUCTS, arranged
from rnngraph.backends.cupy.codegen.products import Products
from rnngraph.backends.cupy.codegen.stage import stage_source
from rnngraph.backends.cupy.machine import Device, Module
from rnngraph.backends.cupy.plan import Plan
from rnngraph.backends.cupy.values import Constants
from rnngraph.errors import CompileError, DeviceMemoryError, ImplementationError
from rnngraph.ir import Array, Dims, Value
from rnngraph.phases.stages import Schedule, Stage

ROWS_IMPL = "cupy.rows"
MAX_SIZES = 16  # bindings of the symbols whose plans, with their memory, are kept


class GpuKernel:
    """Runs one segment. Reentrant: every call in progress has a plan of its own."""

    def __init__(self, schedule: Schedule, inputs: Sequence[Value], outputs: Sequence[Value], device: Device) -> None:
        self.schedule = schedule
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.device = device
        caps = device.caps
        self.links: list[tuple[Chain, int] | None] = self.chained(chains(schedule, caps.sms, caps.shared))
        self.products = [link[0].products[link[1]] if link else self.arrange(stage)
                         for stage, link in zip(schedule.stages, self.links, strict=True)]
        self.sources = [link[0].source if link else stage_source(stage, made)
                        for stage, made, link in zip(schedule.stages, self.products, self.links, strict=True)]
        built: dict[str, Module] = {}
        for stage, source in zip(schedule.stages, self.sources, strict=True):
            if source.text not in built:
                try:
                    built[source.text] = device.build(source)
                except CompileError as e:
                    raise ImplementationError(str(e), stage.impl or ROWS_IMPL,
                                              stage.name if stage.is_scan else "") from e
        self.modules = [built[source.text] for source in self.sources]
        self.constants = Constants(device)
        self.plans: OrderedDict[tuple[tuple[str, int], ...], list[Plan]] = OrderedDict()
        self.lock = threading.Lock()

    def chained(self, found: Sequence[Chain]) -> list[tuple[Chain, int] | None]:
        """The chain of every stage, and its place there."""
        places = {id(s): (chain, k) for chain in found for k, s in enumerate(chain.stages)}
        return [places.get(id(s)) for s in self.schedule.stages]

    def arrange(self, stage: Stage) -> Products | None:
        """The products of a loop in one kernel; ImplementationError when they do not fit."""
        if stage.impl not in PRODUCTS:
            return None
        caps = self.device.caps
        made = arranged(stage, stage.impl, caps.sms, caps.shared)
        if made is None:
            raise ImplementationError(f"cupy: layer {stage.name!r}: the products of {stage.impl} do not fit the "
                                      f"{caps.shared >> 10} KiB of shared memory of a block of {caps.name}",
                                      stage.impl, stage.name)
        return made

    @property
    def place(self) -> Any:
        """Where its arrays lie (`rnngraph.runtime.placed.Place`); None for the host's memory."""
        return self.device.place

    def run(self, dims: Dims, inputs: Sequence[Array]) -> list[Array]:
        """Arrays of the host or the device in the segment's input order to arrays of the host in its output order."""
        return self.call(dims, inputs, on_host=True)

    def run_there(self, dims: Dims, inputs: Sequence[Array]) -> list[Array]:
        """As `run`, to arrays of the device."""
        return self.call(dims, inputs, on_host=False)

    def call(self, dims: Dims, inputs: Sequence[Array], *, on_host: bool) -> list[Array]:
        try:
            return self.call_once(dims, inputs, on_host=on_host)
        except DeviceMemoryError:
            with self.lock:
                waiting = bool(self.plans)
                self.plans.clear()  # other sizes give their memory back
            if not waiting:
                raise
        return self.call_once(dims, inputs, on_host=on_host)

    def call_once(self, dims: Dims, inputs: Sequence[Array], *, on_host: bool) -> list[Array]:
        key = tuple(sorted(dims.items()))
        with self.lock:
            free = self.plans.get(key)
            plan = free.pop() if free else None
        if plan is None:
            work = list(zip(self.modules, self.products, self.links, strict=True))
            plan = Plan(self.schedule, work, self.inputs, self.outputs, self.device, dims,
                        self.constants)
        results = plan.run(inputs, on_host=on_host)
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
        with self.lock:
            plans = [(key, str(free[0])) for key, free in self.plans.items() if free]
        if plans:
            out["launches.txt"] = "".join(f"{dict(key)}\n{text}\n\n" for key, text in plans)
        return out


__all__ = ["GpuKernel"]
