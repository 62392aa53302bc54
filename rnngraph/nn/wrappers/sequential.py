"""SequentialCell: cells, modifiers and dropout in a row, MXNet's SequentialRNNCell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rnngraph.errors import TraceError
from rnngraph.ir import Value
from rnngraph.nn.cell import Cell
from rnngraph.nn.cells import StackedCells
from rnngraph.nn.context import active
from rnngraph.nn.loop import Loop
from rnngraph.nn.wrappers.dropout import DropoutCell


class SequentialCell(StackedCells):
    """Cells in a row, the output of each being the input of the next (MXNet SequentialRNNCell).

    Unlike `StackedCells`, cells may be added later, `BidirectionalCell` and `DropoutCell` are among them, and over a
    sequence each cell is a loop of its own, so that the compiler joins them as it joins layers.

    Example:
        >>> from rnngraph.nn import RNN, DropoutCell, Input, LSTMCell, ResidualCell, SequentialCell, trace
        >>> stack = SequentialCell()
        >>> for cell in (LSTMCell(8), DropoutCell(0.3), ResidualCell(LSTMCell(8))):
        ...     stack.add(cell)
        >>> len(stack), trace(RNN(stack), Input(("batch", "time", 3))).outputs[0].shape
        (3, ('batch', 8))
    """

    def __init__(self, cells: Sequence[Cell] = ()) -> None:
        self.cells = []
        for cell in cells:
            self.add(cell)

    def add(self, cell: Cell) -> None:
        """Append a cell. TraceError for what is none, or once the cells are in use."""
        if not isinstance(cell, Cell):
            raise TraceError(f"{self.label}: expected a cell to add, got {cell!r}")
        if self._input_size is not None:
            raise TraceError(f"{self.label}: cells are added before the first use")
        if not any(not isinstance(c, DropoutCell) for c in self.cells):
            self.input_rank = cell.input_rank
        self.cells.append(cell)

    def __len__(self) -> int:
        return len(self.cells)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    def __getitem__(self, index: int) -> Cell:
        return self.cells[index]

    def __bool__(self) -> bool:
        return True

    @property
    def state_size(self) -> Any:
        named = {f"cell{i}.{name}": shape for i, cell in enumerate(self.cells)
                 for name, shape in zip(cell.states.names, cell.states.shapes, strict=True)}
        return named or ()

    @property
    def output_size(self) -> int:
        sized = [c for c in self.cells if not isinstance(c, DropoutCell)]
        if not sized:
            raise TraceError(f"{self.label}: expected at least one cell that is not dropout; use add(cell)")
        return sized[-1].output_size

    @property
    def steppable(self) -> bool:
        return all(c.steppable for c in self.cells)

    def build(self, input_size: Any) -> None:
        if not self.cells:
            raise TraceError(f"{self.label}: expected at least one cell; use add(cell)")

    def run(self, loop: Loop, unroll: bool) -> tuple[Value, list[Value]]:
        """Each cell over the whole sequence in turn."""
        cells = self._active_cells()
        y, finals, at = loop.sequence, [], 0
        for i, (name, cell) in enumerate(cells.items()):
            count = len(cell.states.names)
            with active().scope(name):
                if not isinstance(cell, DropoutCell):
                    cell.build_for(y.shape[1:])
                part = replace(loop, cell=cell, states=cell.states, sequence=y, initial=loop.initial[at : at + count],
                               emit=loop.emit or i + 1 < len(cells))
                y, new = cell.run(part, unroll)
            finals += new
            at += count
        return y, finals

    def _active_cells(self) -> Mapping[str, Cell]:
        """The cells that do something: dropout is the identity at inference, unless nothing else keeps the padding."""
        children = self.children()
        kept = {n: c for n, c in children.items() if not (isinstance(c, DropoutCell) and c.is_identity)}
        return kept or children
