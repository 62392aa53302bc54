"""Cells whose units see only their own past: the recurrent matrices are diagonal, kept as vectors."""

from __future__ import annotations

from rnngraph.nn import ops
from rnngraph.nn.activations import Activation
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_activation, check_flag, check_initializer, check_int, check_number
from rnngraph.nn.cells.sums import gate_sums
from rnngraph.nn.initializers import Initializer, RandomUniform
from rnngraph.nn.tensor import Tensor

UNIT_UNIFORM = RandomUniform(-1.0, 1.0)


class IndRNNCell(Cell):
    """Independently recurrent network (Li et al. 2018), as tf.contrib.rnn.IndRNNCell; state and output are h.

    h' = activation(x W + u h + b)

    The paper has relu, TensorFlow tanh: the default is TensorFlow's. Weights: kernel [I, U], recurrent_kernel [U] (u,
    first uniform in -1..1), bias [U]. Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, Input, IndRNNCell, trace
        >>> trace(RNN(IndRNNCell(8, activation="relu")), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = UNIT_UNIFORM,
                 bias_initializer: str | Initializer = "zeros") -> None:
        super().__init__(check_int(self.label, "units", units))
        self.units = units
        self.activation = check_activation(self.label, "activation", activation)
        self.use_bias = check_flag(self.label, "use_bias", use_bias)
        self.kernel_initializer = check_initializer(self.label, "kernel_initializer", kernel_initializer)
        self.recurrent_initializer = check_initializer(self.label, "recurrent_initializer", recurrent_initializer)
        self.bias_initializer = check_initializer(self.label, "bias_initializer", bias_initializer)

    def build(self, input_size: int) -> None:
        self.kernel = self.add_weight("kernel", (input_size, self.units), self.kernel_initializer)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (self.units,), self.recurrent_initializer)
        if self.use_bias:
            self.bias = self.add_weight("bias", (self.units,), self.bias_initializer)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        total = x @ self.kernel
        if self.use_bias:
            total = total + self.bias
        h = self.activation(total + self.recurrent_kernel * state)
        return h, h


class IndyLSTMCell(Cell):
    """LSTM with diagonal recurrent matrices (Gonnet and Deselaers 2019), as tf.contrib.rnn.IndyLSTMCell.

    i, f, o = sigmoid(x W + u h + b), f with forget_bias; c' = f c + i activation(x W_j + u_j h + b_j);
    h' = o activation(c'). States h and c, the output is h.

    Weights, gates i, j, f, o side by side: kernel [I, 4U], recurrent_kernel [4U] (first uniform in -1..1), bias [4U].
    ``forget_bias`` is added in the graph. Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, IndyLSTMCell, Input, trace
        >>> trace(RNN(IndyLSTMCell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, forget_bias: float = 1.0, activation: str | Activation = "tanh",
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "zeros") -> None:
        self.units = check_int(self.label, "units", units)
        super().__init__({"h": units, "c": units})
        self.forget_bias = check_number(self.label, "forget_bias", forget_bias)
        self.activation = check_activation(self.label, "activation", activation)
        self.kernel_initializer = check_initializer(self.label, "kernel_initializer", kernel_initializer)
        self.bias_initializer = check_initializer(self.label, "bias_initializer", bias_initializer)

    def build(self, input_size: int) -> None:
        self.kernel = self.add_weight("kernel", (input_size, 4 * self.units), self.kernel_initializer)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (4 * self.units,), UNIT_UNIFORM)
        self.bias = self.add_weight("bias", (4 * self.units,), self.bias_initializer)

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        h, c = state["h"], state["c"]
        inputs = gate_sums("ijfo", [(x, self.kernel)], self.bias, {"f": self.forget_bias})
        i, j, f, o = (a + u * h for a, u in zip(inputs, self.recurrent_kernel.gates("ijfo"), strict=True))
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * self.activation(j)
        h = ops.sigmoid(o) * self.activation(c)
        return h, {"h": h, "c": c}


class IndyGRUCell(Cell):
    """GRU with diagonal recurrent matrices, as tf.contrib.rnn.IndyGRUCell; state and output are h.

    r, z = sigmoid(x W + u h + b); n = activation(x W_n + u_n r h + b_n); h' = z h + (1 - z) n

    Weights: gate_kernel [I, 2U] (r, z), gate_recurrent_kernel [2U], gate_bias [2U] (first 1); candidate_kernel [I, U],
    candidate_recurrent_kernel [U], candidate_bias [U] (first 0); the vectors are first uniform in -1..1. A
    ``bias_initializer`` holds for both biases. Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, IndyGRUCell, Input, trace
        >>> trace(RNN(IndyGRUCell(8)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer | None = None) -> None:
        super().__init__(check_int(self.label, "units", units))
        self.units = units
        self.activation = check_activation(self.label, "activation", activation)
        self.kernel_initializer = check_initializer(self.label, "kernel_initializer", kernel_initializer)
        self.bias_initializers = [check_initializer(self.label, "bias_initializer", bias_initializer or default)
                                  for default in ("ones", "zeros")]

    def build(self, input_size: int) -> None:
        u, of_gates, of_candidate = self.units, *self.bias_initializers
        self.gate_kernel = self.add_weight("gate_kernel", (input_size, 2 * u), self.kernel_initializer)
        self.gate_recurrent_kernel = self.add_weight("gate_recurrent_kernel", (2 * u,), UNIT_UNIFORM)
        self.gate_bias = self.add_weight("gate_bias", (2 * u,), of_gates)
        self.candidate_kernel = self.add_weight("candidate_kernel", (input_size, u), self.kernel_initializer)
        self.candidate_recurrent_kernel = self.add_weight("candidate_recurrent_kernel", (u,), UNIT_UNIFORM)
        self.candidate_bias = self.add_weight("candidate_bias", (u,), of_candidate)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        inputs = gate_sums("rz", [(x, self.gate_kernel)], self.gate_bias)
        r, z = (ops.sigmoid(a + u * state)
                for a, u in zip(inputs, self.gate_recurrent_kernel.gates("rz"), strict=True))
        n = self.activation(x @ self.candidate_kernel + self.candidate_bias
                            + self.candidate_recurrent_kernel * (r * state))
        h = z * state + (1.0 - z) * n
        return h, h
