"""UGRNN: a recurrence with one gate, the update gate."""

from __future__ import annotations

from rnngraph.nn import ops
from rnngraph.nn.activations import Activation
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_activation, check_initializer, check_int, check_number
from rnngraph.nn.cells.sums import gate_sums
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor


class UGRNNCell(Cell):
    """Update gate RNN (Collins et al. 2017), as tf.contrib.rnn.UGRNNCell; state and output are h [batch, units].

    g = sigmoid(x W_g + h R_g + b_g + forget_bias); n = activation(x W_c + h R_c + b_c); h' = g h + (1 - g) n

    Weights, gates g and c side by side: kernel [I, 2U], recurrent_kernel [U, 2U] (TensorFlow's kernel is one on top of
    the other), bias [2U]. ``forget_bias`` is added in the graph. Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, Input, UGRNNCell, trace
        >>> trace(RNN(UGRNNCell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, initializer: str | Initializer = "glorot_uniform", forget_bias: float = 1.0,
                 activation: str | Activation = "tanh") -> None:
        super().__init__(check_int(self.label, "units", units))
        self.units = units
        self.initializer = check_initializer(self.label, "initializer", initializer)
        self.forget_bias = check_number(self.label, "forget_bias", forget_bias)
        self.activation = check_activation(self.label, "activation", activation)

    def build(self, input_size: int) -> None:
        u = self.units
        self.kernel = self.add_weight("kernel", (input_size, 2 * u), self.initializer)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, 2 * u), self.initializer)
        self.bias = self.add_weight("bias", (2 * u,), "zeros")

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        g, c = gate_sums("gc", [(x, self.kernel), (state, self.recurrent_kernel)], self.bias, {"g": self.forget_bias})
        g = ops.sigmoid(g)
        h = g * state + (1.0 - g) * self.activation(c)
        return h, h
