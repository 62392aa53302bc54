"""raw_rnn: a cell whose next input, state, output and end a function of the user decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from rnngraph.errors import TraceError
from rnngraph.ir import Dim
from rnngraph.nn.cell import Cell, States
from rnngraph.nn.context import active
from rnngraph.nn.layer import Layer
from rnngraph.nn.row_loop import Made, batch_of, done_rows, row_loop
from rnngraph.nn.tensor import Tensor, like, map_tensors, tensors_in, wrap

PADS = ("zero", "repeat")
LoopFunction: TypeAlias = Callable[..., tuple[Any, Any, Any, Any, Any]]


def raw_rnn(cell: Cell, loop_fn: LoopFunction, max_steps: Dim,
            *, inputs: Any = None, pad: str = "zero", time_major: bool = False,
            name: str = "raw_rnn") -> tuple[Any, Any, Any, Tensor]:
    """Run a cell whose next input, state, output and end ``loop_fn`` decides: a decoder that reads what it wrote.

    loop_fn    (time, output, state, loop_state) -> (finished, next_input, next_state, emit, next_loop_state).
               It is called with (0, None, None, None) to start: finished bool [batch] (rows that run no step),
               next_input [batch, features], next_state the cell's first state (None: zeros), loop_state anything
               made of tensors [batch, ...], or None. Then with what the cell made of each step, time being
               f32[batch, 1] with the number of steps that the row has run; next_state None: the cell's; emit None: the
               cell's output; next_loop_state None: the old one. With ``inputs`` it gets them as a fifth argument
    max_steps  no row runs more steps: a number >= 1, or a symbol such as an input's time
    inputs     tensors from outside that ``loop_fn`` uses: needed while a model is composed of Inputs
    pad        what the outputs hold behind a row's last step: "zero" (as TensorFlow), or "repeat" (its last output)

    Returns the emitted sequence(s) [batch, max_steps, ...] (time_major: [max_steps, batch, ...]), the final state, the
    final loop state, and i32[batch], the steps that each row has run. A row that is finished keeps all of its state,
    next input and loop state included; when all rows are, the loop ends. After `tf.nn.raw_rnn`, where the loop state is
    one for all rows. Raises TraceError or ShapeError when ``loop_fn`` breaks this.

    Example (feed the output back until its first feature is above 0.5):
        >>> import numpy as np, rnngraph as rg
        >>> from rnngraph import nn
        >>> x = rg.Input(("batch", 4))
        >>> def loop(time, output, state, loop_state, x):
        ...     if output is None:
        ...         return nn.ops.zeros_like(x[:, 0]) > 0.0, x, None, None, None
        ...     return output[:, 0] > 0.5, output, state, output, None
        >>> y, h, _, steps = nn.raw_rnn(nn.GRUCell(4), loop, 8, inputs=x)
        >>> rg.compile(rg.nn.Model(x, [y, steps]))(np.ones((2, 4), np.float32))[0].shape
        (2, 8, 4)
    """
    if pad not in PADS:
        raise TraceError(f"raw_rnn: pad must be one of {PADS}, got {pad!r}")

    layer = _RawRNN(cell, loop_fn, max_steps, pad, time_major, name)
    if any(t.deferred for t in tensors_in(inputs)):
        results = iter(layer(inputs))
        return layer.structured(lambda _: next(results))
    with active().scope(name):
        layer.call(inputs)
    return layer.structured(lambda t: t)


class _RawRNN(Layer):
    """One `raw_rnn`: as a layer, so that a model composed of Inputs has the cell's weights."""

    def __init__(self, cell: Cell, loop_fn: LoopFunction, max_steps: Dim, pad: str, time_major: bool,
                 name: str) -> None:
        super().__init__(name)
        self.cell = cell
        self.loop_fn = loop_fn
        self.max_steps = max_steps
        self.pad = pad
        self.time_major = time_major
        self.result: tuple[Any, Any, Any, Tensor] | None = None  # of the latest call, in its structure

    def children(self) -> Mapping[str, Cell]:
        return {"": self.cell}

    def structured(self, function: Callable[[Tensor], Tensor]) -> tuple[Any, Any, Any, Tensor]:
        """The latest result with ``function`` applied to each tensor, in order."""
        assert self.result is not None
        outputs, state, loop_state, steps = (map_tensors(function, part) for part in self.result)
        return outputs, state, loop_state, steps

    def pass_mask(self, inputs: Sequence[Tensor], result: Any) -> None:
        """A mask of the inputs is not one of the loop's steps."""

    def call(self, inputs: Any) -> tuple[Tensor, ...]:
        self.result = self._loop(inputs)
        return tuple(tensors_in(list(self.result)))

    def _ask(self, inputs: Any, *args: Any) -> tuple[Any, Any, Any, Any, Any]:
        given = self.loop_fn(*args) if inputs is None else self.loop_fn(*args, inputs)
        if not isinstance(given, tuple) or len(given) != 5:
            raise TraceError(f"layer {active().path!r}: loop_fn must return (finished, next_input, next_state, emit, "
                             f"next_loop_state), got {given!r}")
        return given

    def _loop(self, inputs: Any) -> tuple[Any, Any, Any, Tensor]:
        finished, x, state, _, loop_state = self._ask(inputs, 0, None, None, None)
        if not isinstance(x, Tensor) or x.rank < 2:
            raise TraceError(f"layer {active().path!r}: loop_fn must give a next_input [batch, features] to start, got "
                             f"{x!r}")
        batch = x.shape[0]
        self.cell.build_for(x.shape)
        states = States.of(self.cell)
        first = self._states(states, state, x)
        count, shape = len(first), list[Any]([None])

        def step(carries: Sequence[Tensor], time: Tensor) -> Made:
            output, new = self.cell.checked_step(carries[0], carries[1 : 1 + count])
            before = like(loop_state, carries[1 + count :])
            done, following, next_state, emit, after = self._ask(inputs, time, output, states.pack(new), before)
            kept = new if next_state is None else self._states(states, next_state, x)
            shape[0] = output if emit is None else emit
            return Made([*tensors_in(following), *kept, *tensors_in(before if after is None else after)],
                         done_rows(done, batch), tensors_in(shape[0]))

        initial = [x, *first, *tensors_in(loop_state)]
        batch_of(initial, "what loop_fn gives")
        finals, ys, steps = row_loop(initial, done_rows(finished, batch), step, self.max_steps, self.pad)
        if not self.time_major:
            ys = [wrap(active().builder.transpose(y.value(), (1, 0, *range(2, y.rank)))) for y in ys]
        return (like(shape[0], ys), states.pack(finals[1 : 1 + count]), like(loop_state, finals[1 + count :]), steps)

    def _states(self, states: States, given: Any, x: Tensor) -> list[Tensor]:
        if given is None:
            return [wrap(active().builder.zeros(x.type.with_shape((x.shape[0], *s)))) for s in states.shapes]
        return tensors_in(given)
