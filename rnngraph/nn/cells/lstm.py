"""LSTMCell with the field's options (peepholes, clipping, projection, coupled gates), LSTMPCell by MXNet's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnngraph.errors import TraceError
from rnngraph.nn import ops
from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.cells.gated import GatedCell, check_bound, check_number, check_range, check_size, gate_parts, plus
from rnngraph.nn.initializers import Initializer, UnitForgetBias, to_initializer
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.weights import Weight


class LSTMCell(GatedCell):
    """Gates i, f, c, o (Hochreiter and Schmidhuber 1997, with forget gates); states h and c; the output is h.

    i, f, o = recurrent_activation(x W + b + h R [+ p * c]); c' = f c + i activation(x W_c + b_c + h R_c);
    h' = o activation(c'). Weights: kernel [I, 4U], recurrent_kernel [U, 4U], bias [4U]; options add their own.

    peepholes       i and f see c, o sees c' (weights peephole_i, _f, _o [U]; tf.nn LSTMCell, ONNX's P)
    implementation  2 (default): one dropout mask and one recurrent mask for all gates; 1: a mask for each gate
                    (Keras's names; Keras itself takes 1 wherever there is recurrent dropout)
    clip            bounds what the activations of i, f, c, o are given to -clip..clip, peepholes and biases included:
                    ONNX's `clip`; the cell state is not bounded
    cell_clip       bounds the new cell state, before the gate o and the output see it and before it is kept:
                    tf.nn LSTMCell's `cell_clip`; a pair (low, high) for the state clip of MXNet and cuDNN
    proj_size       h' = (o activation(c')) P of this size, without a bias (Sak et al. 2014; PyTorch's `proj_size`,
                    tf.nn's `num_proj`). Weights: projection [U, P], and recurrent_kernel is [P, 4U]. None or 0: none
    proj_clip       bounds the projected h' to -proj_clip..proj_clip (tf.nn)
    forget_bias     a number added to the gate f in the graph, as tf.contrib's cells do (their default is 1.0), besides
                    ``unit_forget_bias``, which only starts the bias of f at 1 (Keras): give one of the two
    input_forget    f = 1 - i (ONNX's `input_forget`): the gates are i, c, o, kernel [I, 3U], and ONNX's weights of f,
                    which nothing reads, are left out. For i = 1 - f see `CoupledInputForgetGateLSTMCell`

    Raises ShapeError for sizes that are no int >= 1, TraceError for other arguments out of their range.

    Example:
        >>> from rnngraph.nn import RNN, Input, LSTMCell, trace
        >>> layer = RNN(LSTMCell(8, proj_size=3, cell_clip=10.0), return_state=True)
        >>> [o.shape for o in trace(layer, Input(("batch", "time", 5))).outputs]  # y, h, c
        [('batch', 3), ('batch', 3), ('batch', 8)]
    """

    gate_names = "ifco"

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", unit_forget_bias: bool = True,
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, peepholes: bool = False, *,
                 implementation: int = 2, clip: float | None = None,
                 cell_clip: float | tuple[float, float] | None = None, proj_size: int | None = None,
                 proj_clip: float | None = None, projection_initializer: str | Initializer = "glorot_uniform",
                 forget_bias: float = 0.0, input_forget: bool = False) -> None:
        if input_forget:
            self.gate_names = self.gate_names.replace("f", "")
        base = to_initializer(bias_initializer)
        if unit_forget_bias and "f" in self.gate_names:
            base = UnitForgetBias(base, self.gate_names.index("f"), len(self.gate_names))
        super().__init__(units, activation, use_bias, kernel_initializer, recurrent_initializer, base,
                         dropout, recurrent_dropout, implementation, clip)
        self.recurrent_activation = to_activation(recurrent_activation)
        self.peepholes = peepholes
        self.cell_clip = check_range(self.label, "cell_clip", cell_clip)
        self.proj_size = check_size(self.label, "proj_size", proj_size) if _given(proj_size) else None
        self.proj_clip = check_bound(self.label, "proj_clip", proj_clip)
        if self.proj_clip is not None and self.proj_size is None:
            raise TraceError(f"{self.label}: proj_clip={proj_clip!r} bounds a projection, and there is none; give "
                             "proj_size too")
        self.projection_initializer = to_initializer(projection_initializer)
        self.forget_bias = check_number(self.label, "forget_bias", forget_bias)
        if self.forget_bias and "f" not in self.gate_names:
            raise TraceError(f"{self.label}: with input_forget the gate f is 1 - i and has no sum to add "
                             f"forget_bias={forget_bias!r} to; leave one of them out")
        self.state_size = {"h": self.output_size, "c": units}

    @property
    def output_size(self) -> int:
        return self.units if self.proj_size is None else self.proj_size

    def build(self, input_size: int) -> None:
        super().build(input_size)
        if self.peepholes:
            init = self.initializers[0]
            self.peephole = {g: self.add_weight(f"peephole_{g}", (self.units,), init)
                             for g in "ifo" if g in self.gate_names}
        if self.proj_size is not None:
            self.projection = self.add_weight("projection", (self.units, self.proj_size), self.projection_initializer)

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        c = state["c"]
        sums = self.sums(x, state["h"])
        if self.forget_bias:
            sums["f"] = sums["f"] + self.forget_bias
        gates = {g: self._gate(sums, g, c) for g in self.gate_names if g in "if"}
        i = gates["i"] if "i" in gates else 1.0 - gates["f"]
        f = gates["f"] if "f" in gates else 1.0 - gates["i"]
        c = self.new_state(f * c + i * self.candidate(sums["c"]))
        o = self._gate(sums, "o", c)
        h = self.projected(o * self.activation(self.shown(c)))
        return h, {"h": h, "c": c}

    def _gate(self, sums: dict[str, Tensor], gate: str, c: Tensor) -> Tensor:
        total = sums[gate] + c * self.peephole[gate] if self.peepholes else sums[gate]
        return self.recurrent_activation(self.clipped(total))

    # --- what variants change -----------------------------------------------------------------------------------

    def by_gate(self, weight: Weight) -> Sequence[Tensor]:
        """The matrices of the gates, from ``kernel`` or ``recurrent_kernel``."""
        return gate_parts(weight, self.gate_names)

    def projecting(self) -> Tensor:
        """The matrix [U, P] of the projection."""
        return self.projection

    def sums(self, x: Tensor, h: Tensor) -> dict[str, Tensor]:
        """x W + b + h R of each gate."""
        parts = zip(self.gate_names, self.dropped_inputs(x), self.by_gate(self.kernel), self.dropped_states(h),
                    self.by_gate(self.recurrent_kernel), self.biases(), strict=True)
        return {name: plus(xs @ w, b) + hs @ r for name, xs, w, hs, r, b in parts}

    def candidate(self, total: Tensor) -> Tensor:
        """What the gate i lets into the cell state."""
        return self.activation(self.clipped(total))

    def new_state(self, c: Tensor) -> Tensor:
        """The cell state as it is kept."""
        return c if self.cell_clip is None else ops.clip(c, *self.cell_clip)

    def shown(self, c: Tensor) -> Tensor:
        """The new cell state as the output sees it."""
        return c

    def projected(self, h: Tensor) -> Tensor:
        """The output and state of ``o activation(c)``."""
        if self.proj_size is None:
            return h
        h = h @ self.projecting()
        return h if self.proj_clip is None else ops.clip(h, -self.proj_clip, self.proj_clip)


class LSTMPCell(LSTMCell):
    """The LSTM with a projected output under the name of MXNet (gluon.contrib.rnn.LSTMPCell): r' = (o tanh(c')) P.

    ``projection_size`` is `LSTMCell`'s ``proj_size``, and the state that MXNet calls r is h. MXNet's h2r_weight
    [P, U] is ``projection`` transposed, its h2h_weight [4U, P] ``recurrent_kernel`` transposed, and its two biases
    are summed. Other arguments and errors: `LSTMCell`.

    Example:
        >>> from rnngraph.nn import RNN, Input, LSTMPCell, trace
        >>> trace(RNN(LSTMPCell(8, 3)), Input(("batch", "time", 5))).outputs[0].shape
        ('batch', 3)
    """

    def __init__(self, units: int, projection_size: int, **options: Any) -> None:
        if "proj_size" in options:
            raise TraceError(f"{self.label}: give the size of the projection as projection_size alone")
        super().__init__(units, proj_size=check_size(self.label, "projection_size", projection_size), **options)


def _given(size: object) -> bool:
    """Whether a projection is asked for; PyTorch writes none as 0."""
    return size is not None and (isinstance(size, bool) or size != 0)
