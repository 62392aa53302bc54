"""What cells with gates share. Each gate is one matmul per operand; the passes join them.

Weights are stored as Keras stores them: kernel [I, G*U], recurrent_kernel [U, G*U], bias [G*U] (GRU with
reset_after: [2, G*U], input bias then recurrent bias).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.cell import Cell
from rnngraph.nn.context import active
from rnngraph.nn.initializers import Initializer, to_initializer
from rnngraph.nn.tensor import Tensor, wrap
from rnngraph.nn.weights import Weight, WeightPart


class GatedCell(Cell):
    """What the built-in cells share: arguments, weights, and dropout masks that hold for a whole sequence."""

    gate_names = "h"

    def __init__(self, units: int, activation: str | Activation, use_bias: bool,
                 kernel_initializer: str | Initializer, recurrent_initializer: str | Initializer,
                 bias_initializer: str | Initializer, dropout: float, recurrent_dropout: float) -> None:
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ShapeError(f"{self.label}: units must be an int >= 1, got {units!r}")
        super().__init__(units)
        self.units = units
        self.activation = to_activation(activation)
        self.use_bias = use_bias
        self.initializers = (to_initializer(kernel_initializer), to_initializer(recurrent_initializer),
                             to_initializer(bias_initializer))
        self.dropout = check_rate(self.label, "dropout", dropout)
        self.recurrent_dropout = check_rate(self.label, "recurrent_dropout", recurrent_dropout)

    def build(self, input_size: int) -> None:
        g, u = len(self.gate_names), self.units
        kernel_init, recurrent_init, bias_init = self.initializers
        self.kernel = self.add_weight("kernel", (input_size, g * u), kernel_init)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, g * u), recurrent_init)
        if self.use_bias:
            self.bias = self.add_weight("bias", self.bias_shape(), bias_init)

    def bias_shape(self) -> tuple[int, ...]:
        return (len(self.gate_names) * self.units,)

    def dropped_input(self, x: Tensor) -> Tensor:
        """x with the input mask of this sequence, when training with dropout."""
        return masked(x, "input", self.dropout)

    def dropped_state(self, h: Tensor) -> Tensor:
        """h as the recurrent matmuls see it, with the mask of this sequence that all gates share."""
        return masked(h, "recurrent", self.recurrent_dropout)

    def biases(self, row: int | None = None) -> Sequence[WeightPart | None]:
        """The bias of each gate, Nones without bias."""
        return gate_parts(self.bias, self.gate_names, row) if self.use_bias else [None] * len(self.gate_names)


def gate_parts(weight: Weight, names: str, row: int | None = None) -> list[WeightPart]:
    """The columns of each gate; for the two-row bias of a GRU, of the input's or the recurrent row."""
    if row is None:
        return weight.gates(names)
    prefix = "bias" if row == 0 else "recurrent_bias"
    parts = weight.gates(names, row)
    for part, name in zip(parts, names, strict=True):
        part.hint = f"{prefix}_{name}"
    return parts


def check_rate(label: str, name: str, rate: Any) -> float:
    """A dropout rate; TraceError unless it is in 0..1."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 <= rate <= 1.0:
        raise TraceError(f"{label}: {name} must be in 0..1, got {rate!r}")
    return float(rate)


def masked(x: Tensor, kind: str, rate: float) -> Tensor:
    """x with a dropout mask that holds for the whole sequence, when training."""
    trace = active()
    if not trace.options.training or rate == 0.0:
        return x
    return x * wrap(trace.sequence_mask(kind, x.shape, rate, x.dtype))


def plus(x: Tensor, bias: Tensor | None) -> Tensor:
    """x + bias, or x where there is none."""
    return x if bias is None else x + bias
