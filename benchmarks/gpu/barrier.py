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

RG_KERNEL barriers(rg_u32* arrivals, rg_u32* seen, int turns) {
    rg_u32 turn = 0;
    for (int k = 0; k < turns; k++) {
        if (threadIdx.x == 0) seen[blockIdx.x] = turn;
        rg_grid_sync(arrivals, ++turn);
    }
    if (threadIdx.x == 0) seen[blockIdx.x] = turn + seen[(blockIdx.x + 1) % gridDim.x];
}
"""
BLOCKS = (1, 8, 16, 32, 64, 96, 132)
TURNS = 1000


def cases(setting: Setting) -> Iterator[Case]:
    """A case for each number of blocks."""
    sms = open_device().caps.sms
    for blocks in sorted({min(b, sms) for b in BLOCKS}):
        yield Case(f"{blocks} blocks", partial(_barriers, blocks, 5 if setting.shim else TURNS, setting.shim))


def _barriers(blocks: int, turns: int, shim: bool) -> Iterator[Row]:
    device: Any = open_device()
    module = device.build(Source(TEXT, ("barriers",)))
    arrivals, seen = (device.xp.zeros(n, np.int32) for n in (1, blocks))

    def run(count: int) -> None:
        arrivals[...] = 0
        module.launch("barriers", (blocks, 1, 1), (THREADS, 1, 1),
                      [np.int64(device.address(arrivals)), np.int64(device.address(seen)), np.int32(count)],
                      cooperative=True)

    case = f"{blocks} blocks"
    if shim:
        run(turns)
        yield _row(case, seen, turns, {})
        return
    with device.stream:
        times = [_microseconds(device, run, count) for count in (0, turns)]
        run(turns)
        device.stream.synchronize()
        yield _row(case, seen.get(), turns, {"us a barrier": (times[1] - times[0]) / turns, "us a launch": times[0]})


def _row(case: str, seen: Any, turns: int, numbers: dict[str, Any]) -> Row:
    """Every block must have seen all turns. What the neighbour stands at is read behind the last barrier, and may be its
    sum already."""
    right = all(n % turns in (turns - 1, turns - 2) or n >= 2 * turns - 1 for n in np.asarray(seen).tolist())
    return Row(case, "rg_grid_sync", OK if right else FAIL, numbers, "" if right else f"blocks saw {seen}")


def _microseconds(device: Any, run: Any, count: int) -> float:
    """The least of some launches, by events."""
    cuda = device.xp.cuda
    times = []
    for _ in range(10):
        begin, end = cuda.Event(), cuda.Event()
        begin.record()
        run(count)
        end.record()
        end.synchronize()
        times.append(1e3 * cuda.get_elapsed_time(begin, end))
    return float(min(times))


__all__ = ["cases"]
