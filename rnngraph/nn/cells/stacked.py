"""StackedCells: several cells in one step."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.errors import TraceError
from rnngraph.nn.cell import Cell, States
from rnngraph.nn.context import active
from rnngraph.nn.initializers import IntShape
from rnngraph.nn.tensor import Tensor


class StackedCells(Cell):
    """Cells on top of each other in one step: the output of each is the input of the next."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        if not cells or not all(isinstance(c, Cell) for c in cells):
            raise TraceError(f"StackedCells: expected a list of cells, got {cells!r}")
        self.cells = list(cells)
        self.input_rank = self.cells[0].input_rank

    @property
    def state_size(self) -> dict[str, IntShape]:
        return {f"cell{i}.{name}": shape for i, cell in enumerate(self.cells)
                for name, shape in zip(States.of(cell).names, States.of(cell).shapes, strict=True)}

    @property
    def output_shape(self) -> IntShape:
        return self.cells[-1].output_shape

    @property
    def output_size(self) -> int:
        return self.cells[-1].output_size

    def children(self) -> dict[str, Cell]:
        return {f"cell{i}": cell for i, cell in enumerate(self.cells)}

    def step(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        new: dict[str, Tensor] = {}
        for name, cell in self.children().items():
            with active().scope(name):
                cell.build_for(x.shape)
                names = [f"{name}.{n}" for n in States.of(cell).names]
                x, states = cell.checked_step(x, [state[n] for n in names])
                new.update(zip(names, states, strict=True))
        return x, new
