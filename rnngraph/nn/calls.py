"""Cells used by hand: one step, or unrolled over a sequence, in a trace or while a model is composed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import F32, Dim, Shape, TensorType, Value
from rnngraph.nn.context import active, tracing
from rnngraph.nn.layer import Layer
from rnngraph.nn.loop import Loop
from rnngraph.nn.masks import own_mask, time_mask
from rnngraph.nn.symbol import Node, Symbol
from rnngraph.nn.tensor import Tensor, wrap

if TYPE_CHECKING:
    from rnngraph.nn.cell import Cell

LAYOUTS = ("NTC", "TNC")


@dataclass(frozen=True, slots=True)
class Unroll:
    """How `Cell.unroll` was asked to run."""

    length: int | None
    layout: str
    merge: bool


class CellLayer(Layer):
    """The layer as which a cell takes part in a model: one for all its calls, so that weights are shared.

    sequence  the number of the sequence that steps by hand belong to
    """

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.name)
        self.cell = cell
        self.sequence = 0
        self._path = cell._path

    def default_name(self) -> str:
        return self.cell.default_name()

    def children(self) -> Mapping[str, Cell]:
        return {"": self.cell}

    def pass_mask(self, inputs: Sequence[Tensor], result: Any) -> None:
        """Nothing to do: `call` has."""

    def scope_name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    def call(self, x: Any, states: Sequence[Tensor] | None, valid_length: Tensor | None = None,
             how: Unroll | None = None, sequence: int = 0, constants: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        with active().given(constants):
            if how is not None:
                return self._over_time(x, states, valid_length, how)
            return self._step(x, states, sequence)

    def _step(self, x: Tensor, states: Sequence[Tensor] | None, sequence: int) -> tuple[Tensor, ...]:
        if not self.cell.steppable:
            raise TraceError(f"layer {active().path!r}: {self.cell.label} has no single steps; use "
                             "cell.unroll(length, inputs)")
        self.cell.build_for(x.shape)
        with active().sequence((id(self), sequence)):
            y, new = self.cell.checked_step(x, self._given(states, x.type))
        return (y, *new)

    def _over_time(self, x: Any, states: Sequence[Tensor] | None, valid_length: Tensor | None,
                   how: Unroll) -> tuple[Tensor, ...]:
        b = active().builder
        sequence = self._sequence(x, how)
        self.cell.build_for(sequence.shape[1:])
        initial = [s.value() for s in self._given(states, sequence.type.with_shape(sequence.shape[1:]))]
        keep, lengths = None, None if valid_length is None else valid_length.value()
        if lengths is None and isinstance(x, Tensor):
            keep, lengths = time_mask(x, None, how.layout == "TNC")
        loop = Loop(self.cell, self.cell.states, sequence, initial, lengths, False, "zero", True, keep)
        with active().sequence():
            y, finals = self.cell.run(loop, False)
        if not how.merge:
            steps = y.shape[0]
            if not isinstance(steps, int):
                raise ShapeError(f"merge_outputs=False needs an integer number of steps, got {steps!r}")
            outputs = [wrap(b.reshape(b.slice(y, 0, t, 1), y.shape[1:])) for t in range(steps)]
        else:
            outputs = [wrap(b.transpose(y, (1, 0, *range(2, y.type.rank))) if how.layout == "NTC" else y)]
            if isinstance(x, Tensor) and (mask := own_mask(x, None)) is not None:
                active().time_masks[outputs[0].value()] = mask
        return (*outputs, *map(wrap, finals))

    def _sequence(self, x: Any, how: Unroll) -> Value:
        """The inputs as [time, batch, ...], as long as ``how`` says."""
        b = active().builder
        if isinstance(x, list | tuple):
            pieces = [t.value() for t in x]
            sequence = b.concat([b.reshape(v, (1, *v.shape)) for v in pieces], 0)
        else:
            if x.rank < 3:
                raise ShapeError(f"expected inputs of rank 3 in layout {how.layout}, or a list of one tensor per step, "
                                 f"got {x.type}")
            sequence = x.value()
            if how.layout == "NTC":
                sequence = b.transpose(sequence, (1, 0, *range(2, x.rank)))
        if how.length is not None and sequence.shape[0] != how.length:
            raise ShapeError(f"expected inputs of {how.length} steps, got {sequence.shape[0]!r} steps; length=None "
                             "takes as many as there are")
        return sequence

    def _given(self, states: Sequence[Tensor] | None, x: TensorType) -> list[Tensor]:
        """The states to start from, checked; zeros for the batch of ``x`` where none are given."""
        info = self.cell.states
        types = [x.with_shape((x.shape[0], *shape)) for shape in info.shapes]
        if states is None:
            return [wrap(active().builder.zeros(t)) for t in types]
        if len(states) != len(types):
            raise ShapeError(f"expected {len(types)} states ({', '.join(info.names)}), got {len(states)}")
        for name, expected, got in zip(info.names, types, states, strict=True):
            if got.type != expected:
                raise ShapeError(f"expected {expected} as state {name!r}, got {got.type}")
        return list(states)


def layer_of(cell: Cell) -> CellLayer:
    """The one `CellLayer` of a cell."""
    if cell._layer is None:
        cell._layer = CellLayer(cell)
    return cell._layer


def step(cell: Cell, x: Any, states: Any, constants: Sequence[Tensor]) -> tuple[Any, Any]:
    """`Cell.__call__`."""
    _check_tensors(cell, x, states)
    in_order = isinstance(states, list)
    flat = None if states is None else list(states) if in_order else cell.states.unpack(states)
    layer = layer_of(cell)
    y, *new = layer(x, flat, sequence=layer.sequence, constants=tuple(constants))
    return y, new if in_order else cell.states.pack(new)


def unroll(cell: Cell, inputs: Any, states: Any, how: Unroll, valid_length: Tensor | None,
           constants: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
    """`Cell.unroll`."""
    if how.layout not in LAYOUTS:
        raise TraceError(f"{cell.label}: layout must be one of {', '.join(LAYOUTS)}, got {how.layout!r}")
    if how.length is not None and (isinstance(how.length, bool) or not isinstance(how.length, int) or how.length < 1):
        raise ShapeError(f"{cell.label}: length must be an int >= 1 or None, got {how.length!r}")
    _check_tensors(cell, inputs, states)
    flat = None if states is None else list(states) if isinstance(states, list) else cell.states.unpack(states)
    results = layer_of(cell)(inputs, flat, valid_length, how=how, constants=tuple(constants))
    count = len(results) - len(cell.states.names)
    outputs = list(results[:count])
    return outputs[0] if how.merge else outputs, list(results[count:])


def _check_tensors(cell: Cell, inputs: Any, states: Any) -> None:
    given = [*inputs] if isinstance(inputs, list | tuple) and inputs else [inputs]
    items = list(states.values()) if isinstance(states, dict) else states
    items = list(items) if isinstance(items, list | tuple) else [items]
    for item in (*given, *(i for i in items if i is not None)):
        if not isinstance(item, Tensor):
            raise TraceError(f"{cell.label}: expected tensors or Inputs, got {type(item).__name__}; a cell computes "
                             "in a model: arrays go to rnngraph.compile(nn.RNN(cell), rnngraph.Input(...))")


def begin_state(cell: Cell, batch: Dim, func: Callable[[str, Shape], Tensor] | None) -> list[Tensor]:
    """`Cell.begin_state`."""
    states = cell.states
    named = [(n, (batch, *s)) for n, s in zip(states.names, states.shapes, strict=True)]
    return [zeros(shape) if func is None else func(name, shape) for name, shape in named]


def zeros(shape: Shape) -> Tensor:
    """Zeros of the running trace; outside of one, a symbol that makes them in each."""
    type = TensorType(F32, shape)
    return wrap(active().builder.zeros(type)) if tracing() else Symbol(type, Node(zeros, (shape,), {}))
