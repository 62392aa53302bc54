"""What the machine can do at best: multiply-adds in registers, and weights read from each level of the cache."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.probe import FmaProbe
from benchmarks.workloads import Workload
from rnngraph.backends.llvm.cpu import host_target
from rnngraph.backends.llvm.jit import Library
from rnngraph.backends.llvm.layout import aligned
from rnngraph.backends.llvm.microkernel import library, pair_name
from rnngraph.backends.llvm.pool import Job, records, run_alone

NEAR = 1.7e6  # bytes of weights of a thread that are read at the speed of the second level
SIZES = {"near": 256 << 10, "far": 8 << 20, "memory": 256 << 20}
LAST_LEVEL = 24e6  # bytes of weights that stay in the third level


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one core: flops a second, and bytes a second from the second and third level and from memory."""

    flops: float
    near: float
    far: float
    memory: float

    def seconds(self, load: Workload, threads: int) -> float:
        """The least time of a call in f32 on ``threads`` cores: the multiply-adds at their peak, or the recurrent
        weights read once a step, and those of the projections once, each thread its share; whichever takes longer."""
        return max(load.flops / (self.flops * threads), self._reading(load, threads))

    def _reading(self, load: Workload, threads: int) -> float:
        step = load.stream
        share = step / threads
        near = min(share, NEAR)
        beyond = self.far if step <= LAST_LEVEL else self.memory
        each = near / self.near + (share - near) / beyond
        once = load.projections / threads / (self.far if load.projections + step <= LAST_LEVEL else self.memory)
        return load.steps * each + once


def measure(probe: FmaProbe) -> Limits:
    """Run the loops: about a second."""
    return Limits(probe.gflops() * 1e9, **{name: _bandwidth(size) for name, size in SIZES.items()})


def _bandwidth(size: int) -> float:
    """Bytes a second of one core that streams ``size`` bytes by the microkernel of one row, again and again."""
    target = host_target()
    vectors = 4
    lanes = vectors * target.width
    k = size // 2 // (4 * lanes)
    weights, left, acc = aligned((2, k, lanes)), aligned((k,)), aligned((2, lanes))
    symbol = pair_name(vectors)
    code = Library([library(target)], [symbol])
    call = (code.address(symbol), acc[0].ctypes.data, acc[1].ctypes.data, left.ctypes.data, weights[0].ctypes.data,
            weights[1].ctypes.data, k, 0)
    turns = max(2, (64 << 20) // size)
    job = Job([records([call] * turns)])
    run_alone(job)
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        run_alone(job)
        best = min(best, time.perf_counter() - start)
    return turns * weights.nbytes / best


__all__ = ["Limits", "measure"]
