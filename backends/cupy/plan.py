"""A segment ready to run for given sizes: fixed memory, and the launches of a call in order.

Every value has an array of its own, or is a view of one. A call copies its inputs in, repeats the launches, and copies
its outputs out. Launches that always have the same arguments stand together as one recording (a CUDA graph); between
them is what looks at values on the host, what CuPy moves in memory of its own, and what numpy computes on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from rnngraph.backends.cupy.chain_run import ChainLink, ChainRun
from rnngraph.backends.cupy.codegen.chain import Chain
from rnngraph.backends.cupy.codegen.products import Products
from rnngraph.backends.cupy.cudnn.run import CudnnRun
from rnngraph.backends.cupy.cudnn.variants import VARIANTS
from rnngraph.backends.cupy.interpreted import HOST, HOST_LOOP, DeviceInterpreter
from rnngraph.backends.cupy.loop_run import LoopRun
from rnngraph.backends.cupy.machine import Device, Module
from rnngraph.backends.cupy.stage_run import StageRun
from rnngraph.backends.cupy.values import Constants, Values, held, host
from rnngraph.errors import CompileError, DeviceError
from rnngraph.ir import BOOL, Array, Dims, Interpreter, Op, Value
from rnngraph.phases.stages import Schedule, Stage

Work = tuple[Module, Products | None, tuple[Chain, int] | None]  # of a stage: see `GpuKernel`
CHECKED = "computed lengths are checked on the host"


@dataclass(frozen=True, slots=True)
class Action:
    """A part of a call. ``why``: what keeps it out of a recording; empty for launches whose arguments stay."""

    name: str
    run: Callable[[], None]
    launches: int = 0
    why: str = ""


class Plan:
    """One call at a time."""

    def __init__(self, schedule: Schedule, work: Sequence[Work], inputs: Sequence[Value], outputs: Sequence[Value],
                 device: Device, dims: Dims, constants: Constants) -> None:
        self.device = device
        self.values = Values(device, dims, constants)
        self.interpreter = DeviceInterpreter(device, dims)
        self.actions: list[Action] = []
        self.calls: list[CudnnRun] = []
        self.now = ""  # the action that runs
        self.chain: ChainRun | None = None  # the launch that the next stage of the chain may still join
        self.place = 0  # of its action
        with device.building():
            self.inputs = [self.values.make(v) for v in inputs]
            remaining = iter(work)
            for item in schedule.items:
                with self.doing(item.name if isinstance(item, Stage) else named(item)):
                    self.item(item, remaining)
            self.outputs = [(self.values.get(v), v.type.dtype) for v in outputs]
            self.parts = list(self.recorded())

    def item(self, item: Stage | Op, remaining: Iterator[Work]) -> None:
        if isinstance(item, Stage):
            self.stage(item, *next(remaining))
        elif item.impl in VARIANTS:
            self.network(item)
        elif item.impl in (HOST, HOST_LOOP):
            self.there(item)
        else:
            self.op(item)

    def network(self, op: Op) -> None:
        call = CudnnRun(op, self.values)
        self.calls.append(call)
        self.add(Action(named(op), call.run, len(call.work) * call.steps, call.on_host))

    def stage(self, stage: Stage, module: Module, loop: Products | None, link: tuple[Chain, int] | None) -> None:
        if link is not None and loop is not None:
            self.link(stage, module, loop, *link)
            return
        made = LoopRun(stage, module, self.values, loop) if loop else StageRun(stage, module, self.values)
        for check in made.checks:
            self.add(Action(stage.name, check, why=CHECKED))
        self.add(Action(stage.name, made.run, made.launches))

    def link(self, stage: Stage, module: Module, products: Products, chain: Chain, k: int) -> None:
        """A stage of a chain: it joins the launch of the stages in front of it, when what must be done before it can be
        done before them."""
        made = ChainLink(stage, module, self.values, products)
        for work, launches, why in (*((c, 0, CHECKED) for c in made.checks), *((c, 1, "") for c in made.before)):
            reads = list(work.args[-1:]) if isinstance(work, partial) else None
            self.add(Action(stage.name, work, launches, why), reads)
        if self.chain is None or self.chain.chain is not chain:
            launch = ChainRun(chain, module, self.values, k)
            self.add(Action(stage.name, launch.run, 1))
            self.chain, self.place = launch, len(self.actions) - 1
        self.chain.take(made)

    def add(self, action: Action, reads: Sequence[Array] | None = None) -> None:
        """The next part of a call; in front of an open launch when that writes nothing of what it reads (None: it may
        read anything)."""
        if self.chain is not None and reads is not None and not self.chain.writes(reads):
            self.actions.insert(self.place, action)
            self.place += 1
        else:
            self.chain = None
            self.actions.append(action)

    def op(self, op: Op) -> None:
        """A view is made once; what is computed is computed in every call, on the device."""
        if op.blocks:
            targets = [self.values.make(v) for v in op.results]
            why = f"{op.name} is computed by CuPy op by op"
            self.add(Action(named(op), partial(self.compute, op, targets), why=why))
            return
        results = self.evaluate(op)
        sources = [self.values.get(v) for v in op.operands]
        if op.operands and all(any(shares(r, s) for s in sources) for r in results):
            for v, array in zip(op.results, results, strict=True):
                self.values.found[v] = array
            return
        targets = [self.values.make(v) for v in op.results]
        if op.operands:
            why = f"{op.name} is computed by CuPy, in memory of its own"
            self.add(Action(named(op), partial(self.compute, op, targets), why=why), sources)
        else:
            self.compute(op, targets)

    def evaluate(self, op: Op) -> list[Array]:
        for v in read_by(op):
            self.interpreter.bind(v, self.values.get(v))
        with np.errstate(all="ignore"):  # NaN and inf are values here, not accidents
            self.interpreter.run_op(op)
        return [self.interpreter.env[v] for v in op.results]

    def compute(self, op: Op, targets: Sequence[Array]) -> None:
        for target, array in zip(targets, self.evaluate(op), strict=True):
            self.device.copy(target, array)

    def there(self, op: Op) -> None:
        """An op that numpy computes on the host."""
        targets = [self.values.make(v) for v in op.results]
        if op.operands or op.blocks:
            why = f"{op.name} is computed by numpy on the host"
            self.add(Action(named(op), partial(self.compute_there, op, targets), why=why),
                     None if op.blocks else [self.values.get(v) for v in op.operands])
        else:
            self.compute_there(op, targets)

    def compute_there(self, op: Op, targets: Sequence[Array]) -> None:
        """On the host; values are there and back again as the op has them."""
        interpreter = Interpreter(self.values.dims)
        for v in read_by(op):
            interpreter.bind(v, self.brought(v))
        with np.errstate(all="ignore"):
            interpreter.run_op(op)
        for v, target in zip(op.results, targets, strict=True):
            self.device.copy(target, held(interpreter.env[v]))

    def brought(self, v: Value) -> Array:
        array = host(self.device, self.values.get(v))
        return array != 0 if v.type.dtype is BOOL else array

    @property
    def on_host(self) -> list[str]:
        """Why parts of a call are no recordings, a sentence each."""
        return [a.why for a in self.actions if a.why]

    # --- a call -----------------------------------------------------------------------------------------------------

    def recorded(self) -> Iterator[tuple[Callable[[], None], str]]:
        """What a call does, and what it is called: neighbours that can be are recorded together."""
        for why, group in groupby(self.actions, lambda a: a.why):
            actions = list(group)
            if why:
                for a in actions:
                    yield partial(self.work, [a]), f"{a.name}: launched one by one: {why}"
            else:
                launches = sum(a.launches for a in actions)
                yield (self.device.record(partial(self.work, actions), launches),
                       f"{', '.join(dict.fromkeys(a.name for a in actions))}: about {launches} launches")

    def work(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self.now = action.name
            action.run()

    def run(self, inputs: Sequence[Array], *, on_host: bool = False) -> list[Array]:
        """Arrays of the device or the host in, new arrays of the device out; with ``on_host`` new arrays of the
        host."""
        device = self.device
        results = [] if on_host else [device.empty(a.shape, dtype.numpy) for a, dtype in self.outputs]
        with self.doing("its inputs"), device.calling():
            for own, given in zip(self.inputs, inputs, strict=True):
                device.copy(own, given)
            for part, _ in self.parts:
                part()
            self.now = "its outputs"
            for result, (array, _) in zip(results, self.outputs, strict=False):
                device.copy(result, array)
            if on_host:
                results = [device.fetch(a) for a, _ in self.outputs]
        if on_host or any(isinstance(given, np.ndarray) for given in inputs):  # which the caller may write to again
            with self.doing("its outputs"):
                device.finish()
        if on_host:
            results = [a.astype(np.bool_) if dtype is BOOL else a
                       for a, (_, dtype) in zip(results, self.outputs, strict=True)]
        return results

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Failures of the GPU say in which part."""
        self.now = what
        try:
            yield
        except DeviceError as e:
            raise type(e)(f"layer {self.now!r}: {e}") from e
        except CompileError as e:
            raise CompileError(f"layer {self.now!r}: {e}") from e

    def __str__(self) -> str:
        lines = [f"{name}: {part}" if not isinstance(part, partial) else name for part, name in self.parts]
        return "\n".join(lines)


def read_by(op: Op) -> list[Value]:
    """What an op reads, its blocks included."""
    return list(dict.fromkeys([*op.operands, *(v for block in op.blocks for v in block.captures())]))


def named(op: Op) -> str:
    """An op in messages."""
    return f"{op.layer}/{op.name}" if op.layer else op.name


def shares(result: Any, source: Any) -> bool:
    """Whether ``result`` is a view of ``source``: not of what an op has made on the host."""
    return type(result) is type(source) and bool(np.may_share_memory(result, source))


__all__ = ["Action", "Plan"]
