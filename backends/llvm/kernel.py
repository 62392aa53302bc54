"""A compiled segment: native code from the object cache, plans per size, calls through the thread pool."""

from __future__ import annotations

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np

from rnngraph.backends.llvm import cache, jit
from rnngraph.backends.llvm import copy as copying
from rnngraph.backends.llvm.args import Slots, weight_slot
from rnngraph.backends.llvm.code import SegmentCode, StageCode
from rnngraph.backends.llvm.cost import machine
from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.ends_code import ENTRY as ENDS_ENTRY
from rnngraph.backends.llvm.ends_code import emit_ends
from rnngraph.backends.llvm.hot import HotCall, is_hot
from rnngraph.backends.llvm.layout import pack, tilings
from rnngraph.backends.llvm.microkernel import library
from rnngraph.backends.llvm.nest import ENTRY as NEST_ENTRY
from rnngraph.backends.llvm.nest import emit_nest, nest_signature
from rnngraph.backends.llvm.pace import Pace
from rnngraph.backends.llvm.plan import NOTHING, Plan, PlanKey, plan_key
from rnngraph.backends.llvm.pool import Pool, available_cores, run_alone, runtime_object
from rnngraph.backends.llvm.signature import generator_version, signature
from rnngraph.backends.llvm.stage import ENTRY, emit_stage
from rnngraph.ir import BOOL, F32, I32, Array, Dims, DType, Op, Value
from rnngraph.phases.memory import MemoryPlan
from rnngraph.phases.stages import Schedule, is_nest

MAX_SIZES = 32  # bindings of the symbols whose plans are kept,
MAX_BYTES = 256 << 20  # while their buffers together are not larger than this


class NativeKernel:
    """Runs one segment. Reentrant: every call in progress has a plan (buffers and tables) of its own."""

    def __init__(self, schedule: Schedule, memory: MemoryPlan, inputs: Sequence[Value], outputs: Sequence[Value],
                 target: CpuTarget, threads: int) -> None:
        self.target = target
        self.threads = threads
        self.libraries: dict[str, jit.Library] = {}
        stages = []
        for stage in schedule.stages:
            cut = tilings(stage.partition, target.width)
            weights = {weight_slot(p, g, q): pack(group, q, cut[phase.n], stage.precision)
                       for p, phase in enumerate(stage.partition.phases)
                       for g, group in enumerate(phase.groups) for q in range(len(group.pieces))}
            entry = self.link(signature(stage), functools.partial(emit_stage, stage, target), ENTRY, stage.precision)
            stages.append(StageCode(entry, Slots(stage), cut, weights))
        copies = {size: self.link(f"copy {size} {generator_version()}",
                                  functools.partial(copying.emit_copy, target, size), copying.entry(size))
                  for size in itemsizes(schedule)}
        nests = {op: self.link(f"nest {nest_signature(op)} {generator_version()}",
                               functools.partial(emit_nest, op, target), NEST_ENTRY)
                 for op in schedule.items if isinstance(op, Op) and is_nest(op)}
        lengths = {v.type.dtype for s in schedule.stages if (v := s.lengths) is not None and v not in inputs}
        ends = {d.name: self.link(f"ends {d} {generator_version()}",
                                  functools.partial(emit_ends, target, d), ENDS_ENTRY)
                for d in lengths}
        self.code = SegmentCode(schedule, memory, tuple(inputs), tuple(outputs), stages, copies, nests, ends)
        self.others = any(v.type.dtype is not F32 for v in outputs)
        self.machine = machine(target)
        self.plans: OrderedDict[PlanKey, list[Plan]] = OrderedDict()
        self.paces: dict[PlanKey, Pace] = {}
        self.lock = threading.Lock()
        self.pool = shared_pool(threads) if threads > 1 else None

    def link(self, key: str, emit: Callable[[], str], entry: str, kept: str = "f32") -> int:
        """Map a module's object, from the cache or compiled now; equal modules are mapped once."""
        if key not in self.libraries:
            objects = [cache.built_object(key, emit, self.target), library(self.target, kept),
                       runtime_object(self.target)]
            self.libraries[key] = jit.Library(objects, [entry])
        return self.libraries[key].address(entry)

    def run(self, dims: Dims, inputs: Sequence[Array]) -> list[Array]:
        """Arrays in the segment's input order to arrays in its output order."""
        return self.run_into(dims, inputs, ())

    def run_into(self, dims: Dims, inputs: Sequence[Array], outputs: Sequence[Array | None],
                 addresses: Mapping[int, int] = NOTHING) -> list[Array]:
        """As `run`; where ``outputs`` holds an array (C-contiguous, of the output's type, no input's memory), that
        output is written there. ``addresses``: those of some arrays, by `id`."""
        arrays = [_plain(a) for a in inputs]
        pace = self.pace(dims)
        pool = self.pool if self.pool is not None and pace.share() and self.pool.try_acquire() else None
        shared = False
        try:
            plan = self.take(dims, self.threads if pool is not None else 1)
            results = plan.bind(arrays, outputs, addresses)
            start = time.perf_counter()
            if pool is not None and plan.job.participants > 1:
                pool.run(plan.job)
                shared = True
        finally:
            if pool is not None:
                pool.release()
        if not shared:
            run_alone(plan.job)
        if self.pool is not None:
            pace.took(time.perf_counter() - start, shared=shared)
        if plan.nests.checked:
            plan.nests.check()
        self.give(plan)
        if not self.others:
            return results
        return [_delivered(a, v.type.dtype) for v, a in zip(self.code.outputs, results, strict=True)]

    def pace(self, dims: Dims) -> Pace:
        """What is known of calls with these sizes."""
        key = plan_key(dims, self.threads)
        found = self.paces.get(key)
        if found is None:
            if len(self.paces) >= MAX_SIZES:
                self.paces.clear()
            found = self.paces[key] = Pace()
        return found

    def take(self, dims: Dims, threads: int) -> Plan:
        """A free plan for these sizes, or a new one."""
        key = plan_key(dims, threads)
        with self.lock:
            free = self.plans.get(key)
            if free is not None:
                self.plans.move_to_end(key)
                with suppress(IndexError):  # hot calls take plans without the lock
                    return free.pop()
        return Plan(self.code, dims, threads, self.machine)

    def give(self, plan: Plan) -> None:
        with self.lock:
            self.plans.setdefault(plan.key, []).append(plan)
            self.plans.move_to_end(plan.key)
            while len(self.plans) > MAX_SIZES or (len(self.plans) > 1 and self.kept_bytes() > MAX_BYTES):
                self.plans.popitem(last=False)[1].clear()  # a hot call that holds the list finds it empty

    def hot(self, dims: Dims) -> HotCall | None:
        """What repeats calls with these sizes, after one; None where it takes more than their arrays' places."""
        with self.lock:
            free = self.plans.get(plan_key(dims, self.threads))
            waiting = list(free or ())  # hot calls take plans without the lock
            if free is None or not waiting or not is_hot(waiting[-1]):
                return None
            return HotCall(free, waiting[-1], self.pool, self.pace(dims))

    def kept_bytes(self) -> int:
        """What the buffers of the plans that wait for a call take."""
        return sum(p.arrays.bytes for free in self.plans.values() for p in free)

    def artifacts(self) -> Mapping[str, str]:
        """The LLVM IR and the assembly of every stage, one file for stages with equal code."""
        out: dict[str, str] = {}
        seen: set[str] = set()
        for k, stage in enumerate(self.code.schedule.stages):
            text = emit_stage(stage, self.target)
            if text in seen:
                continue
            seen.add(text)
            stem = f"{k}-{stage.name.replace('/', '.')}"
            out[f"{stem}.ll"] = text
            out[f"{stem}.s"] = jit.emit_assembly(text, self.target)
        return out


def itemsizes(schedule: Schedule) -> list[int]:
    """The sizes of the elements that a segment may copy. Bool is held as float."""
    dtypes = {v.type.dtype for i in schedule.items if isinstance(i, Op) for v in (*i.operands, *i.results)}
    return sorted({4} | {d.numpy.itemsize for d in dtypes if d is not BOOL})


def _delivered(array: Array, dtype: DType) -> Array:
    """An output as its type says: memory holds bool as 0.0 and 1.0, i32 by its bits."""
    if dtype is BOOL:
        return array.astype(np.bool_)
    return array.view(np.int32) if dtype is I32 and array.dtype != np.int32 else array


def _plain(array: Array) -> Array:
    """C-contiguous, aligned, native byte order; float32 or an integer."""
    dtype = array.dtype.newbyteorder("=")
    if array.dtype.isnative and array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.require(array, dtype, ["C", "A"])


@functools.cache
def shared_pool(threads: int) -> Pool:
    """The process's pool of that many threads: kernels take turns, a busy pool means one thread."""
    return Pool(threads)


def default_threads() -> int:
    """The cores that this process may use."""
    return available_cores()
