"""CellWrapper: a cell around another cell, MXNet's ModifierCell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from rnngraph.errors import TraceError
from rnngraph.ir import Value
from rnngraph.nn import ops
from rnngraph.nn.cell import Cell, States
from rnngraph.nn.context import active
from rnngraph.nn.initializers import IntShape
from rnngraph.nn.loop import Loop, scanned
from rnngraph.nn.tensor import Tensor, wrap


class CellWrapper(Cell):
    """Base of the cells around one other cell; its states are the inner cell's, whose weights keep their names.

    A subclass changes the input in ``before(x)``, the output in ``after(x, y)``, or overrides `step`. One with weights
    of its own sets ``inner_name``, which then stands before the names of the inner cell's.
    """

    inner_name: ClassVar[str] = ""

    def __init__(self, cell: Cell) -> None:
        if not isinstance(cell, Cell):
            raise TraceError(f"{self.label}: expected a cell to wrap, got {cell!r}")
        self.cell = cell
        self.input_rank = cell.input_rank
        same = [c for c in _chain(cell) if type(c) is type(self)]
        self.scope = f"{self.default_name()}{len(same) or ''}"  # tells apart the masks of nested wrappers

    @property
    def state_size(self) -> Any:
        return self.cell.state_size

    @property
    def output_shape(self) -> IntShape:
        shape = self.cell.output_shape
        return shape if self.output_size == self.cell.output_size else (*shape[:-1], self.output_size)

    @property
    def output_size(self) -> int:
        return self.cell.output_size

    @property
    def steppable(self) -> bool:
        return self.cell.steppable

    def children(self) -> Mapping[str, Cell]:
        return {self.inner_name: self.cell}

    def build(self, input_size: Any) -> None:
        self.cell.ensure_built(input_size)

    def before(self, x: Tensor) -> Tensor:
        """The input of the inner cell."""
        return x

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """The output, from the input of this cell and the output of the inner one."""
        return y

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, new = self.inner(self.before(x), state)
        return self.after(x, y), new

    def inner(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """A step of the inner cell, its state as its ``step`` sees it."""
        states = self.cell.states
        with active().scope(self.inner_name):
            y, new = self.cell.checked_step(x, states.unpack(state))
        return y, states.pack(new)

    def run(self, loop: Loop, unroll: bool) -> tuple[Value, list[Value]]:
        """One loop; around a cell without steps the input and the output are changed in loops of their own."""
        if self.steppable:
            return super().run(loop, unroll)
        if type(self).step is not CellWrapper.step:
            raise TraceError(f"layer {active().path!r}: {self.label} needs the single steps of its cell, which "
                             f"{self.cell.label} has not")
        if not loop.emit and self.changes("after"):
            raise TraceError(f"layer {active().path!r}: {self.label} around {self.cell.label} has no last output; use "
                             "return_sequences=True")
        changed = loop.sequence
        if self.changes("before"):
            changed = _mapped(loop, self, [loop.sequence], lambda xs: self.before(xs[0]))
        with active().scope(self.inner_name):
            y, finals = self.cell.run(replace(loop, cell=self.cell, states=self.cell.states, sequence=changed), unroll)
        if self.changes("after"):
            y = _mapped(loop, self, [loop.sequence, y], lambda xs: self.after(*xs))
        return y, finals

    def changes(self, method: str) -> bool:
        """Whether ``before`` or ``after`` does anything in the active trace."""
        return getattr(type(self), method) is not getattr(CellWrapper, method)


class _Map(Cell):
    """A function of the parts of its input as a cell without states."""

    def __init__(self, sizes: Sequence[int], function: Callable[[list[Tensor]], Tensor], label: str) -> None:
        super().__init__(())
        self.sizes = sizes
        self.function = function
        self.name = label

    @property
    def label(self) -> str:
        return self.name or ""

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.function(list(ops.split(x, self.sizes))), ()


def _mapped(loop: Loop, cell: Cell, sequences: Sequence[Value], function: Callable[[list[Tensor]], Tensor]) -> Value:
    """``function`` of every step of the sequences, with the loop's lengths and padding."""
    sizes = [int(s.shape[-1]) for s in sequences]
    joined = sequences[0] if len(sequences) == 1 else active().builder.concat(sequences)
    map = _Map(sizes, function, cell.label)
    y, _ = scanned(replace(loop, cell=map, states=map.states, initial=[], sequence=joined, emit=True))
    return y


def _chain(cell: Cell) -> list[Cell]:
    """The cell, the one that it wraps, and so on."""
    return [cell, *(_chain(cell.cell) if isinstance(cell, CellWrapper) else [])]


def masked_steps(cell: CellWrapper, x: Tensor, kind: str, rate: float, *, how: str) -> Tensor:
    """x with a dropout mask when training; ``how``: per "step", or per "sequence", or that for all "rows" alike."""
    mask = keep_mask(cell.scope, x, kind, rate, how=how)
    return x if mask is None else x * mask


def keep_mask(scope: str, x: Tensor, kind: str, rate: float, *, how: str) -> Tensor | None:
    """The dropout mask for ``x``, 0 or 1/(1-rate); None when not training or where nothing is dropped."""
    trace = active()
    if not trace.options.training or rate == 0.0:
        return None
    with trace.scope(f"{scope}.{kind}"):
        if how == "step":
            return wrap(trace.step_mask(x.shape, rate, x.dtype))
        return wrap(trace.sequence_mask(kind, x.shape[1:] if how == "rows" else x.shape, rate, x.dtype))


def states_by_name(states: States, state: Any) -> dict[str, Tensor]:
    """A packed state as a dict of names."""
    return dict(zip(states.names, states.unpack(state), strict=True))
