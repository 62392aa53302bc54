"""Time-frequency LSTM: an LSTM that also slides over the features of each step."""

from __future__ import annotations

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import check_clip, check_flag, check_initializer, check_int, check_number
from rnngraph.nn.cells.sums import Term, clipped, gate_sums
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor


class TimeFreqLSTMCell(Cell):
    """Time-frequency LSTM (Sainath and Li 2016), as tf.contrib.rnn.TimeFreqLSTMCell; the output is every window's m.

    A window of ``feature_size`` features slides over the input by ``frequency_skip``; window k has an LSTM step from
    x_k, its own m of the last time step, and m of window k - 1 (0 for the first), all with the same weights:
    i, j, f, o = [x_k, m_k, m_(k-1)] W + b; c' = sigmoid(f + forget_bias [+ w_f c]) c + sigmoid(i [+ w_i c]) tanh(j),
    clipped to +-cell_clip; m' = sigmoid(o [+ w_o c']) tanh(c'). Features behind the last whole window are not read.

    use_peepholes         the terms in brackets, off by default
    feature_size          features in a window; must be given
    frequency_skip        from one window to the next
    num_frequency_blocks  the number of windows, to be checked; None: as many as the input has. Needed in a stack of
                          cells, which asks for the states before there is an input.

    States state_f00_c, state_f00_m, state_f01_c, ... of each window; output [batch, windows * units]. Weights, gates i,
    j, f, o side by side: kernel [feature_size, 4U], recurrent_kernel [U, 4U], frequency_kernel [U, 4U] (TensorFlow's W
    has the three on top of each other), bias [4U], peephole_f, peephole_i, peephole_o [U]. Raises ShapeError and
    TraceError for wrong arguments, ShapeError for an input that the windows do not fit.

    Example:
        >>> from rnngraph.nn import RNN, Input, TimeFreqLSTMCell, trace
        >>> cell = TimeFreqLSTMCell(8, feature_size=4, frequency_skip=2)
        >>> trace(RNN(cell), Input(("batch", "time", 10))).outputs[0].shape
        ('batch', 32)
    """

    def __init__(self, units: int, use_peepholes: bool = False, cell_clip: float | None = None,
                 initializer: str | Initializer = "glorot_uniform", forget_bias: float = 1.0,
                 feature_size: int | None = None, frequency_skip: int = 1,
                 num_frequency_blocks: int | None = None) -> None:
        self.units = check_int(self.label, "units", units)
        self.use_peepholes = check_flag(self.label, "use_peepholes", use_peepholes)
        self.cell_clip = check_clip(self.label, "cell_clip", cell_clip)
        self.initializer = check_initializer(self.label, "initializer", initializer)
        self.forget_bias = check_number(self.label, "forget_bias", forget_bias)
        self.feature_size = check_int(self.label, "feature_size", feature_size)
        self.frequency_skip = check_int(self.label, "frequency_skip", frequency_skip)
        self.num_frequency_blocks = (None if num_frequency_blocks is None else
                                     check_int(self.label, "num_frequency_blocks", num_frequency_blocks))
        self.windows = self.num_frequency_blocks

    @property
    def state_size(self) -> dict[str, int]:
        """The sizes of the states by name; TraceError while the number of windows is not known."""
        if self.windows is None:
            raise TraceError(f"{self.label}: the number of windows, and so of states, follows from the input, which is "
                             "not known yet; give num_frequency_blocks=")
        return {f"state_f{k:02d}_{s}": self.units for k in range(self.windows) for s in "cm"}

    @property
    def output_size(self) -> int:
        return len(self.state_size) // 2 * self.units

    def build(self, input_size: int) -> None:
        self.windows = count_windows(self.label, "the input", input_size, self.feature_size, self.frequency_skip)
        if self.num_frequency_blocks not in (None, self.windows):
            raise ShapeError(f"{self.label}: expected num_frequency_blocks = {self.windows} for {input_size} features "
                             f"in windows of {self.feature_size} every {self.frequency_skip}, got "
                             f"{self.num_frequency_blocks}")
        u, init = self.units, self.initializer
        self.kernel = self.add_weight("kernel", (self.feature_size, 4 * u), init)
        self.recurrent_kernel = self.add_weight("recurrent_kernel", (u, 4 * u), init)
        self.frequency_kernel = self.add_weight("frequency_kernel", (u, 4 * u), init)
        self.bias = self.add_weight("bias", (4 * u,), "zeros")
        if self.use_peepholes:
            self.peephole = {g: self.add_weight(f"peephole_{g}", (u,), init) for g in "fio"}

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        new: dict[str, Tensor] = {}
        outputs: list[Tensor] = []
        for k in range(len(state) // 2):
            start = k * self.frequency_skip
            c, m = state[f"state_f{k:02d}_c"], state[f"state_f{k:02d}_m"]
            terms: list[Term] = [(x[:, start : start + self.feature_size], self.kernel), (m, self.recurrent_kernel)]
            if outputs:
                terms.append((outputs[-1], self.frequency_kernel))
            i, j, f, o = gate_sums("ijfo", terms, self.bias, {"f": self.forget_bias})
            if self.use_peepholes:
                i, f = i + self.peephole["i"] * c, f + self.peephole["f"] * c
            c = clipped(ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(j), self.cell_clip)
            if self.use_peepholes:
                o = o + self.peephole["o"] * c
            m = ops.sigmoid(o) * ops.tanh(c)
            new |= {f"state_f{k:02d}_c": c, f"state_f{k:02d}_m": m}
            outputs.append(m)
        return ops.concat(outputs), new


def count_windows(label: str, what: str, size: int, feature_size: int, skip: int) -> int:
    """How many windows of ``feature_size`` every ``skip`` fit into ``size`` features; ShapeError when none does."""
    if size < feature_size:
        raise ShapeError(f"{label}: expected feature_size <= the {size} features of {what}, got {feature_size}")
    return (size - feature_size) // skip + 1
