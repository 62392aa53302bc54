"""BidirectionalCell: two cells over a sequence, in both directions; MXNet's BidirectionalCell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rnngraph.errors import TraceError
from rnngraph.ir import Value
from rnngraph.nn.cell import Cell
from rnngraph.nn.context import active
from rnngraph.nn.loop import Loop
from rnngraph.nn.tensor import Tensor


class BidirectionalCell(Cell):
    """``l_cell`` runs forwards, ``r_cell`` backwards; the outputs of each step are joined (MXNet BidirectionalCell).

    It has no single steps: use `unroll`, `RNN`, or a place in a `SequentialCell`. The states are those of l_cell, then
    those of r_cell, named "l.h", "r.h", ... The last output (without sequences) is the last one of each direction.

    Example:
        >>> from rnngraph.nn import BidirectionalCell, GRUCell, Input, LSTMCell, Model, trace
        >>> x = Input(("batch", 5, 3))
        >>> outputs, states = BidirectionalCell(LSTMCell(4), GRUCell(2)).unroll(5, x)
        >>> trace(Model(x, outputs)).outputs[0].shape
        ('batch', 5, 6)
    """

    def __init__(self, l_cell: Cell, r_cell: Cell) -> None:
        for cell in (l_cell, r_cell):
            if not isinstance(cell, Cell):
                raise TraceError(f"{self.label}: expected two cells, got {cell!r}")
        if l_cell is r_cell:
            raise TraceError(f"{self.label}: expected two cells with weights of their own, got one cell twice")
        if l_cell.input_rank != r_cell.input_rank:
            raise TraceError(f"{self.label}: expected cells that read inputs of one rank, got {l_cell.label} and "
                             f"{r_cell.label}")
        self.input_rank = l_cell.input_rank
        self.l_cell = l_cell
        self.r_cell = r_cell

    @property
    def state_size(self) -> Any:
        named = {f"{side}.{name}": shape for side, cell in self.children().items()
                 for name, shape in zip(cell.states.names, cell.states.shapes, strict=True)}
        return named or ()

    @property
    def output_size(self) -> int:
        return self.l_cell.output_size + self.r_cell.output_size

    @property
    def steppable(self) -> bool:
        return False

    def children(self) -> dict[str, Cell]:
        return {"l": self.l_cell, "r": self.r_cell}

    def build(self, input_size: Any) -> None:
        for cell in self.children().values():
            cell.ensure_built(input_size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        raise TraceError(f"{self.label} has no single steps; use unroll(length, inputs)")

    def run(self, loop: Loop, unroll: bool) -> tuple[Value, list[Value]]:
        outputs: list[Value] = []
        finals: list[Value] = []
        for side, cell in self.children().items():
            initial = loop.initial[len(finals) : len(finals) + len(cell.states.names)]
            reverse = loop.reverse != (side == "r")
            with active().scope(side):
                part = replace(loop, cell=cell, states=cell.states, initial=initial, reverse=reverse)
                y, new = cell.run(part, unroll)
            outputs.append(y)
            finals += new
        return active().builder.concat(outputs, outputs[0].type.rank - 1), finals
