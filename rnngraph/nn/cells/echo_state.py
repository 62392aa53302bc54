"""Echo state networks: a reservoir of random weights that nobody trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnngraph.ir import Array
from rnngraph.nn.activations import Activation
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_activation, check_flag, check_initializer, check_int, check_number
from rnngraph.nn.initializers import Initializer, IntShape, RandomUniform
from rnngraph.nn.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Reservoir:
    """A square matrix: ``base`` where a connection is drawn with probability ``connectivity``, 0 elsewhere, scaled so
    that its largest absolute eigenvalue is ``spectral_radius`` (``use_norm2``: so that its Frobenius norm, an upper
    bound of it, is). A matrix whose eigenvalues are all 0 cannot be scaled and becomes 0, as in tensorflow-addons."""

    base: Initializer
    connectivity: float
    spectral_radius: float
    use_norm2: bool = False

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        w = np.asarray(self.base(shape, rng), np.float64)
        w = np.where(rng.uniform(size=shape) <= self.connectivity, w, 0.0)
        size = float(np.linalg.norm(w) if self.use_norm2 else np.abs(np.linalg.eigvals(w)).max())
        return np.asarray(w * (self.spectral_radius / size if size else 0.0)).astype(np.float32)


class ESNCell(Cell):
    """Leaky echo state network (Jaeger 2001), as tensorflow-addons' ESNCell; state and output are h.

    h' = (1 - leaky) h + leaky activation(x W + h R + b)

    connectivity     the probability of a connection between two units
    leaky            how much of h is new in a step; 1: no leak
    spectral_radius  the largest absolute eigenvalue of R
    use_norm2        scale R by its Frobenius norm, an upper bound of it

    Weights: kernel [I, U], recurrent_kernel [U, U] (random, then fixed), bias [U]. They are drawn from the cell's place
    in the model, the same at each run. Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, ESNCell, Input, trace
        >>> trace(RNN(ESNCell(8, leaky=0.5)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, connectivity: float = 0.1, leaky: float = 1.0, spectral_radius: float = 0.9,
                 use_norm2: bool = False, use_bias: bool = True, activation: str | Activation | None = "tanh",
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "zeros") -> None:
        super().__init__(check_int(self.label, "units", units))
        self.units = units
        self.leaky = check_number(self.label, "leaky", leaky, 0.0, 1.0)
        self.use_bias = check_flag(self.label, "use_bias", use_bias)
        self.activation = check_activation(self.label, "activation", activation)
        self.kernel_initializer = check_initializer(self.label, "kernel_initializer", kernel_initializer)
        self.bias_initializer = check_initializer(self.label, "bias_initializer", bias_initializer)
        self.reservoir = Reservoir(check_initializer(self.label, "recurrent_initializer", recurrent_initializer),
                                   check_number(self.label, "connectivity", connectivity, 0.0, 1.0),
                                   check_number(self.label, "spectral_radius", spectral_radius, 0.0),
                                   check_flag(self.label, "use_norm2", use_norm2))

    def build(self, input_size: int) -> None:
        u = self.units
        self.kernel = self.add_weight("kernel", (input_size, u), self.kernel_initializer)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, u), self.reservoir)
        if self.use_bias:
            self.bias = self.add_weight("bias", (u,), self.bias_initializer)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        total = x @ self.kernel
        if self.use_bias:
            total = total + self.bias
        h = self.activation(total + state @ self.recurrent_kernel)
        if self.leaky != 1.0:
            h = (1.0 - self.leaky) * state + self.leaky * h
        return h, h


class EchoStateCell(Cell):
    """Plain echo state network (Jaeger 2001): no leak, no bias, every two units connected; state and output are h.

    h' = activation(x W + h R), W uniform in +-input_scaling, R uniform and scaled to ``spectral_radius``

    Weights: kernel [I, U], recurrent_kernel [U, U]. Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, EchoStateCell, Input, trace
        >>> trace(RNN(EchoStateCell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, spectral_radius: float = 0.9, input_scaling: float = 1.0,
                 activation: str | Activation = "tanh") -> None:
        super().__init__(check_int(self.label, "units", units))
        self.units = units
        scaling = check_number(self.label, "input_scaling", input_scaling, 0.0)
        self.activation = check_activation(self.label, "activation", activation)
        self.input_weights = RandomUniform(-scaling, scaling)
        self.reservoir = Reservoir(RandomUniform(-1.0, 1.0), 1.0,
                                   check_number(self.label, "spectral_radius", spectral_radius, 0.0))

    def build(self, input_size: int) -> None:
        self.kernel = self.add_weight("kernel", (input_size, self.units), self.input_weights)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (self.units, self.units), self.reservoir)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = self.activation(x @ self.kernel + state @ self.recurrent_kernel)
        return h, h
