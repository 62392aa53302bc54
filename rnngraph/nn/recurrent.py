"""RNN: a cell run over time, as a scan (or unrolled), and the layers LSTM, GRU and SimpleRNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import TensorType, Value
from rnngraph.nn.activations import Activation
from rnngraph.nn.canonical import RecurrentStack
from rnngraph.nn.cell import Cell, States
from rnngraph.nn.cells import GRUCell, LSTMCell, SimpleRNNCell, StackedCells
from rnngraph.nn.context import active, state_input
from rnngraph.nn.initializers import Initializer, IntShape
from rnngraph.nn.loop import Loop
from rnngraph.nn.masks import hand_on, time_mask
from rnngraph.nn.tensor import Tensor, tensors_in, wrap


class SequenceOptions(TypedDict, total=False):
    """The arguments that all recurrent layers share; see `RNN`."""

    return_sequences: bool
    return_state: bool
    go_backwards: bool
    unroll: bool
    time_major: bool
    zero_output_for_mask: bool
    stateful: bool
    name: str | None


class RNN(RecurrentStack):
    """Run a cell over the time axis of [batch, time, features].

    cell                  a `Cell`, or a list of cells (which become `StackedCells`)
    return_sequences      the output of every step [batch, time, units] instead of the last one [batch, units]
    return_state          return (output, state, ...) with the final states
    go_backwards          run from the last step to the first; the output sequence has that order (Keras)
    unroll                straight-line code instead of a loop; time must be an integer
    time_major            input and output sequence are [time, batch, ...]
    zero_output_for_mask  past a row's length the output sequence is zero, instead of the row's last output
    stateful              a call of the compiled model starts where the one before ended, row by row (Keras); see
                          `CompiledModel.reset_states`

    A call takes ``initial_state`` (the states in order, or in the structure that the cell's step sees), ``constants``
    (tensors that every step gets, where the cell's step takes them: Keras) and ``mask``. A mask is bool[batch, time]
    (laid out as the input's first two axes): where it is false, the step leaves the states alone and the output
    repeats the step before (zeros before the first), or is zero with zero_output_for_mask; so do the last output and a
    layer that runs backwards (Keras). Without one, the mask that the input has from `Masking`,
    ``Embedding(mask_zero=True)`` or a layer that passes it on is taken; with return_sequences the output has it too
    (as it is, even behind go_backwards: Keras). Final states are named ``<layer>.<state>``; see `States`.

    Raises ShapeError for a wrong rank, feature size or mask, TraceError for a cell that breaks its contract, or for a
    mask and lengths at once.
    """

    supports_masking = True

    def __init__(self, cell: Cell | Sequence[Cell], return_sequences: bool = False,
                 return_state: bool = False, go_backwards: bool = False, unroll: bool = False, time_major: bool = False,
                 zero_output_for_mask: bool = False, stateful: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        if not isinstance(cell, Cell | list | tuple):
            raise TraceError(f"layer {self.path!r}: expected a Cell or a list of cells, got {cell!r}")
        self.cell: Cell = cell if isinstance(cell, Cell) else StackedCells(cell)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.unroll = unroll
        self.time_major = time_major
        self.zero_output_for_mask = zero_output_for_mask
        self.stateful = stateful

    def children(self) -> Mapping[str, Cell]:
        return {"": self.cell}

    def recurrent_cells(self) -> list[list[Cell]]:
        return [[cell] for cell in (self.cell.cells if type(self.cell) is StackedCells else [self.cell])]

    @property
    def time_axis(self) -> int:
        """The axis of time in the output sequence."""
        return 0 if self.time_major else 1

    def call(self, x: Tensor, initial_state: Any = None,
             mask: Tensor | None = None, constants: Tensor | Sequence[Tensor] = ()) -> Any:
        y, states = self.over_time(x, initial_state, mask, constants)
        if self.return_sequences and self.go_backwards:
            y = wrap(active().builder.reverse(y.value(), self.time_axis))
        hand_on(self, x, mask, y)
        return (y, *states) if self.return_state else y

    def pass_mask(self, inputs: Sequence[Tensor], result: Any) -> None:
        """Nothing to do: `call` has."""

    def over_time(self, x: Tensor, initial_state: Any = None, mask: Tensor | None = None,
                  constants: Tensor | Sequence[Tensor] = (), one_of_two: bool = False) -> tuple[Tensor, list[Tensor]]:
        """The output, and the final states; a sequence is in the input's order even when running backwards.

        ``one_of_two``: a direction of Bidirectional, whose output sequence is zero under a mask (Keras).
        """
        trace = active()
        self.cell.ensure_built(self.step_size(x))
        b = trace.builder
        sequence = x.value() if self.time_major else b.transpose(x.value(), (1, 0, *range(2, x.rank)))
        keep, lengths = time_mask(x, mask, self.time_major)
        name = self._call_name()
        initial = self._initial(name, sequence.type, initial_state)
        forced = one_of_two and keep is not None
        pad = "zero" if (self.return_sequences if forced else self.zero_output_for_mask) else "repeat"
        loop = Loop(self.cell, States.of(self.cell), sequence, initial, lengths, self.go_backwards, pad,
                    self.return_sequences, keep)
        with trace.sequence(), trace.given([constants] if isinstance(constants, Tensor) else constants):
            y, finals = self.cell.run(loop, self.unroll)
        if self.return_sequences and not self.time_major:
            y = b.transpose(y, (1, 0, *range(2, y.type.rank)))
        names = [f"{name}.{n}" for n in loop.states.names]
        if self.stateful:
            trace.kept.update(zip(names, finals, strict=True))
        return wrap(y), [wrap(v, n) for v, n in zip(finals, names, strict=True)]

    def step_size(self, x: Tensor) -> int | IntShape:
        """The size of a step's input without the batch, as `Cell.build` gets it; ShapeError unless it is known."""
        rank = self.cell.input_rank
        step = "features" if rank == 1 else f"{rank} dims of a step"
        self.expect(x, 2 + rank, f"[time, batch, {step}]" if self.time_major else f"[batch, time, {step}]")
        sizes = tuple(d for d in x.shape[2:] if isinstance(d, int))
        if len(sizes) < rank or 0 in sizes:
            raise ShapeError(f"expected integers >= 1 as the dims of a step, got {x.type}; only batch and time may be "
                             "symbols")
        return sizes[0] if rank == 1 else sizes

    def _call_name(self) -> str:
        """The layer's path; a shared layer's later calls are told apart."""
        trace = active()
        number = trace.use(f"{trace.path}:call")
        return f"{trace.path}.call{number}" if number else trace.path

    def _initial(self, name: str, x: TensorType, given: Any) -> list[Value]:
        """The initial states: those given, inputs of the graph, or zeros."""
        trace = active()
        states = States.of(self.cell)
        types = [x.with_shape((x.shape[1], *shape)) for shape in states.shapes]
        if given is not None:
            return self._check_states(states, types, _in_order(states, given))
        if trace.options.initial_state or (trace.options.stateful and self.stateful):
            return [trace.graph.add_input(t, state_input(f"{name}.{n}"))
                    for n, t in zip(states.names, types, strict=True)]
        return [trace.builder.zeros(t) for t in types]

    def _check_states(self, states: States, types: list[TensorType], given: list[Tensor]) -> list[Value]:
        if len(given) != len(types):
            raise ShapeError(f"expected {len(types)} initial states ({', '.join(states.names)}), got "
                             f"{len(given)}")
        for n, t, g in zip(states.names, types, given, strict=True):
            if not isinstance(g, Tensor) or g.type != t:
                raise ShapeError(f"expected {t} as initial state {n!r}, got {getattr(g, 'type', g)}")
        return [g.value() for g in given]


def _in_order(states: States, given: Any) -> list[Any]:
    """States as a user gives them, in the structure of the cell's or in order, as a list."""
    if isinstance(given, Tensor):
        return [given]
    nested = states.flatten(given)
    if nested is not None and all(isinstance(g, Tensor) for g in nested):
        return nested
    return tensors_in(given) if any(isinstance(g, list | tuple | dict) for g in given) else list(given)


class SimpleRNN(RNN):
    """The plain recurrence h' = activation(x W + b + h R); Keras's arguments, and ``clip``; see `RNN`, `SimpleRNNCell`.
    """

    def __init__(self, units: int, activation: str | Activation = "tanh", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros",
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, *, implementation: int = 2,
                 clip: float | None = None, **options: Unpack[SequenceOptions]) -> None:
        cell = SimpleRNNCell(units, activation, use_bias, kernel_initializer, recurrent_initializer,
                             bias_initializer, dropout, recurrent_dropout, implementation=implementation, clip=clip)
        super().__init__(cell, **options)
        self.units = units


class LSTM(RNN):
    """Long short-term memory; Keras's arguments and defaults, and the options of `LSTMCell`; see `RNN`.

    With ``proj_size`` the output and the state h have that size (PyTorch's `torch.nn.LSTM(proj_size=...)`).

    Example:
        >>> from rnngraph.nn import LSTM, Input, Sequential, trace
        >>> model = Sequential([LSTM(64, return_sequences=True), LSTM(32, proj_size=16)])
        >>> graph = trace(model, Input(("batch", "time", 80)))
        >>> graph.outputs[0].type.shape
        ('batch', 16)
    """

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros", unit_forget_bias: bool = True,
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, peepholes: bool = False, *,
                 implementation: int = 2, clip: float | None = None,
                 cell_clip: float | tuple[float, float] | None = None, proj_size: int | None = None,
                 proj_clip: float | None = None, projection_initializer: str | Initializer = "glorot_uniform",
                 forget_bias: float = 0.0, input_forget: bool = False, **options: Unpack[SequenceOptions]) -> None:
        cell = LSTMCell(units, activation, recurrent_activation, use_bias, kernel_initializer,
                        recurrent_initializer, bias_initializer, unit_forget_bias, dropout, recurrent_dropout,
                        peepholes, implementation=implementation, clip=clip, cell_clip=cell_clip,
                        proj_size=proj_size, proj_clip=proj_clip, projection_initializer=projection_initializer,
                        forget_bias=forget_bias, input_forget=input_forget)
        super().__init__(cell, **options)
        self.units = units


class GRU(RNN):
    """Gated recurrent unit, both variants; Keras's arguments and defaults, and ``clip``; see `RNN`, `GRUCell`."""

    def __init__(self, units: int, activation: str | Activation = "tanh",
                 recurrent_activation: str | Activation = "sigmoid", use_bias: bool = True,
                 kernel_initializer: str | Initializer = "glorot_uniform",
                 recurrent_initializer: str | Initializer = "orthogonal",
                 bias_initializer: str | Initializer = "zeros",
                 dropout: float = 0.0, recurrent_dropout: float = 0.0, reset_after: bool = True, *,
                 implementation: int = 2, clip: float | None = None, **options: Unpack[SequenceOptions]) -> None:
        cell = GRUCell(units, activation, recurrent_activation, use_bias, kernel_initializer,
                       recurrent_initializer, bias_initializer, dropout, recurrent_dropout, reset_after,
                       implementation=implementation, clip=clip)
        super().__init__(cell, **options)
        self.units = units
