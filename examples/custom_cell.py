"""A recurrent cell of your own: a minimal gated unit in eight lines, traced to IR and run by the reference.

    python examples/custom_cell.py
"""

from __future__ import annotations

import numpy as np

import rnngraph as rg
from rnngraph import nn
from rnngraph.nn.ops import sigmoid, tanh


class MinimalGatedUnit(nn.Cell):  # Zhou et al. 2016
    def build(self, n: int) -> None:
        self.W = self.add_weight("W", (n, 2 * self.state_size)).gates("fh")
        self.R = self.add_weight("R", (self.state_size, 2 * self.state_size)).gates("fh")

    def step(self, x: nn.Tensor, h: nn.Tensor) -> tuple[nn.Tensor, nn.Tensor]:
        f = sigmoid(x @ self.W[0] + h @ self.R[0])
        h = (1 - f) * h + f * tanh(x @ self.W[1] + (f * h) @ self.R[1])
        return h, h


def main() -> None:
    model = rg.Sequential([nn.RNN(MinimalGatedUnit(32), return_sequences=True, name="mgu"), nn.Dense(4, "softmax")])
    graph = rg.trace(model, rg.Input(("batch", "time", 16)), lengths=True)
    print(graph)

    x = np.random.default_rng(0).normal(size=(2, 5, 16)).astype(np.float32)
    y = rg.ir.evaluate(graph, {"x": x, "lengths": np.array([5, 3], np.int32)})["y"]
    print("y", y.shape, "at the first step:", y[0, 0].round(4))


if __name__ == "__main__":
    main()
