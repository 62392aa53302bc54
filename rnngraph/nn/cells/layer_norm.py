"""Recurrent cells with layer normalisation (Ba et al. 2016), each in the definitions of the systems that have it.

The systems differ in what is normalised: the sum of both projections of a gate, or each projection by itself over all
gates; in which epsilon is added to the variance; and in whether the normalised cell state is also the one that is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from rnngraph.errors import TraceError
from rnngraph.nn import ops
from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.cells.gated import GatedCell, check_number, check_rate, gate_parts, plus
from rnngraph.nn.cells.lstm import LSTMCell
from rnngraph.nn.context import active
from rnngraph.nn.initializers import Initializer, to_initializer
from rnngraph.nn.tensor import Tensor, wrap
from rnngraph.nn.weights import Weight


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalisation over the last axis, with its gain and shift."""

    epsilon: float
    gamma: Tensor
    beta: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.gamma, self.beta, epsilon=self.epsilon)


class Norms:
    """Makes the norms of one cell: weights ``<name>_gamma`` and ``<name>_beta``."""

    def __init__(self, cell: GatedCell, epsilon: float, gamma: str | Initializer, beta: str | Initializer) -> None:
        self.cell = cell
        self.epsilon = check_number(cell.label, "epsilon", epsilon)
        if self.epsilon <= 0.0:
            raise TraceError(f"{cell.label}: epsilon must be above 0, got {epsilon!r}")
        self.initializers = to_initializer(gamma), to_initializer(beta)

    def __call__(self, name: str, size: int, shift: bool = True) -> Norm:
        """One norm of ``size`` features; without ``shift`` there is no beta."""
        gamma, beta = (self.cell.add_weight(f"{name}_{part}", (size,), init) if part == "gamma" or shift else None
                       for part, init in zip(("gamma", "beta"), self.initializers, strict=True))
        assert gamma is not None
        return Norm(self.epsilon, gamma, beta)


def by_gate(norm: Norm, names: str) -> dict[str, Norm]:
    """A norm for each gate from the gains and shifts of all, one after the other."""
    assert isinstance(norm.gamma, Weight)
    gammas = norm.gamma.gates(names)
    betas = norm.beta.gates(names) if isinstance(norm.beta, Weight) else [None] * len(names)
    return {name: replace(norm, gamma=g, beta=b) for name, g, b in zip(names, gammas, betas, strict=True)}


def check_variant(label: str, variant: object, epsilons: Mapping[str, float]) -> str:
    """The name of a definition; TraceError, naming the choices, for others."""
    if not isinstance(variant, str) or variant not in epsilons:
        raise TraceError(f"{label}: variant must be one of {', '.join(map(repr, epsilons))}, got {variant!r}")
    return variant


class LayerNormLSTMCell(LSTMCell):
    """An LSTM with layer normalisation; LN is over features, (v - mean) / sqrt(variance + epsilon) * gamma + beta.

    variant  "addons" (default): tfa.rnn.LayerNormLSTMCell. i, f, c, o = parts of LN(x W) + LN(h R) + b, each LN over
             all gates; c' = LN(f c + i g) is kept and shown; epsilon 1e-3. PyTorch's LayerNormLSTMCell of
             benchmarks/fastrnns is this with epsilon 1e-5 and without b.
             Norms: kernel_norm [4U], recurrent_norm [4U], state_norm [U]
             "haste": haste's LayerNormLSTM and the paper's equations. As "addons", but kernel_norm and recurrent_norm
             have no beta, and c' = f c + i g is kept while the output sees LN(c'); epsilon 1e-5
             "contrib": tf.contrib.rnn.LayerNormBasicLSTMCell and LayerNormLSTMCell. i, f, c, o = LN(x W + h R), each
             gate by itself and without b; c' = LN(f c + i g) is kept and shown, cell_clip after it; epsilon 1e-12;
             forget_bias 1.0. Norms: gates_norm [4U] (the gates i, f, c, o one after the other), state_norm [U]

    ``epsilon``, ``use_bias`` and ``forget_bias`` are the variant's where they are None. ``candidate_dropout`` is the
    rate of a mask on the candidate g, drawn in every step in training (Semeniuta et al. 2016; contrib's
    dropout_keep_prob is 1 - rate). Other arguments, weights and errors: `LSTMCell`.

    Example:
        >>> from rnngraph.nn import RNN, Input, LayerNormLSTMCell, trace
        >>> layer = RNN(LayerNormLSTMCell(8, variant="contrib", peepholes=True, cell_clip=10.0))
        >>> trace(layer, Input(("batch", "time", 5))).outputs[0].shape
        ('batch', 8)
    """

    EPSILONS: ClassVar[dict[str, float]] = {"contrib": 1e-12, "addons": 1e-3, "haste": 1e-5}

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool | None = None,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", unit_forget_bias: bool = True,
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, *, variant: str = "addons",
                 epsilon: float | None = None, gamma_initializer: str | Initializer = "ones",
                 beta_initializer: str | Initializer = "zeros", candidate_dropout: float = 0.0, peepholes: bool = False,
                 cell_clip: float | tuple[float, float] | None = None, proj_size: int | None = None,
                 proj_clip: float | None = None, projection_initializer: str | Initializer = "glorot_uniform",
                 forget_bias: float | None = None) -> None:
        self.variant = check_variant(self.label, variant, self.EPSILONS)
        contrib = variant == "contrib"
        if contrib and use_bias:
            raise TraceError(f"{self.label}: the variant 'contrib' has no bias (the beta of each gate takes its "
                             "place); leave use_bias out")
        super().__init__(
            units, activation, recurrent_activation, not contrib if use_bias is None else use_bias, kernel_initializer,
            recurrent_initializer, bias_initializer, unit_forget_bias, dropout, recurrent_dropout, peepholes,
            cell_clip=cell_clip, proj_size=proj_size, proj_clip=proj_clip,
            projection_initializer=projection_initializer,
            forget_bias=(1.0 if contrib else 0.0) if forget_bias is None else forget_bias)
        self.candidate_dropout = check_rate(self.label, "candidate_dropout", candidate_dropout)
        self.norms = Norms(self, self.EPSILONS[variant] if epsilon is None else epsilon, gamma_initializer,
                           beta_initializer)

    def build(self, input_size: int) -> None:
        super().build(input_size)
        columns = len(self.gate_names) * self.units
        if self.variant == "contrib":
            self.gate_norms = by_gate(self.norms("gates_norm", columns), self.gate_names)
        else:
            shift = self.variant == "addons"
            self.kernel_norm = self.norms("kernel_norm", columns, shift)
            self.recurrent_norm = self.norms("recurrent_norm", columns, shift)
        self.state_norm = self.norms("state_norm", self.units)

    def sums(self, x: Tensor, h: Tensor) -> dict[str, Tensor]:
        if self.variant == "contrib":
            return {name: self.gate_norms[name](total) for name, total in super().sums(x, h).items()}
        xs, hs = self.dropped_inputs(x)[0], self.dropped_states(h)[0]
        total = self.kernel_norm(xs @ self.kernel) + self.recurrent_norm(hs @ self.recurrent_kernel)
        total = plus(total, self.bias if self.use_bias else None)
        return dict(zip(self.gate_names, ops.split(total, len(self.gate_names)), strict=True))

    def candidate(self, total: Tensor) -> Tensor:
        g, trace = super().candidate(total), active()
        if not trace.options.training or self.candidate_dropout == 0.0:
            return g
        return g * wrap(trace.step_mask(g.shape, self.candidate_dropout, g.dtype))

    def new_state(self, c: Tensor) -> Tensor:
        return super().new_state(c if self.variant == "haste" else self.state_norm(c))

    def shown(self, c: Tensor) -> Tensor:
        return self.state_norm(c) if self.variant == "haste" else c


class LayerNormGRUCell(GatedCell):
    """A GRU with layer normalisation, in haste's definition or in tf.contrib's.

    variant  "haste" (default): z, r, h-parts of LN(x W) + b and LN(h R) + b', each LN over all gates and without beta;
             n = activation(x-part + r * h-part); h' = z h + (1 - z) n; epsilon 1e-5.
             Weights: kernel_norm_gamma [3U], recurrent_norm_gamma [3U], bias [2, 3U]
             "contrib": tf.contrib.rnn.LayerNormBasicGRUCell. z, r = sigmoid(LN(x W + h R)), each gate by itself;
             n = activation(LN(x W_h) + r * LN(h R_h)); h' = (1 - z) h + z n, so that here z = 1 takes the new state;
             no bias; epsilon 1e-12. Norms: gates_norm [2U] (z, r), kernel_norm [U], recurrent_norm [U], with beta

    ``epsilon`` and ``use_bias`` are the variant's where they are None. Other arguments and errors: `GRUCell`, whose
    weights and gate order z, r, h this cell has.

    Example:
        >>> from rnngraph.nn import RNN, Input, LayerNormGRUCell, trace
        >>> trace(RNN(LayerNormGRUCell(8, variant="contrib")), Input(("batch", "time", 5))).outputs[0].shape
        ('batch', 8)
    """

    gate_names = "zrh"
    EPSILONS: ClassVar[dict[str, float]] = {"contrib": 1e-12, "haste": 1e-5}

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool | None = None,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", dropout: float = 0.0, recurrent_dropout: float = 0.0,
                 *, variant: str = "haste", epsilon: float | None = None, gamma_initializer: str | Initializer = "ones",
                 beta_initializer: str | Initializer = "zeros") -> None:
        self.variant = check_variant(self.label, variant, self.EPSILONS)
        if variant == "contrib" and use_bias:
            raise TraceError(f"{self.label}: the variant 'contrib' has no bias (the beta of each norm takes its "
                             "place); leave use_bias out")
        super().__init__(units, activation, variant != "contrib" if use_bias is None else use_bias, kernel_initializer,
                         recurrent_initializer, bias_initializer, dropout, recurrent_dropout)
        self.recurrent_activation = to_activation(recurrent_activation)
        self.norms = Norms(self, self.EPSILONS[variant] if epsilon is None else epsilon, gamma_initializer,
                           beta_initializer)

    def bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units)

    def build(self, input_size: int) -> None:
        super().build(input_size)
        if self.variant == "contrib":
            self.gate_norms = by_gate(self.norms("gates_norm", 2 * self.units), "zr")
            self.kernel_norm = self.norms("kernel_norm", self.units)
            self.recurrent_norm = self.norms("recurrent_norm", self.units)
        else:
            self.kernel_norm = self.norms("kernel_norm", 3 * self.units, shift=False)
            self.recurrent_norm = self.norms("recurrent_norm", 3 * self.units, shift=False)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        xs, hs = self.dropped_inputs(x)[0], self.dropped_states(state)[0]
        z, r, xn, hn = (self._contrib if self.variant == "contrib" else self._haste)(xs, hs)
        n = self.activation(xn + self.recurrent_activation(r) * hn)
        z = self.recurrent_activation(z)
        new = (1.0 - z) * state + z * n if self.variant == "contrib" else z * state + (1.0 - z) * n
        return new, new

    def _contrib(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        (wz, wr, wn), (rz, rr, rn) = gate_parts(self.kernel, "zrh"), gate_parts(self.recurrent_kernel, "zrh")
        z, r = self.gate_norms["z"](x @ wz + h @ rz), self.gate_norms["r"](x @ wr + h @ rr)
        return z, r, self.kernel_norm(x @ wn), self.recurrent_norm(h @ rn)

    def _haste(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = [self.bias.part("bias", 0), self.bias.part("recurrent_bias", 1)] if self.use_bias else [None, None]
        xz, xr, xn = ops.split(plus(self.kernel_norm(x @ self.kernel), rows[0]), 3)
        hz, hr, hn = ops.split(plus(self.recurrent_norm(h @ self.recurrent_kernel), rows[1]), 3)
        return xz + hz, xr + hr, xn, hn


class LayerNormSimpleRNNCell(GatedCell):
    """h' = activation(LN(x W + h R) + b), LN with a gain gamma only (tfa.rnn.LayerNormSimpleRNNCell; epsilon 1e-5).

    Weights: kernel [I, U], recurrent_kernel [U, U], bias [U], norm_gamma [U]. Other arguments and errors:
    `SimpleRNNCell`.

    Example:
        >>> from rnngraph.nn import RNN, Input, LayerNormSimpleRNNCell, trace
        >>> trace(RNN(LayerNormSimpleRNNCell(8)), Input(("batch", "time", 5))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", dropout: float = 0.0, recurrent_dropout: float = 0.0,
                 *, epsilon: float = 1e-5, gamma_initializer: str | Initializer = "ones") -> None:
        super().__init__(units, activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
                         dropout, recurrent_dropout)
        self.norms = Norms(self, epsilon, gamma_initializer, "zeros")

    def build(self, input_size: int) -> None:
        super().build(input_size)
        self.norm = self.norms("norm", self.units, shift=False)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        (xs,), (hs,) = self.dropped_inputs(x), self.dropped_states(state)
        total = self.norm(xs @ self.kernel + hs @ self.recurrent_kernel)
        new = self.activation(plus(total, self.bias if self.use_bias else None))
        return new, new
