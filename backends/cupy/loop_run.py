"""The launch of a scan that is one kernel."""

from __future__ import annotations

from functools import partial

import numpy as np

from rnngraph.backends.cupy.codegen.arguments import weights_field
from rnngraph.backends.cupy.codegen.persistent import LOOP, THREADS, loop_bytes
from rnngraph.backends.cupy.codegen.products import Products
from rnngraph.backends.cupy.machine import Module
from rnngraph.backends.cupy.stage_run import StageRun
from rnngraph.backends.cupy.values import Values
from rnngraph.phases.stages import Stage


class LoopRun(StageRun):
    """A stage as one launch for all steps."""

    def __init__(self, stage: Stage, module: Module, values: Values, products: Products) -> None:
        self.products = products
        super().__init__(stage, module, values)
        self.arrivals = values.device.xp.zeros(1, np.int32)
        self.pointer = np.int64(values.device.address(self.arrivals))

    def parts(self) -> int:
        return self.products.blocks

    def bind_products(self) -> None:
        for p, phase in enumerate(self.stage.partition.phases):
            for g, group in enumerate(phase.groups):
                self.memory(weights_field(p, g), self.values.constants.get(
                    (id(group), id(self.products)), partial(self.products.pack, group)))

    @property
    def launches(self) -> int:
        return len(self.before) + len(self.after) + 2

    def run(self) -> None:
        for action in self.before:
            action()
        self.device.clear(self.arrivals)
        if self.steps:
            self.module.launch(LOOP, (self.products.blocks, 1, 1), (THREADS, 1, 1), [self.args, self.pointer],
                               loop_bytes(self.stage, self.products), cooperative=True)
        for action in self.after:
            action()


__all__ = ["LoopRun"]
