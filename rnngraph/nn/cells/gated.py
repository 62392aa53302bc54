"""What cells with gates share. Each gate is one matmul per operand; the passes join them.

Weights are stored as Keras stores them: kernel [I, G*U], recurrent_kernel [U, G*U], bias [G*U] (GRU with
reset_after: [2, G*U], input bias then recurrent bias).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import ops
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
                 bias_initializer: str | Initializer, dropout: float, recurrent_dropout: float,
                 implementation: int = 2, clip: float | None = None) -> None:
        super().__init__(check_size(self.label, "units", units))
        self.units = units
        self.activation = to_activation(activation)
        self.use_bias = use_bias
        self.initializers = (to_initializer(kernel_initializer), to_initializer(recurrent_initializer),
                             to_initializer(bias_initializer))
        self.dropout = check_rate(self.label, "dropout", dropout)
        self.recurrent_dropout = check_rate(self.label, "recurrent_dropout", recurrent_dropout)
        if implementation not in (1, 2) or isinstance(implementation, bool):
            raise TraceError(f"{self.label}: implementation must be 1 (a dropout mask for each gate) or 2 (one for "
                             f"all gates), got {implementation!r}")
        self.implementation = implementation
        self.clip = check_bound(self.label, "clip", clip)

    @property
    def output_size(self) -> int:
        """The features of the output and of the state that the recurrent matmuls read."""
        return self.units

    def build(self, input_size: int) -> None:
        columns = len(self.gate_names) * self.units
        kernel_init, recurrent_init, bias_init = self.initializers
        self.kernel = self.add_weight("kernel", (input_size, columns), kernel_init)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (self.output_size, columns), recurrent_init)
        if self.use_bias:
            self.bias = self.add_weight("bias", self.bias_shape(), bias_init)

    def bias_shape(self) -> tuple[int, ...]:
        return (len(self.gate_names) * self.units,)

    def dropped_inputs(self, x: Tensor) -> list[Tensor]:
        """x as the input matmul of each gate sees it: with the masks of this sequence, when training with dropout."""
        return self._per_gate(x, "input", self.dropout)

    def dropped_states(self, h: Tensor) -> list[Tensor]:
        """h as the recurrent matmul of each gate sees it, with the masks of this sequence."""
        return self._per_gate(h, "recurrent", self.recurrent_dropout)

    def _per_gate(self, x: Tensor, kind: str, rate: float) -> list[Tensor]:
        if self.implementation == 2:
            return [masked(x, kind, rate)] * len(self.gate_names)
        return [masked(x, f"{kind}_{gate}", rate) for gate in self.gate_names]

    def clipped(self, x: Tensor) -> Tensor:
        """What an activation is given, within -clip..clip where there is a ``clip``."""
        return x if self.clip is None else ops.clip(x, -self.clip, self.clip)

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


def check_size(label: str, name: str, size: Any) -> int:
    """A number of features; ShapeError unless it is an int >= 1."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ShapeError(f"{label}: {name} must be an int >= 1, got {size!r}")
    return size


def check_rate(label: str, name: str, rate: Any) -> float:
    """A dropout rate; TraceError unless it is in 0..1."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 <= rate <= 1.0:
        raise TraceError(f"{label}: {name} must be in 0..1, got {rate!r}")
    return float(rate)


def check_number(label: str, name: str, value: Any) -> float:
    """A number; TraceError unless it is finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TraceError(f"{label}: {name} must be a finite number, got {value!r}")
    return float(value)


def check_bound(label: str, name: str, bound: Any) -> float | None:
    """A bound of -bound..bound, or None; TraceError unless it is a finite number above 0."""
    if bound is not None and check_number(label, name, bound) <= 0.0:
        raise TraceError(f"{label}: {name} must be above 0 (or None), got {bound!r}")
    return None if bound is None else float(bound)


def check_range(label: str, name: str, bound: Any) -> tuple[float, float] | None:
    """A range as (low, high), from a bound or a pair, or None; TraceError unless low < high."""
    if not isinstance(bound, tuple | list):
        limit = check_bound(label, name, bound)
        return None if limit is None else (-limit, limit)
    if len(bound) != 2:
        raise TraceError(f"{label}: {name} must be a number above 0, a pair (low, high) or None, got {bound!r}")
    low, high = (check_number(label, name, b) for b in bound)
    if low >= high:
        raise TraceError(f"{label}: {name} must have low < high, got {bound!r}")
    return low, high


def masked(x: Tensor, kind: str, rate: float) -> Tensor:
    """x with a dropout mask that holds for the whole sequence, when training."""
    trace = active()
    if not trace.options.training or rate == 0.0:
        return x
    return x * wrap(trace.sequence_mask(kind, x.shape, rate, x.dtype))


def plus(x: Tensor, bias: Tensor | None) -> Tensor:
    """x + bias, or x where there is none."""
    return x if bias is None else x + bias
