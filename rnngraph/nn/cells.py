"""The built-in cells. Each gate is one matmul per operand; the passes join them.

Weights are stored as Keras stores them: kernel [I, G*U], recurrent_kernel [U, G*U], bias [G*U] (GRU with
reset_after: [2, G*U], input bias then recurrent bias); gates LSTM i, f, c, o and GRU z, r, h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.cell import Cell, States
from rnngraph.nn.context import active
from rnngraph.nn.initializers import Initializer, UnitForgetBias, to_initializer
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
        return _masked(x, "input", self.dropout)

    def dropped_state(self, h: Tensor) -> Tensor:
        """h as the recurrent matmuls see it, with the mask of this sequence that all gates share."""
        return _masked(h, "recurrent", self.recurrent_dropout)

    def biases(self, row: int | None = None) -> Sequence[WeightPart | None]:
        """The bias of each gate, Nones without bias."""
        return gate_parts(self.bias, self.gate_names, row) if self.use_bias else [None] * len(self.gate_names)


class SimpleRNNCell(GatedCell):
    """h' = activation(x W + b + h R); the output is h'."""

    def __init__(self, units: int, activation: str | Activation = "tanh", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros",
                 dropout: float = 0.0, recurrent_dropout: float = 0.0) -> None:
        super().__init__(units, activation, use_bias, kernel_initializer, recurrent_initializer,
                         bias_initializer, dropout, recurrent_dropout)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x, h = self.dropped_input(x), self.dropped_state(state)
        projected = _plus(x @ self.kernel, self.bias if self.use_bias else None)
        new = self.activation(projected + h @ self.recurrent_kernel)
        return new, new


class LSTMCell(GatedCell):
    """Gates i, f, c, o (Hochreiter and Schmidhuber 1997, with forget gates); states h and c; the output is h.

    i, f, o = recurrent_activation(x W + b + h R [+ p * c]); c' = f c + i activation(x W_c + b_c + h R_c);
    h' = o activation(c'). With peepholes the gates i and f see c and the gate o sees c'.
    """

    gate_names = "ifco"

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", unit_forget_bias: bool = True,
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, peepholes: bool = False) -> None:
        base = UnitForgetBias(to_initializer(bias_initializer)) if unit_forget_bias else bias_initializer
        super().__init__(units, activation, use_bias, kernel_initializer, recurrent_initializer, base,
                         dropout, recurrent_dropout)
        self.state_size = {"h": units, "c": units}
        self.recurrent_activation = to_activation(recurrent_activation)
        self.peepholes = peepholes

    def build(self, input_size: int) -> None:
        super().build(input_size)
        if self.peepholes:
            init = self.initializers[0]
            self.peephole = {g: self.add_weight(f"peephole_{g}", (self.units,), init) for g in "ifo"}

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, h, c = self.dropped_input(x), self.dropped_state(state["h"]), state["c"]
        parts = zip(gate_parts(self.kernel, "ifco"), gate_parts(self.recurrent_kernel, "ifco"), self.biases(),
                    strict=True)
        i, f, g, o = (_plus(x @ w, b) + h @ r for w, r, b in parts)
        if self.peepholes:
            i, f = i + c * self.peephole["i"], f + c * self.peephole["f"]
        c = self.recurrent_activation(f) * c + self.recurrent_activation(i) * self.activation(g)
        if self.peepholes:
            o = o + c * self.peephole["o"]
        h = self.recurrent_activation(o) * self.activation(c)
        return h, {"h": h, "c": c}


class GRUCell(GatedCell):
    """Gates z, r, h (Cho et al. 2014); h' = z h + (1 - z) n; the output is h'.

    reset_after  n = activation(x W_h + b_h + r (h R_h + b'_h)), what cuDNN and PyTorch compute (default);
                 otherwise n = activation(x W_h + b_h + (r h) R_h), and there is no recurrent bias
    """

    gate_names = "zrh"

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros",
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, reset_after: bool = True) -> None:
        super().__init__(units, activation, use_bias, kernel_initializer, recurrent_initializer,
                         bias_initializer, dropout, recurrent_dropout)
        self.recurrent_activation = to_activation(recurrent_activation)
        self.reset_after = reset_after

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x, h = self.dropped_input(x), self.dropped_state(state)
        inputs = self.biases(0 if self.reset_after else None)
        recurrent = self.biases(1) if self.reset_after else [None] * 3
        xz, xr, xh = (_plus(x @ w, b) for w, b in zip(gate_parts(self.kernel, "zrh"), inputs, strict=True))
        rz, rr, rh = gate_parts(self.recurrent_kernel, "zrh")
        z = self.recurrent_activation(xz + _plus(h @ rz, recurrent[0]))
        r = self.recurrent_activation(xr + _plus(h @ rr, recurrent[1]))
        if self.reset_after:
            n = self.activation(xh + r * _plus(h @ rh, recurrent[2]))
        else:
            n = self.activation(xh + (r * h) @ rh)
        new = z * state + (1.0 - z) * n
        return new, new


class StackedCells(Cell):
    """Cells on top of each other in one step: the output of each is the input of the next."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        if not cells or not all(isinstance(c, Cell) for c in cells):
            raise TraceError(f"StackedCells: expected a list of cells, got {cells!r}")
        self.cells = list(cells)
        self.state_size = {f"cell{i}.{name}": shape for i, cell in enumerate(self.cells)
                           for name, shape in zip(States.of(cell).names, States.of(cell).shapes, strict=True)}

    def children(self) -> dict[str, Cell]:
        return {f"cell{i}": cell for i, cell in enumerate(self.cells)}

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        new: dict[str, Tensor] = {}
        for name, cell in self.children().items():
            with active().scope(name):
                if x.rank != 2 or not isinstance(x.shape[-1], int):
                    raise ShapeError(f"{cell.label}: expected an input [batch, features], got {x.type}")
                cell.ensure_built(x.shape[-1])
                names = [f"{name}.{n}" for n in States.of(cell).names]
                x, states = cell.checked_step(x, [state[n] for n in names])
                new.update(zip(names, states, strict=True))
        return x, new


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


def _masked(x: Tensor, kind: str, rate: float) -> Tensor:
    trace = active()
    if not trace.options.training or rate == 0.0:
        return x
    return x * wrap(trace.sequence_mask(kind, x.shape, rate, x.dtype))


def _plus(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias
