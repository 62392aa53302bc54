"""The cells of every system: SimpleRNN, LSTM (gates i, f, c, o) and GRU (gates z, r, h), in Keras's weight layout."""

from __future__ import annotations

from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.cells.gated import GatedCell, gate_parts, plus
from rnngraph.nn.initializers import Initializer, UnitForgetBias, to_initializer
from rnngraph.nn.tensor import Tensor


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
        projected = plus(x @ self.kernel, self.bias if self.use_bias else None)
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
        i, f, g, o = (plus(x @ w, b) + h @ r for w, r, b in parts)
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
        xz, xr, xh = (plus(x @ w, b) for w, b in zip(gate_parts(self.kernel, "zrh"), inputs, strict=True))
        rz, rr, rh = gate_parts(self.recurrent_kernel, "zrh")
        z = self.recurrent_activation(xz + plus(h @ rz, recurrent[0]))
        r = self.recurrent_activation(xr + plus(h @ rr, recurrent[1]))
        if self.reset_after:
            n = self.activation(xh + r * plus(h @ rh, recurrent[2]))
        else:
            n = self.activation(xh + (r * h) @ rh)
        new = z * state + (1.0 - z) * n
        return new, new
