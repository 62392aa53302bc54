"""Cell: one step of a recurrence, and how its states are named and packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Dim, Shape, Value
from rnngraph.nn import calls
from rnngraph.nn.context import active
from rnngraph.nn.initializers import IntShape
from rnngraph.nn.loop import Loop, scanned, unrolled
from rnngraph.nn.states import States, StateSize, describe
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.weights import WeightOwner

__all__ = ["Cell", "StateSize", "States"]


class Cell(WeightOwner):
    """Base of the cells, the built-in and the user's own: states, weights, and one step.

    state_size  an int (one state [batch, n]), a tuple of ints or shapes, or a dict of names to them; () for none. They
                nest: a tuple or dict within is states of its own, but a tuple of ints within is the shape of one
    build       creates the weights with ``self.weight = self.add_weight(name, shape, initializer)``
    input_rank  dims of a step's input without the batch (default 1); above 1 ``build`` gets their sizes as a tuple
    step        (x [batch, features], state) -> (y, new state); state is a tensor, tuple or dict, as state_size. A
                cell whose step takes ``constants`` gets those of the layer's call, a tuple of tensors (Keras)

    A state keeps its shape and dtype; TraceError names the cell otherwise. `Cell(units)` sets state_size. A cell
    is used as `RNN(cell)`, by hand as ``cell(x, states)``, or by `unroll`, on tensors and Inputs. Arrays go to what
    `rnngraph.compile` makes of them; a TraceError says so.

    Example (a minimal gated unit; Zhou et al. 2016):
        >>> from rnngraph.nn import RNN, Cell, Input, ops, trace
        >>> class MinimalGatedUnit(Cell):
        ...     def build(self, n):
        ...         u = self.state_size
        ...         self.Wf, self.Rf = self.add_weight("Wf", (n, u)), self.add_weight("Rf", (u, u))
        ...         self.Wn, self.Rn = self.add_weight("Wn", (n, u)), self.add_weight("Rn", (u, u))
        ...     def step(self, x, h):
        ...         f = ops.sigmoid(x @ self.Wf + h @ self.Rf)
        ...         h = h + f * (ops.tanh(x @ self.Wn + (f * h) @ self.Rn) - h)
        ...         return h, h
        >>> trace(RNN(MinimalGatedUnit(4)), Input(("batch", "time", 3))).outputs[0].shape
        ('batch', 4)
    """

    state_size: Any  # a StateSize; Any, since each cell knows which form its own has
    input_rank: int = 1  # dims of a step's input without the batch: 1 for features, 3 for an image with channels
    _input_size: int | IntShape | None = None
    _layer: calls.CellLayer | None = None  # as which the cell is called by hand

    def __init__(self, state_size: StateSize | None = None) -> None:
        if state_size is not None:
            self.state_size = state_size

    def build(self, input_size: Any) -> None:
        """Create the weights for inputs [batch, input_size]; a cell with `input_rank` above 1 gets a tuple of sizes."""

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One step: the output and the new state."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """How messages call this cell."""
        return f"cell {type(self).__name__}"

    @property
    def states(self) -> States:
        """The names and shapes of the states, in order."""
        return States.of(self)

    @property
    def output_shape(self) -> IntShape:
        """The output's shape without the batch: the first state's, with `output_size` as its last dim."""
        return (*self.states.shapes[0][:-1], self.output_size)

    @property
    def output_size(self) -> int:
        """The features of the output: by default those of the first state. A cell whose output differs says so."""
        return self.states.shapes[0][-1]

    @property
    def steppable(self) -> bool:
        """Whether the cell has single steps; False for one that needs a whole sequence (`BidirectionalCell`)."""
        return True

    def run(self, loop: Loop, unroll: bool) -> tuple[Value, list[Value]]:
        """The output (sequence) and the final states over a sequence; what is more than one loop overrides it."""
        return unrolled(loop) if unroll else scanned(loop)

    @property
    def state_info(self) -> list[dict[str, Any]]:
        """What `begin_state` makes: name, shape (with the symbol "batch") and layout of each state, as MXNet."""
        return [{"name": n, "shape": ("batch", *s), "layout": "NC" if len(s) == 1 else "N" + "CHWD"[:len(s)]}
                for n, s in zip(self.states.names, self.states.shapes, strict=True)]

    def begin_state(self, batch: Dim = "batch",
                    func: Callable[[str, Shape], Tensor] | None = None) -> list[Tensor]:
        """States to start from: zeros, or what ``func(name, shape)`` gives, such as Inputs (MXNet's begin_state)."""
        return calls.begin_state(self, batch, func)

    def __call__(self, x: Any, states: Any = None, constants: Sequence[Tensor] = ()) -> tuple[Any, Any]:
        """One step by hand, in a trace or while a model is composed: (y, new states).

        ``states`` has the form that `step` takes, or is a list in order, and the new ones have the same form; None
        starts at zero. Dropout masks that hold for a sequence hold until `reset`. TraceError for arrays.

        Example:
            >>> from rnngraph.nn import Input, LSTMCell, Model, trace
            >>> cell, x = LSTMCell(4), Input(("batch", 3))
            >>> y, states = cell(x, cell.begin_state())
            >>> y, states = cell(y[:, :3], states)
            >>> trace(Model(x, y)).outputs[0].shape
            ('batch', 4)
        """
        return calls.step(self, x, states, constants)

    def unroll(self, length: int | None, inputs: Any, begin_state: Any = None, layout: str = "NTC",
               merge_outputs: bool | None = None, valid_length: Tensor | None = None,
               constants: Sequence[Tensor] = ()) -> tuple[Any, list[Tensor]]:
        """The cell over a sequence: (outputs, final states), as MXNet's unroll. It becomes a loop, not a copy per step.

        length         the number of steps; None takes the inputs' own, which may be a symbol
        inputs         a tensor in ``layout``, "NTC" [batch, time, ...] or "TNC", or a list of tensors [batch, ...]
        begin_state    states to start from, in order; None starts at zero
        merge_outputs  False: a list of one output per step; otherwise one tensor in ``layout``
        valid_length   i32[batch]: outputs past a row's length are zero, and its states are those at its length
        constants      what the cell's steps may use besides

        Raises ShapeError when length and inputs differ.

        Example:
            >>> from rnngraph.nn import GRUCell, Input, Model, trace
            >>> x = Input(("batch", 5, 3))
            >>> outputs, states = GRUCell(4).unroll(5, x, merge_outputs=True)
            >>> trace(Model(x, [outputs, *states])).outputs[0].shape
            ('batch', 5, 4)
        """
        return calls.unroll(self, inputs, begin_state,
                            calls.Unroll(length, layout, merge_outputs is not False), valid_length, constants)

    def reset(self) -> None:
        """Begin a new sequence for steps taken by hand: dropout masks are drawn anew (MXNet's reset)."""
        calls.layer_of(self).sequence += 1

    def unbuild(self) -> None:
        super().unbuild()
        self._input_size = None

    def ensure_built(self, input_size: int | IntShape) -> None:
        """Build once; ShapeError when the cell was built for another input size."""
        if self._input_size is None:
            self.build(input_size)
            self._input_size = input_size
        elif self._input_size != input_size:
            what = "features" if self.input_rank == 1 else "as the size of an input"
            raise ShapeError(f"{self.label} was built for {self._input_size} {what}, got {input_size}")

    def build_for(self, shape: Shape) -> None:
        """Build for a step's input of this shape, batch included; ShapeError unless it has `input_rank` known dims."""
        sizes = tuple(d for d in shape[1:] if isinstance(d, int) and d > 0)
        if len(shape) != 1 + self.input_rank or len(sizes) != self.input_rank:
            raise ShapeError(f"{self.label}: expected a step's input [batch, {self.input_rank} known dims], got "
                             f"[{', '.join(map(str, shape))}]")
        self.ensure_built(sizes[0] if self.input_rank == 1 else sizes)

    def checked_step(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """`step` on states in order, its result checked; every error names the layer and the cell."""
        try:
            y, new = self._results(self._step(x, States.of(self).pack(states)))
            self._check_states(states, new)
            for tensor in (y, *new):
                tensor.value()  # raises for a tensor of another trace or loop
        except AttributeError as e:
            if e.obj is not self:
                raise
            raise TraceError(self._located(f"step uses self.{e.name}, which does not exist; create it in build with "
                                           "self.add_weight(name, shape)")) from e
        except NotImplementedError:
            raise TraceError(self._located("expected a method step(self, x, state), got none")) from None
        except ShapeError as e:
            raise ShapeError(self._located(str(e))) from e
        except TraceError as e:
            raise TraceError(self._located(str(e))) from e
        return y, new

    def _step(self, x: Tensor, state: Any) -> Any:
        """`step`, with the constants of the layer's call where it takes them."""
        trace = active()
        if trace.constants and "constants" in signature(self.step).parameters:
            trace.constants_read = True
            step: Callable[..., Any] = self.step  # of a user's cell, which has one argument more than the base's
            return step(x, state, constants=trace.constants)
        return self.step(x, state)

    def _results(self, result: object) -> tuple[Tensor, list[Tensor]]:
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
            raise TraceError(f"step must return (y, new_state) with a tensor y, got {describe(result)}")
        return result[0], States.of(self).unpack(result[1])

    def _check_states(self, states: Sequence[Tensor], new: Sequence[Tensor]) -> None:
        for name, before, after in zip(States.of(self).names, states, new, strict=True):
            if after.type != before.type:
                raise TraceError(f"state {name!r} enters a step as {before.type} and leaves it as {after.type}; "
                                 "a state keeps its shape and dtype")

    def _located(self, message: str) -> str:
        """The message, saying once which layer and which cell it is about."""
        layer = f"layer {active().path!r}: "
        message = message.removeprefix(layer)
        return message if message.startswith(("layer ", "cell ")) else f"{layer}{self.label}: {message}"
