"""How fast the machine is right now: an FMA loop that stays in L1. Cores of a shared machine change speed by 2x."""

from __future__ import annotations

import time

from rnngraph.backends.llvm.cpu import host_target
from rnngraph.backends.llvm.jit import Library
from rnngraph.backends.llvm.layout import aligned
from rnngraph.backends.llvm.microkernel import library, name, row_variants
from rnngraph.backends.llvm.pool import Job, records, run_alone

K = 64
CALLS = 400


class FmaProbe:
    """`gflops()` runs the largest microkernel on data in L1 for a fraction of a millisecond, on the calling thread."""

    def __init__(self) -> None:
        self.target = host_target()
        self.rows, self.vectors = row_variants(4, self.target)[-1], 4
        symbol = name(self.rows, self.vectors)
        self.library = Library([library(self.target)], [symbol])
        width = self.target.width
        self.acc = aligned((self.rows, self.vectors * width))
        self.left = aligned((self.rows, K))
        self.weights = aligned((K, self.vectors * width))

        # The microkernel's seven arguments have the form of a record's, so a job can call it many times over.
        call = (self.library.address(symbol), self.acc.ctypes.data, width * self.vectors, self.left.ctypes.data, K,
                self.weights.ctypes.data, K, 0)
        self.job = Job([records([call] * CALLS)])

    def gflops(self) -> float:
        """The best of a few short bursts."""
        best = 1e9
        for _ in range(3):
            start = time.perf_counter()
            run_alone(self.job)
            best = min(best, time.perf_counter() - start)
        return 2.0 * self.rows * self.vectors * self.target.width * K * CALLS / best / 1e9
