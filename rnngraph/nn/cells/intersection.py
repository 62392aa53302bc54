"""Intersection RNN (+RNN): a gate through time and a gate through depth."""

from __future__ import annotations

from rnngraph.errors import ShapeError
from rnngraph.nn import ops
from rnngraph.nn.activations import Activation
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_activation, check_initializer, check_int, check_number
from rnngraph.nn.cells.sums import gate_sums
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor


class IntersectionRNNCell(Cell):
    """Intersection RNN, +RNN (Collins et al. 2017), as tf.contrib.rnn.IntersectionRNNCell; state h, output y.

    s = [x, h] W + b in four parts; g, d = sigmoid(s_g + forget_bias), sigmoid(s_d + forget_bias);
    h' = g h + (1 - g) tanh(s_h); y = d x + (1 - d) y_activation(s_y)

    The input goes through to the output, so both have ``units`` features. For an input of another size give
    ``num_in_proj=units``: then x stands for x W_in + b_in (only then; of the right size it is taken as it is).

    Weights, parts g, h, d, y side by side: kernel [U, 4U], recurrent_kernel [U, 4U] (TensorFlow's kernel is one on top
    of the other), bias [4U]; in_projection_kernel [I, U], in_projection_bias [U]. ``forget_bias`` is added in the
    graph. Raises ShapeError and TraceError for wrong arguments, ShapeError for an input of another size.

    Example:
        >>> from rnngraph.nn import RNN, Input, IntersectionRNNCell, trace
        >>> stack = RNN([IntersectionRNNCell(8, num_in_proj=8), IntersectionRNNCell(8)])
        >>> trace(stack, Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, num_in_proj: int | None = None, initializer: str | Initializer = "glorot_uniform",
                 forget_bias: float = 1.0, y_activation: str | Activation = "relu") -> None:
        super().__init__(check_int(self.label, "units", units))
        if num_in_proj is not None and num_in_proj != units:
            raise ShapeError(f"{self.label}: num_in_proj must be None or units = {units}, got {num_in_proj!r}")
        self.units, self.num_in_proj = units, num_in_proj
        self.initializer = check_initializer(self.label, "initializer", initializer)
        self.forget_bias = check_number(self.label, "forget_bias", forget_bias)
        self.y_activation = check_activation(self.label, "y_activation", y_activation)

    def build(self, input_size: int) -> None:
        u = self.units
        self.projects = input_size != u
        if self.projects and self.num_in_proj is None:
            raise ShapeError(f"{self.label}: expected {u} input features, as many as units, got {input_size}; give "
                             f"num_in_proj={u} to project the input")
        if self.projects:
            self.in_kernel = self.add_weight("in_projection_kernel", (input_size, u), self.initializer)
            self.in_bias = self.add_weight("in_projection_bias", (u,), "zeros")
        self.kernel = self.add_weight("kernel", (u, 4 * u), self.initializer)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, 4 * u), self.initializer)
        self.bias = self.add_weight("bias", (4 * u,), "zeros")

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if self.projects:
            x = x @ self.in_kernel + self.in_bias
        g, h, d, y = gate_sums("ghdy", [(x, self.kernel), (state, self.recurrent_kernel)], self.bias,
                               {"g": self.forget_bias, "d": self.forget_bias})
        g, d = ops.sigmoid(g), ops.sigmoid(d)
        return d * x + (1.0 - d) * self.y_activation(y), g * state + (1.0 - g) * ops.tanh(h)
