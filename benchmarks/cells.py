"""What a cell costs for each flop, beside the LSTM: `python -m benchmarks.cells`.

Every cell of rnngraph.nn, and two as a user would write them, run through the public interface; the flops and the
weights are those of the matmuls and convolutions in the compiled graph. A round runs every cell in turn: a pause, an
untimed call, a timed block; an FMA probe brackets it, and rounds on a slowed-down machine are dropped. Printed are
medians: microseconds a call, ps per flop and its ratio to the LSTM's (the bound is 1.5), ps per byte of weights and
step. A cell beyond the bound has its reason beside it, or "no reason known".
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import rnngraph as rg
from benchmarks.cell_table import LATENCY, REASONS, TABLE, Entry
from benchmarks.peers import BLOCK_SECONDS, SLOW, block
from benchmarks.probe import FmaProbe
from rnngraph.ir import Block, Dims, Graph, Scan, Value, resolve
from rnngraph.nn import RNN

BOUND = 1.5
SHORT_STEP = 5e-6  # seconds; below it the activations' latency and the meetings of threads count, not the flops
PRODUCTS = frozenset({"matmul", "conv"})


@dataclass(frozen=True, slots=True)
class Work:
    """The matmul flops of one call, and the bytes of the matmuls' constant sides."""

    flops: float
    weight_bytes: float


@dataclass(frozen=True, slots=True)
class Contestant:
    """A compiled cell, its input, and what a call does."""

    run: Callable[[Any], Any]
    x: Any
    work: Work
    backend: str


def work_of(graph: Graph, dims: Dims) -> Work:
    """The products of a graph by the IR's cost; those in a loop once a step."""
    weights: dict[Value, float] = {}

    def flops(block: Block) -> float:
        total = 0.0
        for op in block.ops:
            if op.name in PRODUCTS:
                total += op.opdef.cost(op, dims).flops
                weights[op.operands[1]] = 4.0 * float(np.prod(resolve(op.operands[1].shape, dims)))
            elif op.name == "scan":
                total += flops(Scan(op).body) * resolve((Scan(op).attrs.steps,), dims)[0]
        return total

    return Work(flops(graph.block), sum(weights.values()))


def contestant(entry: Entry, hidden: int, batch: int, steps: int, threads: int) -> Contestant:
    """Compile a cell for these sizes and make its input."""
    features = entry.features(hidden)
    layer = RNN(entry.make(hidden), return_sequences=True)
    compiled = rg.compile(layer, rg.Input(("batch", "time", *features)), target="cpu", threads=threads,
                          dims={"batch": batch, "time": steps})
    x = np.random.default_rng(batch).standard_normal((batch, steps, *features)).astype(np.float32)
    backends = dict.fromkeys(k.backend for k in compiled.report.kernels)
    work = work_of(compiled.program.graph, {"batch": batch, "time": steps})
    return Contestant(compiled, x, work, "+".join(backends))


def measure(found: Mapping[str, Contestant], rounds: int, probe: FmaProbe) -> dict[str, float]:
    """Seconds per call of each, by medians of interleaved rounds."""
    calls = {n: max(3, min(200, int(BLOCK_SECONDS / block(c.run, c.x, 3)))) for n, c in found.items()}
    taken: list[tuple[float, dict[str, float]]] = []
    for _ in range(rounds):
        before = probe.gflops()
        times = {n: block(c.run, c.x, calls[n]) for n, c in found.items()}
        taken.append((min(before, probe.gflops()), times))
    best = max(speed for speed, _ in taken)
    kept = [times for speed, times in taken if speed >= SLOW * best]
    return {n: statistics.median(t[n] for t in kept) for n in found}


def reason(name: str, seconds: float, lstm: float, steps: int) -> str | None:
    """Why a cell may be beyond the bound: it has a reason of its own, or its steps are short and no slower than those
    of an LSTM of its size."""
    short = seconds <= lstm and seconds < SHORT_STEP * steps
    return REASONS.get(name, LATENCY if short else None)


def report(name: str, c: Contestant, seconds: float, ratio: float, steps: int, where: str, why: str | None) -> str:
    """One line of the table."""
    per_byte = seconds / (steps * c.work.weight_bytes)
    note = f"BEYOND: {why or 'no reason known'}" if ratio > BOUND else ""
    return (f"{name:26}{where}{seconds * 1e6:10.1f}{seconds / c.work.flops * 1e12:9.2f}{ratio:7.2f}"
            f"{per_byte * 1e12:9.2f}  {c.backend:10}{note}").rstrip()


def run(names: Sequence[str], hidden: int, batch: int, steps: int, threads: int, rounds: int,
        probe: FmaProbe) -> list[str]:
    """Measure and print the cells at one size; returns the names without excuse: beyond the bound or not native."""
    found = {n: contestant(TABLE[n], hidden, batch, steps, threads) for n in names}
    seconds = measure(found, rounds, probe)
    unit = seconds["LSTM"] / found["LSTM"].work.flops
    failed = []
    for name, c in found.items():
        ratio, why = seconds[name] / c.work.flops / unit, reason(name, seconds[name], seconds["LSTM"], steps)
        print(report(name, c, seconds[name], ratio, steps, f"{batch:6}{threads:8}", why), flush=True)
        if c.backend != "llvm" or (ratio > BOUND and why is None):
            failed.append(f"{name} at batch {batch}, {threads} threads: {ratio:.2f}, {c.backend}")
    return failed


def main(argv: list[str] | None = None) -> int:
    """Print the table. Exit code 1 when --check is given and a cell is beyond the bound without a reason."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256], help="such as 256 37")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", default=list(TABLE), choices=TABLE, metavar="CELL", help="as printed")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    names = list(dict.fromkeys(["LSTM", *options.only]))
    probe = FmaProbe()
    failed: list[str] = []
    for hidden in options.hidden:
        print(f"H={hidden}, T={options.steps}, probe {probe.gflops():.0f} GFLOP/s a core")
        print(f"{'cell':26}{'batch':>6}{'threads':>8}{'us/call':>10}{'ps/flop':>9}{'ratio':>7}{'ps/byte':>9}  backend")
        for batch in options.batch:
            for threads in options.threads:
                failed += run(names, hidden, batch, options.steps, threads, options.rounds, probe)
    if options.check and failed:
        print(f"beyond {BOUND} without a reason, or not native: {'; '.join(failed)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
