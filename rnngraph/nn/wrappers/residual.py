"""ResidualCell: the input is added to the output."""

from __future__ import annotations

from collections.abc import Callable

from rnngraph.errors import ShapeError
from rnngraph.nn.cell import Cell
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.wrappers.base import CellWrapper


class ResidualCell(CellWrapper):
    """output = input + the cell's output (He et al. 2015; MXNet ResidualCell, tf.nn.RNNCellResidualWrapper).

    residual_fn  another way to join them: (input, output) -> output, as in TF

    The states are not changed. Works around a `BidirectionalCell` too (sequences only). ShapeError when the input
    and the output differ in size.

    Example:
        >>> from rnngraph.nn import RNN, Input, LSTMCell, ResidualCell, trace
        >>> trace(RNN([LSTMCell(8), ResidualCell(LSTMCell(8))]), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 8)
    """

    def __init__(self, cell: Cell, residual_fn: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        super().__init__(cell)
        self.residual_fn = residual_fn

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        if self.residual_fn is not None:
            return self.residual_fn(x, y)
        if x.type != y.type:
            raise ShapeError(f"the input and the output of a residual cell must have one type, got {x.type} and "
                             f"{y.type}; give a residual_fn, or cells of one size")
        return x + y
