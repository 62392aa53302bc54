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


    @property
    def stream(self) -> float:
        """Bytes of f32 weights that every step reads anew: the recurrent ones."""
        return 4.0 * self.gates * self.hidden * self.hidden * self.layers * self.directions

    @property
    def projections(self) -> float:
        """Bytes of f32 weights that a call reads once."""
        total = 0.0
        for layer in range(self.layers):
            inputs = self.inputs if layer == 0 else self.hidden * self.directions
            total += 4.0 * self.directions * self.gates * self.hidden * inputs
        return total


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


# the recurrent layers that DeepBench publishes for inference (github.com/baidu-research/DeepBench; those of batch 1 as
# in Fowers et al., ISCA 2018, table 5), the long ones cut to 50 steps: T is what a call repeats
DEEPBENCH = (
    Workload("LSTM(256) b1 T150", "lstm", 256, 1, False, 1, 150, 256, 1.3),
    Workload("LSTM(512) b1 T25", "lstm", 512, 1, False, 1, 25, 512),
    Workload("LSTM(1024) b1 T25", "lstm", 1024, 1, False, 1, 25, 1024),
    Workload("LSTM(1536) b1 T50", "lstm", 1536, 1, False, 1, 50, 1536),
    Workload("LSTM(2048) b1 T25", "lstm", 2048, 1, False, 1, 25, 2048),
    Workload("LSTM(512) b4 T50", "lstm", 512, 1, False, 4, 50, 512),
    Workload("GRU(512) b1 T1", "gru", 512, 1, False, 1, 1, 512),
    Workload("GRU(1024) b1 T50", "gru", 1024, 1, False, 1, 50, 1024),
    Workload("GRU(1536) b1 T50", "gru", 1536, 1, False, 1, 50, 1536),
)
TINY = (  # audio, control
    Workload("LSTM(16) b1 T512", "lstm", 16, 1, False, 1, 512, 1, 1.3),
    Workload("LSTM(8) b1 T64", "lstm", 8, 1, False, 1, 64, 4),
    Workload("GRU(32) b1 T100", "gru", 32, 1, False, 1, 100, 16),
    Workload("LSTM(64)x2 b1 T100", "lstm", 64, 2, False, 1, 100, 64),
)
STACKS = (  # taggers, speech
    Workload("BiLSTM(256)x2 b1 T50", "lstm", 256, 2, True, 1, 50, 256, 1.3),
    Workload("BiLSTM(128) b1 T30", "lstm", 128, 1, True, 1, 30, 100),
    Workload("BiGRU(300) b1 T40", "gru", 300, 1, True, 1, 40, 300),
    Workload("GRU(96)x3 b1 T100", "gru", 96, 3, False, 1, 100, 96),
    Workload("LSTM(512)x4 b1 T100", "lstm", 512, 4, False, 1, 100, 512),
)
BATCHES = (
    Workload("LSTM(256) b8 T100", "lstm", 256, 1, False, 8, 100, 256),
    Workload("GRU(256)x3 b16 T100", "gru", 256, 3, False, 16, 100, 256),
    Workload("BiLSTM(256)x2 b32 T50", "lstm", 256, 2, True, 32, 50, 256, 1.0),
    Workload("LSTM(512)x2 b64 T50", "lstm", 512, 2, False, 64, 50, 512),
    Workload("LSTM(128) b256 T64", "lstm", 128, 1, False, 256, 64, 64),
)
STEPS = (  # one step at a time
    Workload("LSTM(16) b1 T1", "lstm", 16, 1, False, 1, 1, 16),
    Workload("LSTM(128) b1 T1", "lstm", 128, 1, False, 1, 1, 128),
    Workload("LSTM(256)x2 b1 T1", "lstm", 256, 2, False, 1, 1, 256),
)
ALL = DEEPBENCH + TINY + STACKS + BATCHES + STEPS
FIRST_MARKS = tuple(w for w in ALL if w.mark is not None)
