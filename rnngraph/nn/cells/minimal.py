"""Cells with a single gate: both systems' minimal gated units, MinimalRNN, and the chaos-free network beside it."""

from __future__ import annotations

from rnngraph.nn import ops
from rnngraph.nn.activations import Activation
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_activation, check_flag, check_initializer, check_int
from rnngraph.nn.cells.sums import gate_sums
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor


class MinimalGatedUnitCell(Cell):
    """Minimal gated unit of the paper (Zhou et al. 2016); state and output are h.

    f = sigmoid(x W_f + h R_f + b_f); n = activation(x W_n + (f h) R_n + b_n); h' = (1 - f) h + f n

    `MGUCell` is flax's, which multiplies after the matmul and uses the gate the other way round. Weights, f and n side
    by side: kernel [I, 2U], recurrent_kernel [U, 2U], bias [2U]. Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, Input, MinimalGatedUnitCell, trace
        >>> trace(RNN(MinimalGatedUnitCell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros") -> None:
        super().__init__(check_int(self.label, "units", units))
        self.units = units
        self.activation = check_activation(self.label, "activation", activation)
        self.gate = check_activation(self.label, "recurrent_activation", recurrent_activation)
        self.use_bias = check_flag(self.label, "use_bias", use_bias)
        self.kernel_initializer = check_initializer(self.label, "kernel_initializer", kernel_initializer)
        self.recurrent_initializer = check_initializer(self.label, "recurrent_initializer", recurrent_initializer)
        self.bias_initializer = check_initializer(self.label, "bias_initializer", bias_initializer)

    def build(self, input_size: int) -> None:
        u = self.units
        self.kernel = self.add_weight("kernel", (input_size, 2 * u), self.kernel_initializer)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, 2 * u), self.recurrent_initializer)
        self.bias = self.add_weight("bias", (2 * u,), self.bias_initializer) if self.use_bias else None

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        f, n = gate_sums("fn", [(x, self.kernel)], self.bias)
        r_f, r_n = self.recurrent_kernel.gates("fn")
        f = self.gate(f + state @ r_f)
        n = self.activation(n + (f * state) @ r_n)
        h = (1.0 - f) * state + f * n
        return h, h


class MGUCell(Cell):
    """Minimal gated unit of flax (flax.linen.MGUCell); state and output are h.

    f = gate_fn(x W_f + b_f + h R_f); n = activation_fn(x W_n + b_n + f (h R_n + b'_n)); h' = (1 - f) n + f h

    reset_gate=False leaves the gate out of n: n = activation_fn(x W_n + b_n + h R_n). `MinimalGatedUnitCell` is the
    paper's. Weights, f and n side by side: kernel [I, 2U], recurrent_kernel [U, 2U], forget_bias [U] (first 1),
    activation_bias [U] (first 0), recurrent_bias [U] (b', with reset_gate). Raises ShapeError and TraceError for wrong
    arguments.

    Example:
        >>> from rnngraph.nn import RNN, Input, MGUCell, trace
        >>> trace(RNN(MGUCell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, gate_fn: str | Activation = "sigmoid", activation_fn: str | Activation = "tanh",
                 kernel_init: str | Initializer = "glorot_uniform",
                 recurrent_kernel_init: str | Initializer = "orthogonal",
                 forget_bias_init: str | Initializer = "ones", activation_bias_init: str | Initializer = "zeros",
                 reset_gate: bool = True) -> None:
        super().__init__(check_int(self.label, "units", units))
        self.units = units
        self.gate_fn = check_activation(self.label, "gate_fn", gate_fn)
        self.activation_fn = check_activation(self.label, "activation_fn", activation_fn)
        self.kernel_init = check_initializer(self.label, "kernel_init", kernel_init)
        self.recurrent_kernel_init = check_initializer(self.label, "recurrent_kernel_init", recurrent_kernel_init)
        self.forget_bias_init = check_initializer(self.label, "forget_bias_init", forget_bias_init)
        self.activation_bias_init = check_initializer(self.label, "activation_bias_init", activation_bias_init)
        self.reset_gate = check_flag(self.label, "reset_gate", reset_gate)

    def build(self, input_size: int) -> None:
        u = self.units
        self.kernel = self.add_weight("kernel", (input_size, 2 * u), self.kernel_init)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, 2 * u), self.recurrent_kernel_init)
        self.forget_bias = self.add_weight("forget_bias", (u,), self.forget_bias_init)
        self.activation_bias = self.add_weight("activation_bias", (u,), self.activation_bias_init)
        if self.reset_gate:
            self.recurrent_bias = self.add_weight("recurrent_bias", (u,), self.activation_bias_init)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        (w_f, w_n), (r_f, r_n) = self.kernel.gates("fn"), self.recurrent_kernel.gates("fn")
        f = self.gate_fn(x @ w_f + self.forget_bias + state @ r_f)
        past = state @ r_n
        if self.reset_gate:
            past = f * (past + self.recurrent_bias)
        n = self.activation_fn(x @ w_n + self.activation_bias + past)
        h = (1.0 - f) * n + f * state
        return h, h


class MinimalRNNCell(Cell):
    """MinimalRNN (Chen et al. 2018), as in tf.contrib.rnn's rnn_cell.py; state and output are h.

    n = activation(x W); u = sigmoid(n V + h R + b); h' = u h + (1 - u) n

    Weights: kernel [I, U], gate_kernel [U, U] (V), recurrent_kernel [U, U] (TensorFlow has the three on top of each
    other), bias [U] (first 1). Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, Input, MinimalRNNCell, trace
        >>> trace(RNN(MinimalRNNCell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "ones") -> None:
        super().__init__(check_int(self.label, "units", units))
        self.units = units
        self.activation = check_activation(self.label, "activation", activation)
        self.kernel_initializer = check_initializer(self.label, "kernel_initializer", kernel_initializer)
        self.bias_initializer = check_initializer(self.label, "bias_initializer", bias_initializer)

    def build(self, input_size: int) -> None:
        u, init = self.units, self.kernel_initializer
        self.kernel = self.add_weight("kernel", (input_size, u), init)
        self.gate_kernel = self.add_weight("gate_kernel", (u, u), init)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, u), init)
        self.bias = self.add_weight("bias", (u,), self.bias_initializer)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        n = self.activation(x @ self.kernel)
        u = ops.sigmoid(n @ self.gate_kernel + self.bias + state @ self.recurrent_kernel)
        h = u * state + (1.0 - u) * n
        return h, h


class CFNCell(Cell):
    """Chaos-free network (Laurent and von Brecht 2017), as in tf.contrib.rnn's rnn_cell.py; state and output are h.

    t, e = sigmoid(x W + h R + b); h' = t activation(h) + (1 - e) activation(x W_n)

    The paper's input gate is e, TensorFlow's 1 - e: this is TensorFlow's. Weights: kernel [I, 3U] (t, e, n),
    recurrent_kernel [U, 2U] (t, e), bias [2U] (first 1). Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, CFNCell, Input, trace
        >>> trace(RNN(CFNCell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "ones") -> None:
        super().__init__(check_int(self.label, "units", units))
        self.units = units
        self.activation = check_activation(self.label, "activation", activation)
        self.kernel_initializer = check_initializer(self.label, "kernel_initializer", kernel_initializer)
        self.bias_initializer = check_initializer(self.label, "bias_initializer", bias_initializer)

    def build(self, input_size: int) -> None:
        u = self.units
        self.kernel = self.add_weight("kernel", (input_size, 3 * u), self.kernel_initializer)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, 2 * u), self.kernel_initializer)
        self.bias = self.add_weight("bias", (2 * u,), self.bias_initializer)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        w_t, w_e, w_n = self.kernel.gates("ten")
        parts = zip((w_t, w_e), self.bias.gates("te"), self.recurrent_kernel.gates("te"), strict=True)
        t, e = (ops.sigmoid(x @ w + b + state @ r) for w, b, r in parts)
        h = t * self.activation(state) + (1.0 - e) * self.activation(x @ w_n)
        return h, h
