"""Simple recurrent units: every matmul reads the input, the state is met by elementwise ops alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnngraph.ir import Array
from rnngraph.nn import ops
from rnngraph.nn.activations import Activation
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_activation, check_flag, check_initializer, check_int, check_number
from rnngraph.nn.initializers import Initializer, IntShape
from rnngraph.nn.tensor import Tensor


@dataclass(frozen=True, slots=True)
class PerGate:
    """A constant for each gate, gates being equal parts of the last axis."""

    values: tuple[float, ...]

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        return np.broadcast_to(np.repeat(self.values, shape[-1] // len(self.values)), shape).astype(np.float32)


class SRUCell(Cell):
    """Simple recurrent unit (Lei et al. 2017, first version), as tf.contrib.rnn.SRUCell; the state is c, the output h.

    n = x W_n; f = sigmoid(x W_f + b_f); r = sigmoid(x W_r + b_r); c' = f c + (1 - f) n;
    h = r activation(c') + (1 - r) x W_x

    Weights, n, f, r, x side by side: kernel [I, 4U], bias [2U] (f, r). `SRUv2Cell` is the version whose gates see c.
    Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, Input, SRUCell, trace
        >>> trace(RNN(SRUCell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 kernel_initializer: str | Initializer = "glorot_uniform") -> None:
        self.units = check_int(self.label, "units", units)
        super().__init__({"c": units})
        self.activation = check_activation(self.label, "activation", activation)
        self.kernel_initializer = check_initializer(self.label, "kernel_initializer", kernel_initializer)

    def build(self, input_size: int) -> None:
        self.kernel = self.add_weight("kernel", (input_size, 4 * self.units), self.kernel_initializer)
        self.bias = self.add_weight("bias", (2 * self.units,), "zeros")

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        n, f, r, highway = (x @ w for w in self.kernel.gates("nfrx"))
        b_f, b_r = self.bias.gates("fr")
        f, r = ops.sigmoid(f + b_f), ops.sigmoid(r + b_r)
        c = f * state["c"] + (1.0 - f) * n
        return r * self.activation(c) + (1.0 - r) * highway, {"c": c}


class SRUv2Cell(Cell):
    """Simple recurrent unit (Lei et al. 2018, second version): the gates see the old c; the state is c, the output h.

    f = sigmoid(x W_f + v_f c + b_f); r = sigmoid(x W_r + v_r c + b_r); c' = f c + (1 - f) x W_n;
    h = r activation(c') + (1 - r) highway_scale x

    Where the input has not ``units`` features, x stands for x W_x in the last equation. highway_scale is the paper's
    alpha, sqrt(1 + 2 exp(b_r)) of the first b_r; the default is 1, no correction. ``highway_bias`` is the first b_r.

    Weights, n, f, r (and x) side by side: kernel [I, 3U] or [I, 4U], recurrent_vector [2U] (f, r), bias [2U] (f, r).
    Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, Input, SRUv2Cell, trace
        >>> trace(RNN(SRUv2Cell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, activation: str | Activation | None = None, use_bias: bool = True,
                 highway_bias: float = 0.0, highway_scale: float = 1.0,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "glorot_uniform") -> None:
        self.units = check_int(self.label, "units", units)
        super().__init__({"c": units})
        self.activation = check_activation(self.label, "activation", activation)
        self.use_bias = check_flag(self.label, "use_bias", use_bias)
        self.highway_bias = check_number(self.label, "highway_bias", highway_bias)
        self.highway_scale = check_number(self.label, "highway_scale", highway_scale)
        self.kernel_initializer = check_initializer(self.label, "kernel_initializer", kernel_initializer)
        self.recurrent_initializer = check_initializer(self.label, "recurrent_initializer", recurrent_initializer)

    def build(self, input_size: int) -> None:
        u = self.units
        self.gate_names = "nfr" if input_size == u else "nfrx"
        self.kernel = self.add_weight("kernel", (input_size, len(self.gate_names) * u), self.kernel_initializer)
        self.recurrent_vector = self.add_weight("recurrent_vector", (2 * u,), self.recurrent_initializer)
        if self.use_bias:
            self.bias = self.add_weight("bias", (2 * u,), PerGate((0.0, self.highway_bias)))

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        c = state["c"]
        n, f, r, *rest = (x @ w for w in self.kernel.gates(self.gate_names))
        highway = rest[0] if rest else x
        v_f, v_r = self.recurrent_vector.gates("fr")
        if self.use_bias:
            b_f, b_r = self.bias.gates("fr")
            f, r = f + b_f, r + b_r
        f, r = ops.sigmoid(f + v_f * c), ops.sigmoid(r + v_r * c)
        c = f * c + (1.0 - f) * n
        if self.highway_scale != 1.0:
            highway = highway * self.highway_scale
        return r * self.activation(c) + (1.0 - r) * highway, {"c": c}
