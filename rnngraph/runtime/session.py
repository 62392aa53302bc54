"""Session: a compiled model run step by step, or chunk by chunk, with its states kept in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from threading import Lock
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from rnngraph.data.chunks import chunks
from rnngraph.errors import InputError, StreamError
from rnngraph.ir import Array, Dims, Interpreter, resolve
from rnngraph.ir.dims import is_symbol
from rnngraph.ir.types import is_empty
from rnngraph.runtime.program import Program
from rnngraph.runtime.states import State, named_states
from rnngraph.runtime.streaming import StreamPlan

Outputs: TypeAlias = Array | tuple[Array, ...]


@runtime_checkable
class WritesInto(Protocol):
    """A kernel that can write outputs where it is told to; `rnngraph.backends.llvm.kernel.NativeKernel` is one."""

    def run_into(self, dims: Dims, inputs: Sequence[Array], outputs: Sequence[Array | None],
                 addresses: Mapping[int, int]) -> list[Array]:
        """As `run`; an output for which ``outputs`` holds an array is written there. ``addresses`` are those of some
        arrays, by `id`: asking numpy takes longer than a small step."""


class Session:
    """What `CompiledModel.stream` returns: ``batch`` streams side by side, and their states.

    ``step`` takes one step of every input, ``feed`` a chunk of any number of steps; an input without a time axis is
    given whole each time. An output without a time axis (return_sequences=False, a final state) is the output as of
    now: what the whole model would give if the sequence ended here. Outputs are new arrays.

    The calls of one session take turns; sessions are independent of each other and may run side by side in threads.

    >>> import numpy as np, rnngraph as rg
    >>> session = rg.compile(rg.nn.GRU(4), rg.Input(("batch", "time", 3))).stream()
    >>> y = session.step(np.ones((1, 3), np.float32))
    >>> list(session.state), bool((session.state["gru.h"] == y).all())
    (['gru.h'], True)
    """

    def __init__(self, program: Program, batch: int | None, lengths: bool, initial_state: State | None,
                 dims: Mapping[str, int]) -> None:
        assert program.stream is not None
        self._program = program
        self._plan: StreamPlan = program.stream
        self._lock = Lock()
        if (self._plan.lengths is not None) != lengths:
            raise StreamError("the graph takes lengths: open the stream with lengths=True" if self._plan.lengths
                              else "the graph takes no lengths: open the stream without them")
        self._sizes: Dims = _sizes(program, batch, dims)
        self._names = program.input_names[: len(self._plan.inputs)]
        self._own = [k for k in range(len(self._names)) if k != self._plan.lengths]
        self._one = program.sized({**self._sizes, self._plan.time: 1})
        self._whole = [resolve(s.type.shape, self._one) for s in program.plan.specs[: len(self._names)]]
        self._single = [_without(shape, axis) for shape, axis in zip(self._whole, self._plan.inputs, strict=True)]
        self._lengths = self._plan.lengths
        self._bounded = program.plan.bounded
        empty = is_empty(self._one)  # of what is computed from the sizes: never a kernel's
        self._into = program.direct.run_into if isinstance(program.direct, WritesInto) and not empty else None
        self._outputs = len(self._plan.axes)
        self._places = [s.output for s in self._plan.states]
        self._given = {} if initial_state is None else named_states(self._plan.states, self._sizes, initial_state)
        self._start: list[Array] | None = None  # where the streams start, as far as that is known
        self._states: list[Array] = []  # none before the start is known
        self._spare: list[Array] = []  # where the next call writes them
        self.reset()

    # --- states -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Array]:
        """Copies of the states by name (``lstm.h``). Assign a mapping to set some, or all in order to set all."""
        with self._lock:
            self._known()
            return {s.name: np.array(self._program.on_host(a))
                    for s, a in zip(self._plan.states, self._states, strict=True)}

    @state.setter
    def state(self, given: State) -> None:
        arrays = named_states(self._plan.states, self._sizes, given)
        with self._lock:
            if len(arrays) < len(self._plan.states):
                self._known()
            old = self._states or [arrays[s.name] for s in self._plan.states]
            self._hold([arrays.get(s.name, a) for s, a in zip(self._plan.states, old, strict=True)])

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Back to where the streams started; with ``rows``, these rows of the batch alone."""
        with self._lock:
            if rows is not None:
                self._reset_rows(rows)
            elif self._plan.start.inputs:
                self._states = []
            else:
                self._begin([])

    def _reset_rows(self, rows: Sequence[int]) -> None:
        index = np.asarray(rows).reshape(-1)
        if index.dtype == np.bool_:
            raise InputError("reset: rows must be the numbers of rows, got bools; give numpy.flatnonzero of them")
        if index.size and index.dtype.kind not in "iu":
            raise InputError(f"reset: rows must be the numbers of rows, got {index.dtype}")
        index = index.astype(np.intp)
        if self._start is None:
            self._known()
            raise StreamError("reset: where the rows start is not known before the first step; set state instead")
        for s, array, start in zip(self._plan.states, self._states, self._start, strict=True):
            if s.batch is not None:
                if index.size and (index.min() < 0 or index.max() >= array.shape[s.batch]):
                    raise InputError(f"reset: rows must be in 0..{array.shape[s.batch] - 1}, got {index.tolist()}")
                at: Any = (slice(None),) * s.batch + (index,)
                held = self._program.on_host(array)
                held[at] = start[at]
                if held is not array:
                    array[...] = self._program.place.bring(held)

    def _known(self) -> None:
        if not self._states:
            raise StreamError(f"the states follow from {list(self._plan.start.input_names)}: they are not known before "
                              "the first step")

    def _begin(self, inputs: Sequence[Array]) -> None:
        """Start from what the model, given its inputs without time, and the caller say."""
        inputs = [self._program.on_host(a) for a in inputs]
        with np.errstate(all="ignore"):
            found = Interpreter(self._sizes).run_block(self._plan.start.block, inputs)
        self._start = [self._given.get(s.name, a) for s, a in zip(self._plan.states, found, strict=True)]
        self._hold([np.array(a, s.type.dtype.numpy, order="C")
                    for s, a in zip(self._plan.states, self._start, strict=True)])

    def _hold(self, states: list[Array]) -> None:
        """Take these arrays as the states; each step writes the next ones into the other half of the buffers, or, where
        the program has a place of its own, makes new ones there."""
        if (place := self._program.place) is not None:
            self._states = [a if place.holds(a) else place.bring(a) for a in states]
            return
        self._states, self._spare = states, [np.empty_like(a) for a in states]
        self._addresses = {id(a): int(a.ctypes.data) for a in (*self._states, *self._spare)}

    # --- calls ------------------------------------------------------------------------------------------------------

    def step(self, *arrays: object, **named: object) -> Outputs:
        """One step: every input without its time axis, [batch, features], by position or name; so are the outputs.

        Raises InputError before anything runs when an input does not fit; the states stay as they are.
        """
        given = self._order(arrays, named) if named or len(arrays) != len(self._own) else arrays
        inputs: list[Array] = []
        for k, array in zip(self._own, given, strict=True):
            spec = self._program.plan.specs[k]
            a = spec.array(array)
            if a.shape != self._single[k]:
                raise InputError(f"input {spec.name!r}: expected one step {list(self._single[k])}, got shape {a.shape}")
            inputs.append(a.reshape(self._whole[k]))
        if self._lengths is not None:
            inputs.insert(self._lengths, np.ones(self._whole[self._lengths], np.int32))
        outputs = self._run(self._one, inputs)
        self._settle(given)
        found = [y if axis is None else y.reshape(_without(y.shape, axis))
                 for y, axis in zip(outputs, self._plan.axes, strict=True)]
        return found[0] if len(found) == 1 else tuple(found)

    def feed(self, *arrays: object, lengths: object = None, **named: object) -> Outputs:
        """A chunk: every input with its time axis, [batch, n, features], any n; outputs have their n steps.

        ``lengths``, in a session that was opened with them: how many steps of the chunk each row has. The states of a
        row do not move past its length; its outputs there repeat its last one, or are zero, as the layer says.
        Raises InputError before anything runs when an input does not fit; the states stay as they are.
        """
        given = self._order(arrays, named)
        inputs = [self._program.plan.specs[k].array(a) for k, a in zip(self._own, given, strict=True)]
        steps = self._steps(inputs)
        dims = self._program.sized({**self._sizes, self._plan.time: steps})
        if self._lengths is not None:
            spec = self._program.plan.specs[self._lengths]
            full = np.full(resolve(spec.type.shape, dims), steps, spec.type.dtype.numpy)
            inputs.insert(self._lengths, full if lengths is None else spec.array(lengths))
        elif lengths is not None:
            raise StreamError("feed: for lengths=, open the stream with lengths=True")
        for spec, a in zip(self._program.plan.specs, inputs, strict=False):
            if a.shape != (want := resolve(spec.type.shape, dims)):
                raise InputError(f"input {spec.name!r}: expected {list(want)} ({spec.type}), got shape {a.shape}")
        outputs = self._run(dims, inputs)
        self._settle(given)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def over(self, sequences: Sequence[Array], steps: int) -> list[Outputs]:
        """Run sequences [time, ...] of any lengths through the session's rows, in chunks of ``steps``.

        The outputs of each sequence: those with time whole [time, ...], the others as of its end. Every sequence starts
        where the streams start; the session's states are used up. The session must have been opened with lengths=True,
        and its model take one input. Memory holds one chunk of inputs at a time. After
        `tf.nn.static_state_saving_rnn`. Raises StreamError and InputError.

        >>> import numpy as np, rnngraph as rg
        >>> model = rg.compile(rg.nn.GRU(4, return_sequences=True), rg.Input(("batch", "time", 3)))
        >>> long, short = np.ones((10, 3), np.float32), np.ones((3, 3), np.float32)
        >>> [y.shape for y in model.stream(batch=2, lengths=True).over([long, short, short], steps=4)]
        [(10, 4), (3, 4), (3, 4)]
        """
        axis = self._plan.inputs[self._own[0]] if len(self._own) == 1 else None
        if axis is None or self._lengths is None:
            raise StreamError("over: expected a session opened with lengths=True of a model with one input that has "
                              f"time, got the inputs {[self._names[k] for k in self._own]}")
        pieces: list[list[list[Array]]] = [[[] for _ in self._plan.axes] for _ in sequences]
        rows = self._whole[self._lengths][0]
        for chunk in chunks(sequences, rows, steps):
            self.reset(np.flatnonzero(chunk.starts).tolist())
            got = self.feed(chunk.x if axis else np.swapaxes(chunk.x, 0, 1), lengths=chunk.lengths)
            for y, when, k in zip(got if isinstance(got, tuple) else (got,), self._plan.axes, count(), strict=False):
                for b in np.flatnonzero(chunk.keys >= 0).tolist():
                    if when is not None:
                        pieces[chunk.keys[b]][k].append(np.moveaxis(y, when, 0)[: chunk.lengths[b], b].copy())
                    elif chunk.ends[b]:
                        pieces[chunk.keys[b]][k] = [y[b].copy()]
        found = [tuple(p[0] if when is None else np.concatenate(p)
                       for p, when in zip(each, self._plan.axes, strict=True)) for each in pieces]
        return [f[0] if len(f) == 1 else f for f in found]

    def _order(self, arrays: Sequence[object], named: Mapping[str, object]) -> list[object]:
        names = [self._names[k] for k in self._own]
        if len(arrays) > len(names):
            raise InputError(f"expected {len(names)} input(s) {names}, got {len(arrays)} arrays")
        found = dict(zip(names, arrays, strict=False))
        if wrong := [n for n in named if n not in names or n in found]:
            raise InputError(f"input {wrong[0]!r} is unknown or given twice; the model takes {names}")
        found.update(named)
        if missing := [n for n in names if n not in found]:
            raise InputError(f"missing input(s) {missing}; the model takes {names}")
        return [found[n] for n in names]

    def _steps(self, inputs: Sequence[Array]) -> int:
        """The number of steps of a chunk, from the first input that has time."""
        for k, a in zip(self._own, inputs, strict=True):
            axis = self._plan.inputs[k]
            if axis is not None and axis < a.ndim:
                return int(a.shape[axis])
        return 1

    def _settle(self, given: Sequence[object]) -> None:
        """Arrays of other libraries may be overwritten."""
        if self._program.place is not None:
            self._program.place.settle(given)

    def _run(self, dims: Dims, inputs: list[Array]) -> list[Array]:
        """The model's outputs; the states move on when all went well."""
        count, program = self._outputs, self._program
        for k in self._bounded:
            program.plan.specs[k].check_range(inputs[k], dims)
        with self._lock:
            if not self._states:
                self._begin([inputs[self._names.index(n)] for n in self._plan.start.input_names])
            arrays = [*inputs, *self._states]
            if program.place is not None:
                given = range(len(inputs), len(arrays))
                outputs, self._states = program.run_states(arrays, given, self._places, count)
                return outputs
            if self._into is not None and dims[self._plan.time]:
                spare = [a for place, a in zip(self._places, self._spare, strict=True) if place >= count]
                outputs = self._into(dims, arrays, [None] * count + spare, self._addresses)
            else:
                outputs = program.run(arrays)
            for state, place in zip(self._spare, self._places, strict=True):
                if outputs[place] is not state:  # it is the caller's, or a fresh one
                    state[...] = outputs[place]
            self._states, self._spare = self._spare, self._states
        return outputs[: self._outputs]


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else (*shape[:axis], *shape[axis + 1 :])


def _sizes(program: Program, batch: int | None, dims: Mapping[str, int]) -> Dims:
    """The size of every symbol but time. StreamError when one is missing, unknown, or no size."""
    assert program.stream is not None
    time, states = program.stream.time, program.stream.states
    known = dict.fromkeys(d for s in program.plan.specs for d in s.type.shape
                          if isinstance(d, str) and is_symbol(d) and d != time)
    rows = next((s.type.shape[s.batch] for s in states if s.batch is not None), None)
    sizes: dict[str, object] = dict(dims)
    if isinstance(rows, str) and is_symbol(rows):
        sizes.setdefault(rows, 1 if batch is None else batch)
    got = sizes.get(rows) if isinstance(rows, str) else rows
    if batch is not None and batch != got:
        raise StreamError(f"batch={batch!r}, but the model's batch is {got}")
    if unknown := [n for n in sizes if n not in known]:
        raise StreamError(f"dims: the model has no symbol {unknown[0]!r} beside time; it has {list(known)}")
    found: Dims = {}
    for name in known:
        size = sizes.get(name)
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise StreamError(f"expected a size >= 1 for {name!r}, got {size!r}; batch= gives that of the batch, dims= "
                              "those of further symbols")
        found[name] = int(size)
    return found
