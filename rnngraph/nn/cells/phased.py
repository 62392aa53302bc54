"""Phased LSTM: an LSTM whose units open and close with periods of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Array
from rnngraph.nn import ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_flag, check_initializer, check_int, check_number
from rnngraph.nn.cells.sums import gate_sums
from rnngraph.nn.context import active
from rnngraph.nn.initializers import Constant, Initializer, IntShape
from rnngraph.nn.tensor import Tensor, wrap
from rnngraph.nn.weights import Weight


@dataclass(frozen=True, slots=True)
class LogUniform:
    """e^U(log low, log high), U uniform: how periods are drawn."""

    low: float
    high: float

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        drawn = np.exp(rng.uniform(np.log(self.low), np.log(self.high), shape))
        return np.clip(drawn, self.low, self.high).astype(np.float32)


@dataclass(frozen=True, slots=True)
class WithinPeriod:
    """Uniform in 0..period of each unit."""

    period: Weight

    def __call__(self, shape: IntShape, rng: np.random.Generator) -> Array:
        return (rng.uniform(0.0, 1.0, shape) * self.period.array).astype(np.float32)


class PhasedLSTMCell(Cell):
    """Phased LSTM (Neil et al. 2016), as tf.contrib.rnn.PhasedLSTMCell; states h and c, the output is h.

    The input is [batch, 1 + features]: the first feature is the time of the step, t, the others are x. (TensorFlow
    takes the pair (time, x).) Times are float32, with 24 bits: count them from the start of the sequence.

    i, f = sigmoid([x, h] W + b); n = tanh([x, h] W_j + b_j); c~ = f c + i n; h~ = sigmoid([x, h] W_o + b_o) tanh(c~)
    u = ((t - phase) mod period) / period, in 0..1
    k = 2 u / ratio_on below ratio_on / 2, 2 - 2 u / ratio_on below ratio_on, leak u from there on
    c' = k c~ + (1 - k) c; h' = k h~ + (1 - k) h

    use_peepholes     the gates i and f see c and the gate o sees c~, by whole matrices
    leak              how far a closed unit follows, 0..1
    ratio_on          the first value of the share of the period in which a unit is open, 0..1
    period_init_min   periods are first e^U(log min, log max), phases uniform in 0..period
    period_init_max

    Weights, gates i, f, j, o side by side: kernel [features, 4U], recurrent_kernel [U, 4U], bias [4U] (TensorFlow has
    i and f, j, and o as three layers), peephole_kernel [U, 3U] (i, f, o); period, phase, ratio_on [U]. Raises
    ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, Input, PhasedLSTMCell, trace
        >>> trace(RNN(PhasedLSTMCell(8)), Input(("batch", "time", 1 + 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, units: int, use_peepholes: bool = False, leak: float = 0.001, ratio_on: float = 0.1,
                 period_init_min: float = 1.0, period_init_max: float = 1000.0,
                 initializer: str | Initializer = "glorot_uniform") -> None:
        self.units = check_int(self.label, "units", units)
        super().__init__({"h": units, "c": units})
        self.use_peepholes = check_flag(self.label, "use_peepholes", use_peepholes)
        self.leak = check_number(self.label, "leak", leak, 0.0, 1.0)
        self.ratio_on = check_number(self.label, "ratio_on", ratio_on, 0.0, 1.0)
        self.period_init = (check_number(self.label, "period_init_min", period_init_min, positive=True),
                            check_number(self.label, "period_init_max", period_init_max, positive=True))
        if self.period_init[0] > self.period_init[1]:
            raise TraceError(f"{self.label}: period_init_max must be at least period_init_min = {period_init_min!r}, "
                             f"got {period_init_max!r}")
        self.initializer = check_initializer(self.label, "initializer", initializer)

    def build(self, input_size: int) -> None:
        if input_size < 2:
            raise ShapeError(f"{self.label}: expected an input of the time and at least one feature, got "
                             f"{input_size} features")
        u = self.units
        self.kernel = self.add_weight("kernel", (input_size - 1, 4 * u), self.initializer)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, 4 * u), self.initializer)
        self.bias = self.add_weight("bias", (4 * u,), "zeros")
        if self.use_peepholes:
            self.peephole_kernel = self.add_weight("peephole_kernel", (u, 3 * u), self.initializer)
        self.period = self.add_weight("period", (u,), LogUniform(*self.period_init))
        self.phase = self.add_weight("phase", (u,), WithinPeriod(self.period))
        self.on = self.add_weight("ratio_on", (u,), Constant(self.ratio_on))

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        time, x, h, c = x[:, :1], x[:, 1:], state["h"], state["c"]
        i, f, j, o = gate_sums("ifjo", [(x, self.kernel), (h, self.recurrent_kernel)], self.bias)
        if self.use_peepholes:
            to_i, to_f, to_o = self.peephole_kernel.gates("ifo")
            i, f = i + c @ to_i, f + c @ to_f
        new_c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(j)
        if self.use_peepholes:
            o = o + new_c @ to_o
        new_h = ops.sigmoid(o) * ops.tanh(new_c)
        k = self.openness(time)
        h, c = k * new_h + (1.0 - k) * h, k * new_c + (1.0 - k) * c
        return h, {"h": h, "c": c}

    def openness(self, time: Tensor) -> Tensor:
        """How far each unit is open at ``time`` [batch, 1]: [batch, units]."""
        u = self.within_period(time)
        rising = u * (2.0 / self.on)
        k = ops.where(u < self.on, 2.0 - rising, u * self.leak)
        return ops.where(u < 0.5 * self.on, rising, k)

    def within_period(self, time: Tensor) -> Tensor:
        """((time - phase) mod period) / period, as exact after thousands of periods as in the first.

        What the difference loses to rounding is kept (Knuth's two-sum), and whole periods are taken off in products
        of 12 by 12 bits, which float32 holds exactly.
        """
        shifted = time - self.phase
        lost = shifted - time
        lost = (time - (shifted - lost)) - (self.phase + lost)
        whole = ops.floor(shifted / self.period)
        many = 4096.0 * ops.floor(whole * (1.0 / 4096.0) + 0.5)
        few = whole - many
        head, tail = self._period_in_two()
        rest = ((shifted - many * head) - few * head) - (many * tail + few * tail) + lost
        u = rest / self.period
        return u - ops.floor(u)  # the division above may round to the next whole period

    def _period_in_two(self) -> tuple[Tensor, Tensor]:
        """The periods rounded to 12 bits, and the rest, as constants."""
        def head() -> Array:
            bits = np.ascontiguousarray(self.period.array).view(np.uint32) & np.uint32(0xFFFFF000)
            return bits.view(np.float32)

        def tail() -> Array:
            return np.asarray(self.period.array - head())

        a, b = (wrap(active().constant((id(self.period), name), self.period.type, make, f"period_{name}"))
                for name, make in (("head", head), ("tail", tail)))
        return a, b
