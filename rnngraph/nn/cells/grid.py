"""Grid LSTM over time and frequency: each window of features has an LSTM along time and one along the windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rnngraph.errors import ShapeError
from rnngraph.nn import ops
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.arguments import (
    check_clip,
    check_flag,
    check_initializer,
    check_int,
    check_ints,
    check_number,
)
from rnngraph.nn.cells.sums import Term, clipped, gate_sums
from rnngraph.nn.cells.time_frequency import count_windows
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.weights import Weight


@dataclass(slots=True)
class GridWeights:
    """The weights of the F-LSTM or the T-LSTM of a block; ``peepholes`` by gate and the cell state that it sees."""

    kernel: Weight
    recurrent_kernel: Weight
    frequency_kernel: Weight
    bias: Weight
    peepholes: dict[str, Weight] = field(default_factory=dict)

    def seen(self, gate: str, freq: Tensor | None, time: Tensor, total: Tensor) -> Tensor:
        """``total`` and what the gate sees of the two cell states."""
        if not self.peepholes:
            return total
        if freq is not None:
            total = total + self.peepholes[f"{gate}_freq"] * freq
        return total + self.peepholes[f"{gate}_time"] * time


@dataclass(frozen=True, slots=True)
class Window:
    """Features [low, high) of the input, which meet the kernel's rows from ``row`` on; the rest of it is padding."""

    low: int
    high: int
    row: int

    @property
    def rows(self) -> slice:
        return slice(self.row, self.row + self.high - self.low)


class GridLSTMCell(Cell):
    """Grid LSTM (Kalchbrenner et al. 2016; with peepholes Sainath and Li 2016), as tf.contrib.rnn.GridLSTMCell.

    A window of ``feature_size`` features slides over the input by ``frequency_skip``. Window k has two LSTMs, along
    time (states of its own: c_t, m_t) and along frequency (c_f, m_f of window k - 1; 0 for the first of a block). Both
    read s = [x_k, m_t, m_f] W + b, each with its W and b:

    i = sigmoid(s_i [+ p_if c_f + p_it c_t]); f = sigmoid(s_f + forget_bias [+ p_ff c_f + p_ft c_t])
    c' = f c + i tanh(s_j), clipped to +-cell_clip; m' = sigmoid(s_o [+ p_of c_f' + p_ot c_t']) tanh(c')

    The output is m_t, m_f of window 0, m_t, m_f of window 1, ...: [batch, 2 * windows * units].

    use_peepholes                 the terms in brackets
    share_time_frequency_weights  one set of weights for both LSTMs
    couple_input_forget_gates     f = 1 - i, and no weights for f
    num_frequency_blocks          a list: the number of windows of each block; blocks have weights of their own
    start_freqindex_list          where each block starts and ends in the features; without them there is one block,
    end_freqindex_list            the whole input

    States state_f00_b00_c, state_f00_b00_m (window, block), ... Weights of a block (b00) and an LSTM (freq, time), the
    gates i, j, f, o side by side: b00_freq_kernel [feature_size, 4U], b00_freq_recurrent_kernel [U, 4U] (m_t),
    b00_freq_frequency_kernel [U, 4U] (m_f; TensorFlow's W_f_0 has the three on top of each other), b00_freq_bias [4U],
    b00_freq_peephole_i_freq [U] (p_if), and so on. Raises ShapeError and TraceError for wrong arguments, ShapeError
    where the windows are not as many as num_frequency_blocks says.

    Example:
        >>> from rnngraph.nn import RNN, GridLSTMCell, Input, trace
        >>> cell = GridLSTMCell(8, feature_size=4, frequency_skip=2, num_frequency_blocks=[4])
        >>> trace(RNN(cell), Input(("batch", "time", 10))).outputs[0].shape
        ('batch', 64)
    """

    directions: tuple[str, ...] = ("",)

    def __init__(self, units: int, use_peepholes: bool = False, share_time_frequency_weights: bool = False,
                 cell_clip: float | None = None, initializer: str | Initializer = "glorot_uniform",
                 forget_bias: float = 1.0, feature_size: int | None = None, frequency_skip: int | None = None,
                 num_frequency_blocks: Sequence[int] | None = None,
                 start_freqindex_list: Sequence[int] | None = None, end_freqindex_list: Sequence[int] | None = None,
                 couple_input_forget_gates: bool = False) -> None:
        self.units = check_int(self.label, "units", units)
        self.use_peepholes = check_flag(self.label, "use_peepholes", use_peepholes)
        self.shared = check_flag(self.label, "share_time_frequency_weights", share_time_frequency_weights)
        self.cell_clip = check_clip(self.label, "cell_clip", cell_clip)
        self.initializer = check_initializer(self.label, "initializer", initializer)
        self.forget_bias = check_number(self.label, "forget_bias", forget_bias)
        self.feature_size = check_int(self.label, "feature_size", feature_size)
        self.frequency_skip = check_int(self.label, "frequency_skip", frequency_skip)
        self.blocks = check_ints(self.label, "num_frequency_blocks", num_frequency_blocks)
        self.gate_names = "ijo" if check_flag(self.label, "couple_input_forget_gates",
                                              couple_input_forget_gates) else "ijfo"
        self.ranges = self._ranges(start_freqindex_list, end_freqindex_list)
        super().__init__({f"{name}_{s}": units for direction in self.directions for b in range(len(self.blocks))
                          for name in self._names(direction, b) for s in "cm"})

    @property
    def output_size(self) -> int:
        return len(self.state_size) * self.units

    def _ranges(self, starts: Sequence[int] | None, ends: Sequence[int] | None) -> list[tuple[int, int]] | None:
        """The features of each block, None for the whole input."""
        if starts is None and ends is None:
            if len(self.blocks) != 1:
                raise ShapeError(f"{self.label}: num_frequency_blocks must have one number where there is no "
                                 f"start_freqindex_list and end_freqindex_list, got {list(self.blocks)}")
            return None
        low = check_ints(self.label, "start_freqindex_list", starts, 0)
        high = check_ints(self.label, "end_freqindex_list", ends)
        for name, values in (("start_freqindex_list", low), ("end_freqindex_list", high)):
            if len(values) != len(self.blocks):
                raise ShapeError(f"{self.label}: {name} must have {len(self.blocks)} numbers, one for each of "
                                 f"num_frequency_blocks, got {list(values)}")
        for b, (start, end) in enumerate(zip(low, high, strict=True)):
            self._check_count(b, f"block {b}", end - start)
        return list(zip(low, high, strict=True))

    def _check_count(self, b: int, what: str, size: int) -> None:
        count = count_windows(self.label, what, size, self.feature_size, self.frequency_skip)
        if count != self.blocks[b]:
            raise ShapeError(f"{self.label}: expected num_frequency_blocks[{b}] = {count} for the {size} features of "
                             f"{what} in windows of {self.feature_size} every {self.frequency_skip}, got "
                             f"{self.blocks[b]}")

    def _names(self, direction: str, b: int) -> list[str]:
        """The states of a block, without _c and _m."""
        return [f"{direction}state_f{k:02d}_b{b:02d}" for k in range(self.blocks[b])]

    # --- weights -----------------------------------------------------------------------------------------------

    def build(self, input_size: int) -> None:
        if self.ranges is None:
            self._check_count(0, "the input", input_size)
        elif max(end for _, end in self.ranges) > input_size:
            raise ShapeError(f"{self.label}: expected end_freqindex_list within the {input_size} features of the "
                             f"input, got {[end for _, end in self.ranges]}")
        self.weights_of = {(direction, b): self._build_block(f"{direction}b{b:02d}")
                           for direction in self.directions for b in range(len(self.blocks))}

    def _build_block(self, prefix: str) -> tuple[GridWeights, GridWeights]:
        """The weights of the F-LSTM and of the T-LSTM."""
        frequency = self._build_lstm(f"{prefix}_freq")
        return frequency, frequency if self.shared else self._build_lstm(f"{prefix}_time")

    def _build_lstm(self, prefix: str) -> GridWeights:
        u, width, init = self.units, len(self.gate_names) * self.units, self.initializer
        made = GridWeights(self.add_weight(f"{prefix}_kernel", (self.feature_size, width), init),
                           self.add_weight(f"{prefix}_recurrent_kernel", (u, width), init),
                           self.add_weight(f"{prefix}_frequency_kernel", (u, width), init),
                           self.add_weight(f"{prefix}_bias", (width,), "zeros"))
        if self.use_peepholes:
            made.peepholes = {f"{g}_{s}": self.add_weight(f"{prefix}_peephole_{g}_{s}", (u,), init)
                              for g in self.gate_names if g != "j" for s in ("freq", "time")}
        return made

    # --- step --------------------------------------------------------------------------------------------------

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        outputs: list[Tensor] = []
        new: dict[str, Tensor] = {}
        for direction in self.directions:
            for b in range(len(self.blocks)):
                outputs += self._block(x, state, new, direction, b)
        return ops.concat(outputs), new

    def windows(self, b: int, input_size: int, shift: int = 0) -> list[Window]:
        """The windows of block ``b``, moved by ``shift`` features; what lies outside of the input is 0."""
        start, out = 0 if self.ranges is None else self.ranges[b][0], []
        for k in range(self.blocks[b]):
            low = start + shift + k * self.frequency_skip
            inside = max(0, min(low, input_size)), max(0, min(low + self.feature_size, input_size))
            out.append(Window(*inside, max(0, -low)))
        return out

    def ordered_windows(self, direction: str, b: int, input_size: int) -> list[Window]:
        """The windows of a block in the order in which the frequency LSTM meets them."""
        return self.windows(b, input_size)

    def _block(self, x: Tensor, state: dict[str, Tensor], new: dict[str, Tensor], direction: str,
               b: int) -> list[Tensor]:
        """m_t and m_f of each window of a block; the states go to ``new``."""
        m_f: Tensor | None = None
        c_f: Tensor | None = None
        outputs: list[Tensor] = []
        weights = self.weights_of[direction, b]
        windows = self.ordered_windows(direction, b, int(x.shape[-1]))
        for name, window in zip(self._names(direction, b), windows, strict=True):
            m_t, c_t = state[f"{name}_m"], state[f"{name}_c"]
            (sums_f, new_f), (sums_t, new_t) = (self._cell(w, self._sums(w, x, window, m_t, m_f), c_f, c_t, own)
                                                for w, own in zip(weights, (c_f, c_t), strict=True))
            m_f, m_t = (ops.sigmoid(w.seen("o", new_f, new_t, o)) * ops.tanh(c)
                        for w, o, c in zip(weights, (sums_f, sums_t), (new_f, new_t), strict=True))
            c_f = new_f
            new |= {f"{name}_c": new_t, f"{name}_m": m_t}
            outputs += [m_t, m_f]
        return outputs

    def _sums(self, w: GridWeights, x: Tensor, window: Window, m_t: Tensor, m_f: Tensor | None) -> dict[str, Tensor]:
        terms: list[Term] = [(m_t, w.recurrent_kernel)]
        if window.high > window.low:
            terms.insert(0, (x[:, window.low : window.high], w.kernel, window.rows))
        if m_f is not None:
            terms.append((m_f, w.frequency_kernel))
        sums = gate_sums(self.gate_names, terms, w.bias, {"f": self.forget_bias})
        return dict(zip(self.gate_names, sums, strict=True))

    def _cell(self, w: GridWeights, sums: dict[str, Tensor], c_f: Tensor | None, c_t: Tensor,
              own: Tensor | None) -> tuple[Tensor, Tensor]:
        """The output gate's sum and the new cell state of one LSTM, whose old one is ``own`` (None: 0)."""
        i = ops.sigmoid(w.seen("i", c_f, c_t, sums["i"]))
        c = i * ops.tanh(sums["j"])
        if own is not None:
            f = 1.0 - i if "f" not in sums else ops.sigmoid(w.seen("f", c_f, c_t, sums["f"]))
            c = f * own + c
        return sums["o"], clipped(c, self.cell_clip)


class BidirectionalGridLSTMCell(GridLSTMCell):
    """Grid LSTM whose frequency LSTM runs both ways over the windows, as tf.contrib.rnn.BidirectionalGridLSTMCell.

    Time runs forwards only. The backward half has weights of its own and meets the windows of each block from the last
    to the first. With ``backward_slice_offset`` its windows start that many features later (earlier, if negative), and
    what lies outside of the input is 0. The other arguments are `GridLSTMCell`'s. The output has the forward half, then
    the backward half, each in the order in which it met its windows: [batch, 4 * windows * units]. Names of states and
    weights start with fwd_ and bwd_. Raises ShapeError and TraceError for wrong arguments.

    Example:
        >>> from rnngraph.nn import RNN, BidirectionalGridLSTMCell, Input, trace
        >>> cell = BidirectionalGridLSTMCell(8, feature_size=4, frequency_skip=2, num_frequency_blocks=[4])
        >>> trace(RNN(cell), Input(("batch", "time", 10))).outputs[0].shape
        ('batch', 128)
    """

    directions = ("fwd_", "bwd_")

    def __init__(self, units: int, use_peepholes: bool = False, share_time_frequency_weights: bool = False,
                 cell_clip: float | None = None, initializer: str | Initializer = "glorot_uniform",
                 forget_bias: float = 1.0, feature_size: int | None = None, frequency_skip: int | None = None,
                 num_frequency_blocks: Sequence[int] | None = None,
                 start_freqindex_list: Sequence[int] | None = None, end_freqindex_list: Sequence[int] | None = None,
                 couple_input_forget_gates: bool = False, backward_slice_offset: int = 0) -> None:
        super().__init__(units, use_peepholes, share_time_frequency_weights, cell_clip, initializer, forget_bias,
                         feature_size, frequency_skip, num_frequency_blocks, start_freqindex_list, end_freqindex_list,
                         couple_input_forget_gates)
        if isinstance(backward_slice_offset, bool) or not isinstance(backward_slice_offset, int):
            raise ShapeError(f"{self.label}: backward_slice_offset must be an int, got {backward_slice_offset!r}")
        self.backward_slice_offset = backward_slice_offset

    def ordered_windows(self, direction: str, b: int, input_size: int) -> list[Window]:
        if direction == "fwd_":
            return self.windows(b, input_size)
        return self.windows(b, input_size, self.backward_slice_offset)[::-1]
