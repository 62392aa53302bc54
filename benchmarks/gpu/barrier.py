"""What it takes until all blocks of a grid have waited for each other: the floor of a persistent loop's step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu.section import Case, Setting
from benchmarks.gpu.table import FAIL, OK, Row
from rnngraph.backends.cupy.codegen.persistent import THREADS
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.device import open_device

TEXT = """
#include "port.h"

RG_KERNEL barriers(rg_u32* arrivals, float* at, float* late, int turns) {
    rg_u32 turn = 0;
    for (int k = 0; k < turns; k++) rg_grid_sync(arrivals, ++turn);
}

RG_KERNEL neighbours(rg_u32* arrivals, float* at, float* late, int turns) {
    rg_u32 turn = 0;
    for (int k = 0; k < turns; k++) {
        if (threadIdx.x == 0) at[blockIdx.x] = (float)k;
        rg_grid_sync(arrivals, ++turn);
        if (threadIdx.x == 0 && rg_load_fresh(&at[(blockIdx.x + 1) % gridDim.x]) < (float)k) late[blockIdx.x] += 1.0f;
    }
}
"""
KERNELS = ("barriers", "neighbours")
BLOCKS = (1, 8, 16, 32, 64, 96, 132)
TURNS = 1000


def cases(setting: Setting) -> Iterator[Case]:
    """A case for each number of blocks."""
    sms = open_device().caps.sms
    for blocks in sorted({min(b, sms) for b in BLOCKS}):
        yield Case(f"{blocks} blocks", partial(_barriers, blocks, 5 if setting.shim else TURNS, setting.shim))


def _barriers(blocks: int, turns: int, shim: bool) -> Iterator[Row]:
    """Behind a barrier no block may see its neighbour at a turn before."""
    device: Any = open_device()
    module = device.build(Source(TEXT, KERNELS))
    arrivals = device.xp.zeros(1, np.int32)
    at, late = device.xp.full(blocks, -1, np.float32), device.xp.zeros(blocks, np.float32)
    if not shim:
        device.xp.cuda.Device().synchronize()

    def run(kernel: str, count: int) -> None:
        arrivals[...] = 0
        pointers = [np.int64(device.address(a)) for a in (arrivals, at, late)]
        module.launch(kernel, (blocks, 1, 1), (THREADS, 1, 1), [*pointers, np.int32(count)], cooperative=True)

    numbers: dict[str, Any] = {}
    if shim:
        run("neighbours", turns)
    else:
        with device.stream:
            run("neighbours", turns)
            launch, whole = (_microseconds(device.xp.cuda, partial(run, "barriers", count)) for count in (0, turns))
        numbers = {"us a barrier": (whole - launch) / turns, "us a launch": launch}
        late = late.get()
    wrong = int(np.sum(late))
    yield Row(f"{blocks} blocks", "rg_grid_sync", FAIL if wrong else OK, numbers,
              f"{wrong} times a block was let through before its neighbour had come" if wrong else "")


def _microseconds(cuda: Any, run: Any) -> float:
    """The least of some launches, by events."""
    times = []
    for _ in range(10):
        begin, end = cuda.Event(), cuda.Event()
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(1e3 * cuda.get_elapsed_time(begin, end))
    return float(min(times))


__all__ = ["cases"]
