"""NAS: the cell that an architecture search found."""

from __future__ import annotations

from rnngraph.nn import ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_flag, check_initializer, check_int
from rnngraph.nn.cells.gated import gate_parts, plus
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor

BRANCHES = "01234567"


class NASCell(Cell):
    """Neural architecture search cell (Zoph and Le 2017), as in tf.contrib.rnn and tensorflow-addons.

    a = x W, m = h R [+ b], each in eight parts; the output is h.

    1. p0, p2, p5, p7 = sigmoid(a + m); p1 = relu(a1 + m1); p3 = relu(a3 m3); p4, p6 = tanh(a + m)
    2. q0 = tanh(tanh(p0 p1) + c); q1 = tanh(p2 + p3); q2 = tanh(p4 p5); q3 = sigmoid(p6 + p7)
    3. c' = q0 q1; h' = tanh(c' tanh(q2 + q3)) [times the projection]

    num_proj   size of h after a projection; None: no projection, h has ``units``
    use_bias   add b; off by default

    States h and c. Weights: kernel [I, 8U], recurrent_kernel [num_proj or U, 8U], bias [8U], projection_kernel
    [U, num_proj]. Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, Input, NASCell, trace
        >>> trace(RNN(NASCell(8, num_proj=5)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 5)
    """

    def __init__(self, units: int, num_proj: int | None = None, use_bias: bool = False,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "glorot_uniform",
                 projection_initializer: str | Initializer = "glorot_uniform",
                 bias_initializer: str | Initializer = "zeros") -> None:
        self.units = check_int(self.label, "units", units)
        self.num_proj = None if num_proj is None else check_int(self.label, "num_proj", num_proj)
        super().__init__({"h": self.output_size, "c": units})
        self.use_bias = check_flag(self.label, "use_bias", use_bias)
        self.initializers = {name: check_initializer(self.label, f"{name}_initializer", value) for name, value in (
            ("kernel", kernel_initializer), ("recurrent", recurrent_initializer),
            ("projection", projection_initializer), ("bias", bias_initializer))}

    @property
    def output_size(self) -> int:
        return self.num_proj or self.units

    def build(self, input_size: int) -> None:
        width, init = len(BRANCHES) * self.units, self.initializers
        self.kernel = self.add_weight("kernel", (input_size, width), init["kernel"])
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (self.output_size, width), init["recurrent"])
        if self.use_bias:
            self.bias = self.add_weight("bias", (width,), init["bias"])
        if self.num_proj is not None:
            self.projection_kernel = self.add_weight("projection_kernel", (self.units, self.num_proj),
                                                     init["projection"])

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        h, c = state["h"], state["c"]
        biases = gate_parts(self.bias, BRANCHES) if self.use_bias else [None] * len(BRANCHES)
        a = [x @ w for w in gate_parts(self.kernel, BRANCHES)]
        m = [plus(h @ r, b) for r, b in zip(gate_parts(self.recurrent_kernel, BRANCHES), biases, strict=True)]
        both = [p + q for p, q in zip(a, m, strict=True)]
        q0 = ops.tanh(ops.tanh(ops.sigmoid(both[0]) * ops.relu(both[1])) + c)
        q1 = ops.tanh(ops.sigmoid(both[2]) + ops.relu(a[3] * m[3]))
        q2 = ops.tanh(ops.tanh(both[4]) * ops.sigmoid(both[5]))
        q3 = ops.sigmoid(ops.tanh(both[6]) + ops.sigmoid(both[7]))
        c = q0 * q1
        h = ops.tanh(c * ops.tanh(q2 + q3))
        if self.num_proj is not None:
            h = h @ self.projection_kernel
        return h, {"h": h, "c": c}
