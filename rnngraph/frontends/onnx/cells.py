"""One step of ONNX's LSTM, GRU and RNN, on the weights of one direction: a matmul for each gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnngraph.frontends.onnx.activations import Activation
from rnngraph.nn import Cell, ops
from rnngraph.nn.tensor import Tensor


class Weights:
    """The weights of one direction by gate: W [I, H], R [H, H], the biases [H] of both or None."""

    def __init__(self, gates: str, w: Tensor, r: Tensor, b: Tensor | None) -> None:
        count = len(gates)
        self.w = dict(zip(gates, (ops.transpose(p, (1, 0)) for p in ops.split(w, count, 0)), strict=True))
        self.r = dict(zip(gates, (ops.transpose(p, (1, 0)) for p in ops.split(r, count, 0)), strict=True))
        parts: Sequence[Tensor | None] = (None,) * (2 * count) if b is None else ops.split(b, 2 * count, 0)
        self.bw = dict(zip(gates, parts[:count], strict=True))
        self.br = dict(zip(gates, parts[count:], strict=True))


class OnnxCell(Cell):
    """What the three share: weights, activations, and the clip of what activations are given."""

    def __init__(self, size: int, weights: Weights, functions: Sequence[Activation], clip: float) -> None:
        super().__init__()
        self.size = size
        self.parameters = weights
        self.functions = functions
        self.clip = clip

    @property
    def label(self) -> str:
        return "node"

    def clipped(self, x: Tensor) -> Tensor:
        return ops.clip(x, -self.clip, self.clip) if self.clip > 0 else x

    def sum(self, gate: str, x: Tensor, h: Tensor) -> Tensor:
        """x W + h R + bW + bR."""
        p = self.parameters
        total = _plus(x @ p.w[gate], p.bw[gate]) + _plus(h @ p.r[gate], p.br[gate])
        return total


class OnnxRNN(OnnxCell):
    """h' = f(x W + h R + b)."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.state_size = self.size

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.functions[0](self.clipped(self.sum("i", x, h)))
        return h, h


class OnnxGRU(OnnxCell):
    """h' = (1 - z) g(...) + z h; r before the recurrent product, or after it (linear_before_reset)."""

    def __init__(self, size: int, weights: Weights, functions: Sequence[Activation], clip: float,
                 linear_before_reset: bool) -> None:
        super().__init__(size, weights, functions, clip)
        self.state_size = size
        self.linear_before_reset = linear_before_reset

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        f, g = self.functions
        p = self.parameters
        z, r = (f(self.clipped(self.sum(gate, x, h))) for gate in "zr")
        new = _plus(x @ p.w["h"], p.bw["h"])
        if self.linear_before_reset:
            new = new + r * _plus(h @ p.r["h"], p.br["h"])
        else:
            new = new + _plus((r * h) @ p.r["h"], p.br["h"])
        h = (1.0 - z) * g(self.clipped(new)) + z * h
        return h, h


class OnnxLSTM(OnnxCell):
    """Gates i, o, f, c, with peepholes i and f on c, o on c'; input_forget: f = 1 - i."""

    def __init__(self, size: int, weights: Weights, functions: Sequence[Activation], clip: float,
                 peepholes: dict[str, Tensor] | None, input_forget: bool) -> None:
        super().__init__(size, weights, functions, clip)
        self.state_size = {"h": size, "c": size}
        self.peepholes = peepholes
        self.input_forget = input_forget

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        f, g, h_ = self.functions
        h, c = state["h"], state["c"]
        i = f(self.clipped(self.peeped("i", self.sum("i", x, h), c)))
        forget = 1.0 - i if self.input_forget else f(self.clipped(self.peeped("f", self.sum("f", x, h), c)))
        c = forget * c + i * g(self.clipped(self.sum("c", x, h)))
        o = f(self.clipped(self.peeped("o", self.sum("o", x, h), c)))
        h = o * h_(c)
        return h, {"h": h, "c": c}

    def peeped(self, gate: str, total: Tensor, c: Tensor) -> Tensor:
        return total if self.peepholes is None else total + self.peepholes[gate] * c


def _plus(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias
