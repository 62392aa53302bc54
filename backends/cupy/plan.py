"""A segment ready to run for given sizes: fixed memory, and the launches of a call in order.

Every value has an array of its own, or is a view of one. A call copies its inputs in, repeats the launches, and copies
its outputs out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from rnngraph.backends.cupy.codegen.products import Products
from rnngraph.backends.cupy.cudnn.run import CudnnRun
from rnngraph.backends.cupy.cudnn.variants import VARIANTS
from rnngraph.backends.cupy.loop_run import LoopRun
from rnngraph.backends.cupy.machine import Device, Module
from rnngraph.backends.cupy.stage_run import Action, StageRun
from rnngraph.backends.cupy.values import Values
from rnngraph.ir import BOOL, Array, Dims, Interpreter, Op, Value
from rnngraph.phases.stages import Schedule, Stage


class Plan:
    """One call at a time. ``on_host``: why its launches must be repeated by the host in each call, one sentence for
    each of them that needs it; a device may record the others' as one graph."""

    def __init__(self, schedule: Schedule, modules: Sequence[Module], products: Sequence[Products | None],
                 inputs: Sequence[Value], outputs: Sequence[Value], device: Device, dims: Dims) -> None:
        self.device = device
        self.values = Values(device, dims)
        self.interpreter = Interpreter(dims)
        self.inputs = [self.values.make(v) for v in inputs]
        self.actions: list[Action] = []
        self.on_host: list[str] = []
        self.calls: list[CudnnRun] = []
        remaining = iter(zip(modules, products, strict=True))
        for item in schedule.items:
            if isinstance(item, Stage):
                module, loop = next(remaining)
                made = LoopRun(item, module, self.values, loop) if loop else StageRun(item, module, self.values)
                self.actions.append(made.run)
            elif item.impl in VARIANTS:
                call = CudnnRun(item, self.values)
                self.calls.append(call)
                self.actions.append(call.run)
                self.on_host += [call.on_host] if call.on_host else []
            else:
                self.op(item)
        self.outputs = [(self.values.get(v), v.type.dtype) for v in outputs]
        self.again = device.record(self.work)

    def op(self, op: Op) -> None:
        """A view is made once; what is computed is computed in every call."""
        results = self.evaluate(op)
        sources = [self.values.get(v) for v in op.operands]
        if op.operands and all(any(np.may_share_memory(r, s) for s in sources) for r in results):
            for v, array in zip(op.results, results, strict=True):
                self.values.found[v] = array
            return
        targets = [self.values.make(v) for v in op.results]
        if op.operands:
            self.actions.append(partial(self.compute, op, targets))
        else:
            self.compute(op, targets)

    def evaluate(self, op: Op) -> list[Array]:
        for v in op.operands:
            self.interpreter.bind(v, self.values.get(v))
        self.interpreter.run_op(op)
        return [self.interpreter.env[v] for v in op.results]

    def compute(self, op: Op, targets: Sequence[Array]) -> None:
        for target, array in zip(targets, self.evaluate(op), strict=True):
            target[...] = array

    def work(self) -> None:
        """What a call does on the device."""
        for action in self.actions:
            action()

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Arrays in, new arrays out."""
        for own, given in zip(self.inputs, inputs, strict=True):
            own[...] = self.device.xp.asarray(given)
        self.again()
        return [a.astype(np.bool_) if dtype is BOOL else a.copy() for a, dtype in self.outputs]


__all__ = ["Plan"]
