"""Dropout around cells: TensorFlow's DropoutWrapper, MXNet's DropoutCell and VariationalDropoutCell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnngraph.errors import TraceError
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.gated import check_rate
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.wrappers.base import CellWrapper, keep_mask, masked_steps, states_by_name


class DropoutCell(Cell):
    """A cell without states that drops elements of its input; for a place in a `SequentialCell` (MXNet DropoutCell).

    In training, elements become 0 with probability ``rate`` and the others grow by 1/(1-rate); the mask is drawn anew
    in every step. At inference it is the identity.
    """

    def __init__(self, rate: float) -> None:
        super().__init__(())
        self.rate = check_rate(self.label, "rate", rate)

    @property
    def output_size(self) -> int:
        raise TraceError(f"{self.label}: the output has the size of the input; no other cell can wrap it")

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        mask = keep_mask("dropout", x, "step", self.rate, how="step")
        return x if mask is None else x * mask, ()

    @property
    def is_identity(self) -> bool:
        """Whether nothing is dropped in the active trace."""
        return not active().options.training or self.rate == 0.0


class DropoutWrapper(CellWrapper):
    """Dropout on the input, the new states and the output of a cell (tf.nn.RNNCellDropoutWrapper).

    input_keep_prob, state_keep_prob, output_keep_prob  the probabilities to keep an element, in 0..1
    variational_recurrent  one mask for the whole sequence and, as in TensorFlow, for all rows of the batch (Gal and
                           Ghahramani 2016); otherwise masks are drawn in every step, for every row.
                           `VariationalDropoutCell` has a mask per row
    dropout_state_filter   which states are dropped, by name: ``lambda name: ...``; the default spares those named "c",
                           the memory of an LSTM, as TensorFlow does

    At inference the cell is unchanged. Masks follow from the seed of the trace and the layer's name.

    Example:
        >>> from rnngraph.nn import RNN, DropoutWrapper, Input, LSTMCell, trace
        >>> cell = DropoutWrapper(LSTMCell(4), output_keep_prob=0.5, variational_recurrent=True)
        >>> graph = trace(RNN(cell), Input(("batch", "time", 3)), training=True)
        >>> [op.name for op in graph.walk()].count("random_mask")
        1
    """

    def __init__(self, cell: Cell, input_keep_prob: float = 1.0, output_keep_prob: float = 1.0,
                 state_keep_prob: float = 1.0, variational_recurrent: bool = False,
                 dropout_state_filter: Callable[[str], bool] | None = None) -> None:
        super().__init__(cell)
        self.input_rate = 1.0 - check_rate(self.label, "input_keep_prob", input_keep_prob)
        self.output_rate = 1.0 - check_rate(self.label, "output_keep_prob", output_keep_prob)
        self.state_rate = 1.0 - check_rate(self.label, "state_keep_prob", state_keep_prob)
        self.how = "rows" if variational_recurrent else "step"
        self.dropout_state_filter = dropout_state_filter or _is_not_memory
        if self.state_rate and not cell.steppable:
            raise TraceError(f"{self.label}: state_keep_prob needs the single steps of its cell, which {cell.label} "
                             "has not")

    def before(self, x: Tensor) -> Tensor:
        return masked_steps(self, x, "input", self.input_rate, how=self.how)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return masked_steps(self, y, "output", self.output_rate, how=self.how)

    def inner(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, new = super().inner(x, state)
        named = states_by_name(self.cell.states, new)
        for name, value in named.items():
            if self.dropout_state_filter(name):
                named[name] = masked_steps(self, value, f"state.{name}", self.state_rate, how=self.how)
        return y, self.cell.states.pack(list(named.values()))

    def changes(self, method: str) -> bool:
        rate = self.input_rate if method == "before" else self.output_rate
        return active().options.training and rate > 0.0


class VariationalDropoutCell(CellWrapper):
    """One dropout mask per row for the whole sequence (Gal and Ghahramani 2016; Gluon VariationalDropoutCell).

    drop_inputs, drop_outputs  the rates on the inputs and outputs
    drop_states                the rate on the first state (h), as the cell reads it; not around a `BidirectionalCell`

    Masks hold until the sequence ends, or, where the cell is called by hand, until `reset`.
    """

    def __init__(self, cell: Cell, drop_inputs: float = 0.0, drop_states: float = 0.0,
                 drop_outputs: float = 0.0) -> None:
        super().__init__(cell)
        self.drop_inputs = check_rate(self.label, "drop_inputs", drop_inputs)
        self.drop_states = check_rate(self.label, "drop_states", drop_states)
        self.drop_outputs = check_rate(self.label, "drop_outputs", drop_outputs)
        if self.drop_states and not cell.steppable:
            raise TraceError(f"{self.label}: drop_states needs the single steps of its cell, which {cell.label} has "
                             "not; wrap the cells inside")

    def before(self, x: Tensor) -> Tensor:
        return masked_steps(self, x, "input", self.drop_inputs, how="sequence")

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return masked_steps(self, y, "output", self.drop_outputs, how="sequence")

    def inner(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        states = self.cell.states
        values = states.unpack(state)
        if values:
            values[0] = masked_steps(self, values[0], "state", self.drop_states, how="sequence")
        return super().inner(x, states.pack(values))

    def changes(self, method: str) -> bool:
        rate = self.drop_inputs if method == "before" else self.drop_outputs
        return active().options.training and rate > 0.0


def _is_not_memory(name: str) -> bool:
    return name.rsplit(".", 1)[-1] != "c"
