"""SimpleRNNCell: the plain recurrence (Elman 1990)."""

from __future__ import annotations

from rnngraph.nn.activations import Activation
from rnngraph.nn.cells.gated import GatedCell, plus
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor


class SimpleRNNCell(GatedCell):
    """h' = activation(x W + b + h R); the output is h'.

    implementation  1 and 2 (default) are the same here: there is one gate, so one mask for each kind of dropout
    clip            bounds what the activation is given to -clip..clip (ONNX RNN)

    Raises ShapeError for units that are no int >= 1, TraceError for other arguments out of their range.

    Example:
        >>> from rnngraph.nn import RNN, Input, SimpleRNNCell, trace
        >>> trace(RNN(SimpleRNNCell(4, activation="relu", clip=5.0)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 4)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros",
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, *, implementation: int = 2,
                 clip: float | None = None) -> None:
        super().__init__(units, activation, use_bias, kernel_initializer, recurrent_initializer,
                         bias_initializer, dropout, recurrent_dropout, implementation, clip)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        (xs,), (hs,) = self.dropped_inputs(x), self.dropped_states(state)
        projected = plus(xs @ self.kernel, self.bias if self.use_bias else None)
        new = self.activation(self.clipped(projected + hs @ self.recurrent_kernel))
        return new, new
