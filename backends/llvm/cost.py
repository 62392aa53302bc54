"""How long a stage takes, by counting: what the planner goes by to choose threads and ownership."""

from __future__ import annotations

from dataclasses import dataclass

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.layout import WEIGHT_BYTES
from rnngraph.ir import Dims, resolve
from rnngraph.phases.instances import Kind
from rnngraph.phases.partition import Partition
from rnngraph.phases.stages import Stage

BARRIER = 0.35e-6  # seconds that threads lose at a meeting point within a step
LAUNCH = 5e-6  # seconds to wake and join workers that still spin
TRANSCENDENTAL = 24.0  # flops that one tanh, exp or sigmoid counts for


@dataclass(frozen=True, slots=True)
class Machine:
    """Rates of one core: flops/s of the microkernel, and bytes/s of weights by the cache that they fit."""

    flops: float
    near: float = 75e9  # while a thread's weights fit its own cache
    far: float = 30e9
    cache: float = 400e3

    def stream(self, size: float) -> float:
        """Seconds to read ``size`` bytes of weights once per step."""
        near = min(size, self.cache)
        return near / self.near + (size - near) / self.far


def machine(target: CpuTarget) -> Machine:
    """Defaults by vector width; a core sustains about 2.5 GHz x 2 FMAs."""
    return Machine(flops=5e9 * target.width * (1.7 if target.has_fma else 0.9))


@dataclass(frozen=True, slots=True)
class Work:
    """What one row of one step costs, and the weights that every step streams."""

    flops: float
    weights: float
    waits: int


def work_of(stage: Stage) -> Work:
    """Count a stage's flops per row, bytes of weights, and barriers per step."""
    return Work(_flops(stage.partition), _weights(stage.partition, stage.precision), sum(stage.waits))


def _flops(partition: Partition) -> float:
    total = 0.0
    for p in partition.phases:
        seen = set()
        todo = [s.instance for s in p.stores] + [r.args[0] for r in p.reduces]
        while todo:
            i = todo.pop()
            if i in seen:
                continue
            seen.add(i)
            todo += i.args
            if i.kind is Kind.ELEMENTWISE:
                total += p.n * (TRANSCENDENTAL if "transcendental" in i.op.opdef.tags else 1.0)
        total += sum(2.0 * g.k * len(g.parts) * p.n for g in p.groups)
    return total


def _weights(partition: Partition, kept: str) -> float:
    return sum(WEIGHT_BYTES[kept] * g.k * len(g.parts) * p.n for p in partition.phases for g in p.groups)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that a stage runs with: rows and steps."""

    rows: int
    steps: int


def sizes_of(stage: Stage, dims: Dims) -> Sizes:
    rows = 1
    for d in resolve(stage.rows, dims):
        rows *= d
    steps = resolve((stage.steps,), dims)[0] if stage.steps is not None else 1
    return Sizes(rows, steps)


def seconds(stage: Stage, dims: Dims, m: Machine, *, lanes: int = 1, rows: int = 1) -> float:
    """Estimated time of a stage on ``lanes`` threads that share lanes, or ``rows`` threads that share rows."""
    w, s = work_of(stage), sizes_of(stage, dims)
    image = stage.shifts.image if stage.is_scan else 1  # rows that a thread owns together
    per_thread = -(-(s.rows // image) // rows) * image if image else s.rows
    compute = per_thread * w.flops / lanes / m.flops
    passes = -(-per_thread // 32)
    stream = m.stream(w.weights / lanes) * passes
    step = max(compute, stream) + (BARRIER * w.waits if lanes > 1 else 0.0)
    return s.steps * step
