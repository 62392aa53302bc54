"""The workloads that speed is judged on: shapes, and the same weights for every library."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnngraph.ir import Array


@dataclass(frozen=True, slots=True)
class Workload:
    """A stack of LSTM or GRU layers: x [batch, steps, inputs] -> y [batch, steps, directions * hidden]."""

    name: str
    cell: str  # "lstm" | "gru"
    hidden: int
    layers: int
    bidirectional: bool
    batch: int
    steps: int
    inputs: int
    mark: float | None = None  # the ratio to the better peer that must be reached

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def gates(self) -> int:
        return {"lstm": 4, "gru": 3}[self.cell]

    @property
    def flops(self) -> float:
        """Matmul flops of one call."""
        total = 0
        for layer in range(self.layers):
            inputs = self.inputs if layer == 0 else self.hidden * self.directions
            total += 2 * self.directions * self.gates * self.hidden * (inputs + self.hidden)
        return float(total) * self.batch * self.steps


@dataclass(frozen=True, slots=True)
class Weights:
    """One layer and direction in PyTorch's layout: W [G*H, I], R [G*H, H], two biases [G*H]."""

    w: Array
    r: Array
    bw: Array
    br: Array


def make_weights(load: Workload, seed: int = 0) -> list[list[Weights]]:
    """Weights per layer and direction, scaled as PyTorch initialises them."""
    rng = np.random.default_rng(seed)
    bound = load.hidden**-0.5

    def draw(*shape: int) -> Array:
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    out = []
    for layer in range(load.layers):
        inputs = load.inputs if layer == 0 else load.hidden * load.directions
        rows = load.gates * load.hidden
        out.append([Weights(draw(rows, inputs), draw(rows, load.hidden), draw(rows), draw(rows))
                    for _ in range(load.directions)])
    return out


def make_input(load: Workload, seed: int = 1) -> Array:
    """x [batch, steps, inputs]."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((load.batch, load.steps, load.inputs)).astype(np.float32)


FIRST_MARKS = (
    Workload("LSTM(256) b1 T150", "lstm", 256, 1, False, 1, 150, 256, 1.3),
    Workload("LSTM(16) b1 T512", "lstm", 16, 1, False, 1, 512, 1, 1.3),
    Workload("BiLSTM(256)x2 b1 T50", "lstm", 256, 2, True, 1, 50, 256, 1.3),
    Workload("BiLSTM(256)x2 b32 T50", "lstm", 256, 2, True, 32, 50, 256, 1.0),
)

OTHERS = (
    Workload("LSTM(512) b1 T25", "lstm", 512, 1, False, 1, 25, 512),
    Workload("LSTM(128) b1 T1", "lstm", 128, 1, False, 1, 1, 128),
    Workload("LSTM(64)x2 b1 T100", "lstm", 64, 2, False, 1, 100, 64),
    Workload("GRU(96)x3 b1 T100", "gru", 96, 3, False, 1, 100, 96),
    Workload("GRU(256)x3 b16 T100", "gru", 256, 3, False, 16, 100, 256),
    Workload("LSTM(128) b256 T64", "lstm", 128, 1, False, 256, 64, 64),
    Workload("LSTM(512)x2 b64 T50", "lstm", 512, 2, False, 64, 50, 512),
)
