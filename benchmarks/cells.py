"""What a cell costs for each flop, beside the LSTM: `python -m benchmarks.cells`.

Every cell runs native through the public interface, its matmul flops counted from its weights. A round runs every cell
in turn: a pause, an untimed call, a timed block; an FMA probe brackets it, and rounds on a slowed-down machine are
dropped. Printed are ns per flop by medians, and the ratio to the LSTM's (1.5 is the bound for a user's own cell).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.peers import BLOCK_SECONDS, SLOW, block

import numpy as np  # isort: skip - peers sets the pools of numpy first

import rnngraph as rg
from benchmarks.probe import FmaProbe
from rnngraph.nn import GRU, LSTM, RNN, Cell, Layer, ops

BOUND = 1.5


class MinimalGatedUnit(Cell):
    """Zhou et al. 2016, as a user would write it."""

    def build(self, n: int) -> None:
        u = self.state_size
        self.Wf, self.Rf = self.add_weight("Wf", (n, u)), self.add_weight("Rf", (u, u))
        self.Wn, self.Rn = self.add_weight("Wn", (n, u)), self.add_weight("Rn", (u, u))

    def step(self, x: Any, h: Any) -> Any:
        f = ops.sigmoid(x @ self.Wf + h @ self.Rf)
        h = h + f * (ops.tanh(x @ self.Wn + (f * h) @ self.Rn) - h)
        return h, h


class LayerNormLSTM(Cell):
    """Ba et al. 2016: both projections and the cell state are normalised."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.state_size = {"h": units, "c": units}

    def build(self, n: int) -> None:
        self.W, self.R = self.add_weight("W", (n, 4 * self.units)), self.add_weight("R", (self.units, 4 * self.units))

    def step(self, x: Any, state: Any) -> Any:
        i, f, g, o = ops.split(ops.layer_norm(x @ self.W) + ops.layer_norm(state["h"] @ self.R), 4)
        c = ops.sigmoid(f) * state["c"] + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(ops.layer_norm(c))
        return h, {"h": h, "c": c}


CELLS: dict[str, Callable[[int], Layer]] = {
    "LSTM": lambda h: LSTM(h, return_sequences=True),
    "minimal gated unit (user)": lambda h: RNN(MinimalGatedUnit(h), return_sequences=True),
    "GRU, reset before": lambda h: GRU(h, return_sequences=True, reset_after=False),
    "GRU, reset after": lambda h: GRU(h, return_sequences=True),
    "LSTM with peepholes": lambda h: LSTM(h, return_sequences=True, peepholes=True),
    "layer-norm LSTM (user)": lambda h: RNN(LayerNormLSTM(h), return_sequences=True),
}


@dataclass(frozen=True, slots=True)
class Contestant:
    """A compiled cell and the matmul flops of one call."""

    run: Callable[[Any], Any]
    flops: float
    native: bool


def contestant(make: Callable[[int], Layer], hidden: int, batch: int, steps: int, threads: int) -> Contestant:
    layer = make(hidden)
    layer.build((None, None, hidden))
    compiled = rg.compile(layer, rg.Input(("batch", "time", hidden)), target="cpu", threads=threads,
                          dims={"batch": batch, "time": steps})
    weights = sum(w.size for w in layer.weights.values() if w.ndim == 2 and w.shape[0] == hidden)
    native = all(k.backend == "llvm" for k in compiled.report.kernels)
    return Contestant(compiled, 2.0 * weights * batch * steps, native)


def measure(found: dict[str, Contestant], x: Any, rounds: int, probe: FmaProbe) -> dict[str, float]:
    """ns per flop of each, by medians of interleaved rounds."""
    calls = {n: max(3, min(200, int(BLOCK_SECONDS / block(c.run, x, 3)))) for n, c in found.items()}
    taken: list[tuple[float, dict[str, float]]] = []
    for _ in range(rounds):
        before = probe.gflops()
        times = {n: block(c.run, x, calls[n]) for n, c in found.items()}
        taken.append((min(before, probe.gflops()), times))
    best = max(speed for speed, _ in taken)
    kept = [times for speed, times in taken if speed >= SLOW * best]
    return {n: statistics.median(t[n] for t in kept) * 1e9 / c.flops for n, c in found.items()}


def main(argv: list[str] | None = None) -> int:
    """Print the table. Exit code 1 when --check is given and a user's cell is beyond the bound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    probe = FmaProbe()
    missed = []
    print(f"H={options.hidden}, T={options.steps}, probe {probe.gflops():.0f} GFLOP/s a core")
    print(f"{'cell':28}{'batch':>6}{'threads':>8}{'ps/flop':>9}{'ratio':>7}  backend")
    for batch in options.batch:
        rng = np.random.default_rng(batch)
        x = rng.standard_normal((batch, options.steps, options.hidden)).astype(np.float32)
        for threads in options.threads:
            found = {n: contestant(m, options.hidden, batch, options.steps, threads) for n, m in CELLS.items()}
            cost = measure(found, x, options.rounds, probe)
            for name, c in found.items():
                ratio = cost[name] / cost["LSTM"]
                print(f"{name:28}{batch:6}{threads:8}{cost[name] * 1e3:9.2f}{ratio:7.2f}  "
                      f"{'llvm' if c.native else 'not all native'}", flush=True)
                if name.startswith("minimal") and (ratio > BOUND or not c.native):
                    missed.append(f"batch {batch}, {threads} threads: {ratio:.2f}")
    if options.check and missed:
        print(f"the minimal gated unit is beyond {BOUND}: {'; '.join(missed)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
