"""Group LSTM: LSTMs side by side on parts of the input and of the state."""

from __future__ import annotations

from rnngraph.errors import ShapeError
from rnngraph.nn import ops
from rnngraph.nn.activations import Activation
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_activation, check_initializer, check_int, check_number
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor

GATES = "ijfo"


class GLSTMCell(Cell):
    """Group LSTM (Kuchaiev and Ginsburg 2017), as tf.contrib.rnn.GLSTMCell; states h and c, the output is h.

    Input, h and c are cut into ``number_of_groups`` equal parts, and each group is an LSTM of its own (gates i, j, f,
    o): i, f, o = sigmoid(x_g W + h_g R + b), f with forget_bias; c' = f c + i tanh(j); h' = o activation(c').
    One group is an LSTM. TensorFlow's ``activation`` is that of the output only, and so is this one.

    num_proj  size of h after a projection of all groups' outputs; None: no projection, h has ``units``

    Weights: group<k>_kernel [I/G, 4U/G], group<k>_recurrent_kernel [H/G, 4U/G] with H = num_proj or U (TensorFlow's
    kernel of a group is one on top of the other), bias [4U] (each gate's for all groups), projection_kernel
    [U, num_proj]. ``forget_bias`` is added in the graph. Raises ShapeError when units, num_proj or the input's size
    cannot be cut into the groups, ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, GLSTMCell, Input, trace
        >>> trace(RNN(GLSTMCell(8, number_of_groups=4)), Input(("batch", "time", 12))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, initializer: str | Initializer = "glorot_uniform", num_proj: int | None = None,
                 number_of_groups: int = 1, forget_bias: float = 1.0, activation: str | Activation = "tanh") -> None:
        self.units = check_int(self.label, "units", units)
        self.groups = check_int(self.label, "number_of_groups", number_of_groups)
        self.num_proj = None if num_proj is None else check_int(self.label, "num_proj", num_proj)
        self.part("units", units)
        self.part("num_proj", self.output_size)
        super().__init__({"h": self.output_size, "c": units})
        self.initializer = check_initializer(self.label, "initializer", initializer)
        self.forget_bias = check_number(self.label, "forget_bias", forget_bias)
        self.activation = check_activation(self.label, "activation", activation)

    @property
    def output_size(self) -> int:
        return self.num_proj or self.units

    def part(self, what: str, size: int) -> int:
        """The size of a group's part; ShapeError when it is no whole number."""
        if size % self.groups:
            raise ShapeError(f"{self.label}: {what} must be a multiple of number_of_groups = {self.groups}, got {size}")
        return size // self.groups

    def build(self, input_size: int) -> None:
        n, h, u = self.part("the input's features", input_size), self.output_size // self.groups, self.units
        width = 4 * u // self.groups
        init = self.initializer
        self.kernels = [self.add_weight(f"group{k}_kernel", (n, width), init) for k in range(self.groups)]
        self.recurrent_kernels = [self.add_weight(f"group{k}_recurrent_kernel", (h, width), init)
                                  for k in range(self.groups)]
        self.bias = self.add_weight("bias", (4 * u,), "zeros")
        if self.num_proj is not None:
            self.projection_kernel = self.add_weight("projection_kernel", (u, self.num_proj), init)

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        outputs, cells = [], []
        parts = (ops.split(t, self.groups) for t in (x, state["h"], state["c"]))
        for k, (x_k, h_k, c_k) in enumerate(zip(*parts, strict=True)):
            i, j, f, o = self.gates(k, x_k, h_k)
            c = ops.sigmoid(f) * c_k + ops.sigmoid(i) * ops.tanh(j)
            outputs.append(ops.sigmoid(o) * self.activation(c))
            cells.append(c)
        h = ops.concat(outputs)
        if self.num_proj is not None:
            h = h @ self.projection_kernel
        return h, {"h": h, "c": ops.concat(cells)}

    def gates(self, k: int, x: Tensor, h: Tensor) -> list[Tensor]:
        """The four sums of group ``k``."""
        size, out = self.units // self.groups, []
        weights = zip(GATES, self.kernels[k].gates(GATES), self.recurrent_kernels[k].gates(GATES), strict=True)
        for g, (gate, w, r) in enumerate(weights):
            start = g * self.units + k * size
            bias: Tensor = self.bias.part(f"bias_{gate}{k}", slice(start, start + size))
            out.append(x @ w + (bias + self.forget_bias if gate == "f" else bias) + h @ r)
        return out
