"""DropConnectCell: dropout of a cell's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rnngraph.errors import TraceError
from rnngraph.ir import Value
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells.gated import check_rate
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.wrappers.base import CellWrapper


class DropConnectCell(CellWrapper):
    """In training, elements of weights become 0 for a whole sequence (Wan et al. 2013; WeightDrop of AWD-LSTM, Haste).

    rate     the probability; the elements that stay grow by 1/(1-rate)
    weights  which weights, as `Layer.weights` of the inner cell names them; the recurrent ones by default

    One mask holds for all steps and all rows of the batch. At inference the cell is unchanged. TraceError for a weight
    that the cell has not; wrap the cells inside a `StackedCells` or `SequentialCell`, not the stack.

    Example:
        >>> from rnngraph.nn import RNN, DropConnectCell, Input, LSTMCell, trace
        >>> graph = trace(RNN(DropConnectCell(LSTMCell(4), 0.5)), Input(("batch", "time", 3)), training=True)
        >>> [str(op.result.type) for op in graph.walk() if op.name == "random_mask"]
        ['f32[4,16]']
    """

    def __init__(self, cell: Cell, rate: float, weights: Sequence[str] = ("recurrent_kernel",)) -> None:
        super().__init__(cell)
        self.rate = check_rate(self.label, "rate", rate)
        if isinstance(weights, str) or not weights:
            raise TraceError(f"{self.label}: weights must be a list of names, got {weights!r}")
        self.dropped = tuple(weights)

    def build(self, input_size: Any) -> None:
        super().build(input_size)
        known = self.cell.named_weights()
        if unknown := [n for n in self.dropped if n not in known]:
            raise TraceError(f"{self.label}: {self.cell.label} has the weights {', '.join(known) or '(none)'}, got "
                             f"{unknown}")

    def inner(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        trace = active()
        if not trace.options.training or self.rate == 0.0:
            return super().inner(x, state)
        values: dict[int, Value] = {}
        for name in self.dropped:
            weight = self.cell.named_weights()[name]
            with trace.scope(f"{self.scope}.{name.replace('/', '.')}"):
                sizes = tuple(int(d) for d in weight.shape)
                mask = trace.sequence_mask("weight", sizes, self.rate, weight.dtype)
                values[id(weight)] = trace.top.mul(weight.value(), mask)
        with trace.weights_as(values):
            return super().inner(x, state)
