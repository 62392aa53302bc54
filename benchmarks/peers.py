"""rnngraph against PyTorch, ONNX Runtime, OpenVINO and JAX, side by side: `python -m benchmarks.peers`.

One process, the same weights, outputs compared. A round runs every library in turn: a pause (thread pools spin after a
call and would rob the next library: ONNX Runtime's worker for 50 ms), one untimed call, then a timed block. An FMA
probe brackets every round; rounds on a slowed-down machine are dropped. What is printed are medians, the ratio of the
best peer to rnngraph (above 1: rnngraph is faster), and the share of the machine's limit (`benchmarks.limits`) that
rnngraph reaches; below the table the geometric means.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import dataclass

import numpy as np

from benchmarks.libraries import LIBRARIES, Run, installed
from benchmarks.limits import Limits
from benchmarks.limits import measure as measure_limits
from benchmarks.probe import FmaProbe
from benchmarks.workloads import ALL, FIRST_MARKS, Workload, make_input, make_weights

BLOCK_SECONDS = 0.15  # in the first 30 ms after a pause calls of the memory-bound sizes take 10 % longer
PAUSE_SECONDS = 0.1
SLOW = 0.85  # a round whose probe is below this share of the best one is dropped


@dataclass(slots=True)
class Result:
    """Median seconds per call by library, and the largest difference from rnngraph's output."""

    load: Workload
    seconds: dict[str, float]
    difference: float
    rounds: int
    dropped: int
    limit: float

    @property
    def ratio(self) -> float:
        """The best peer's time over ours."""
        peers = [s for n, s in self.seconds.items() if n != "rnngraph"]
        return min(peers) / self.seconds["rnngraph"]

    @property
    def share(self) -> float:
        """Of the machine's limit."""
        return self.limit / self.seconds["rnngraph"]


def block(run: Run, x: np.ndarray, calls: int) -> float:
    """Median seconds of ``calls`` calls, after a pause and an untimed call."""
    time.sleep(PAUSE_SECONDS)
    run(x)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(load: Workload, threads: int, rounds: int, probe: FmaProbe, limits: Limits) -> Result:
    """Interleaved rounds of all libraries on one workload."""
    weights, x = make_weights(load), make_input(load)
    runs = {name: make(load, weights, threads) for name, make in LIBRARIES.items() if name in installed()}
    ours = runs["rnngraph"](x)
    difference = max(float(np.abs(run(x) - ours).max()) for run in runs.values())
    calls = {name: max(3, min(200, int(BLOCK_SECONDS / block(run, x, 3)))) for name, run in runs.items()}
    taken: list[tuple[float, dict[str, float]]] = []
    for _ in range(rounds):
        before = probe.gflops()
        times = {name: block(run, x, calls[name]) for name, run in runs.items()}
        taken.append((min(before, probe.gflops()), times))
    best = max(speed for speed, _ in taken)
    kept = [times for speed, times in taken if speed >= SLOW * best] or [times for _, times in taken]
    seconds = {name: statistics.median(t[name] for t in kept) for name in runs}
    return Result(load, seconds, difference, len(kept), len(taken) - len(kept), limits.seconds(load, threads))


def main(argv: list[str] | None = None) -> int:
    """Print the table; with --json, machine-readable. Exit code 1 when --check is given and a mark is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--all", action="store_true", help=f"all {len(ALL)} workloads, not the four with a mark alone")
    parser.add_argument("--only", help="workloads whose name contains this text")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    loads = [w for w in (ALL if options.all or options.only else FIRST_MARKS)
             if not options.only or options.only in w.name]
    probe = FmaProbe()
    limits = measure_limits(probe)
    if not options.json:
        print(f"{options.threads} threads; a core: {limits.flops / 1e9:.0f} GFLOP/s, weights at "
              f"{limits.near / 1e9:.0f} GB/s from the second level, {limits.far / 1e9:.0f} from the third, "
              f"{limits.memory / 1e9:.0f} from memory; medians in us")
        print(f"{'workload':24}" + "".join(f"{n:>13}" for n in installed()) + f"{'ratio':>8}{'mark':>6}"
              f"{'GFLOP/s':>9}{'limit':>7}{'max diff':>10}  rounds")
    results = []
    for load in loads:
        r = measure(load, options.threads, options.rounds, probe, limits)
        results.append(r)
        if not options.json:
            print(_line(r), flush=True)
    if options.json:
        json.dump([{"workload": r.load.name, "seconds": r.seconds, "ratio": r.ratio, "mark": r.load.mark,
                    "limit": r.limit, "share": r.share, "difference": r.difference, "rounds": r.rounds}
                   for r in results], sys.stdout, indent=2)
        print()
    else:
        print(f"geometric means over {len(results)}: ratio {_mean([r.ratio for r in results]):.2f}, "
              f"share of the limit {_mean([r.share for r in results]):.0%}")
    missed = [r.load.name for r in results if r.load.mark is not None and r.ratio < r.load.mark]
    if options.check and missed:
        print(f"below their mark: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0


def _line(r: Result) -> str:
    cells = "".join(f"{seconds * 1e6:13.0f}" for seconds in r.seconds.values())
    return (f"{r.load.name:24}{cells}{r.ratio:8.2f}{r.load.mark or '':>6}"
            f"{r.load.flops / r.seconds['rnngraph'] / 1e9:9.1f}{r.share:7.0%}{r.difference:10.1e}"
            f"  {r.rounds} of {r.rounds + r.dropped}")


def _mean(numbers: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, numbers))) if numbers else math.nan


if __name__ == "__main__":
    sys.exit(main())
