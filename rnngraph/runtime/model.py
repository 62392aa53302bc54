"""CompiledModel: what `rnngraph.compile` returns. Arrays in, arrays out; variants compile when first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias

import numpy as np

from rnngraph.data.packing import PackedSequence
from rnngraph.errors import InputError
from rnngraph.ir import Array
from rnngraph.report import Report
from rnngraph.runtime.foreign import PLAIN, all_plain
from rnngraph.runtime.inputs import mapping
from rnngraph.runtime.packed import Packing
from rnngraph.runtime.program import Program
from rnngraph.runtime.session import Session
from rnngraph.runtime.stateful import KeptStates, zero_states
from rnngraph.runtime.states import State


@dataclass(frozen=True, slots=True)
class Variant:
    """How a model is called: each combination is a program of its own, compiled when first needed.

    lengths        every row has a length
    initial_state  the states come in with the call
    mask           every step of every row has a flag
    stream         all states come in and go out: see `rnngraph.runtime.streaming`
    stateful       the states of stateful layers come in and go out
    packed         with lengths: rows come sorted by falling length, and sequences go out packed
    """

    lengths: bool = False
    initial_state: bool = False
    mask: bool = False
    stream: bool = False
    stateful: bool = False
    packed: bool = False


Build: TypeAlias = Callable[[Variant], Program]
ForeignNames: TypeAlias = tuple[Mapping[str, str], Mapping[str, str]]  # of inputs and outputs, by those in the graph


class CompiledModel:
    """A compiled model: call it with numpy arrays.

    ``model(x)`` gives one array, or a tuple when there are several outputs. ``lengths=`` (i32[batch], each in
    0..steps), ``mask=`` (bool[batch, time] of any pattern, for recurrences without a mask of their own; or lengths)
    and ``initial_state=`` compile a variant of the model on first use; it is kept, and reads the
    model's weights at that time. Calls are reentrant from threads.

    Inputs must have the declared dtype (float32 for f32; any integer dtype for indices and lengths), rank and
    integer dims; any strides, byte order and alignment will do. NaN and infinities are values and propagate.
    An empty batch gives empty outputs; no steps (T=0) gives empty sequences and the initial state as the
    final one.

    >>> import numpy as np, rnngraph as rg
    >>> double = rg.compile("graph @g(%x: f32[B]) { %y = add %x, %x : f32[B]  return y = %y }")
    >>> double(np.array([1, 2], np.float32))
    array([2., 4.], dtype=float32)
    """

    def __init__(self, build: Build, foreign: ForeignNames = ({}, {})) -> None:
        self._build = build
        self._foreign_inputs, self._foreign_outputs = foreign
        self._own = {name: own for own, name in self._foreign_inputs.items()}
        self._lock = Lock()
        self._program = build(Variant())  # apart from the others: making and hashing a key takes as long as a step
        self._variants: dict[Variant, Program] = {Variant(): self._program}
        self._kept = KeptStates() if self.program.kept else None

    @property
    def program(self) -> Program:
        """The variant without lengths and initial state."""
        return self._program

    def variant(self, *, lengths: bool = False, initial_state: bool = False, mask: bool = False,
                stream: bool = False, stateful: bool = False, packed: bool = False) -> Program:
        """The program for calls with these arguments; compiled when first asked for."""
        key = Variant(lengths, initial_state, mask, stream, stateful, packed)
        program = self._variants.get(key)
        if program is None:
            with self._lock:
                program = self._variants.get(key)
                if program is None:
                    program = self._variants[key] = self._build(key)
        return program

    def stream(self, batch: int | None = None, *, lengths: bool = False, mask: bool = False,
               initial_state: State | None = None, dims: Mapping[str, int] | None = None) -> Session:
        """A session that runs the model step by step, or chunk by chunk, and keeps the states in between.

        batch          how many rows run side by side: 1 where the model leaves it open
        lengths        `Session.feed` takes the rows' lengths within a chunk
        mask           calls take one more input, ``mask``: which of their steps count, bool[batch] or [batch, n]
        initial_state  where the states start, by name or in order; zeros otherwise, or as the model says
        dims           sizes of further symbols

        Any number of sessions may run side by side, in threads too. Raises StreamError, naming layer and reason,
        when steps depend on later ones (Bidirectional, go_backwards, reductions over time, ...).

        >>> import numpy as np, rnngraph as rg
        >>> compiled = rg.compile(rg.nn.LSTM(4, return_sequences=True), rg.Input(("batch", "time", 3)))
        >>> session = compiled.stream(batch=2)
        >>> session.step(np.zeros((2, 3), np.float32)).shape, session.feed(np.zeros((2, 5, 3), np.float32)).shape
        ((2, 4), (2, 5, 4))
        """
        return Session(self.variant(stream=True, lengths=lengths, mask=mask), batch, lengths, initial_state, dims or {})

    @property
    def states(self) -> dict[str, Array]:
        """Copies of the states that layers with ``stateful=True`` have kept, by name: none before the first call."""
        return {} if self._kept is None else self._kept.copies()

    def reset_states(self, states: Mapping[str, object] | str | None = None) -> None:
        """What layers with ``stateful=True`` have kept: forget it, or replace it.

        Without an argument every layer starts anew, with any batch. A name is that of a layer (``lstm``) or of a state
        (``lstm.h``): only it starts anew, at zero. A mapping from such names to arrays [batch, units] (a list of them
        where the layer has several states) says where they go on. Raises InputError for an unknown name or an array
        that does not fit.

        >>> import numpy as np, rnngraph as rg
        >>> model = rg.compile(rg.nn.GRU(4, stateful=True), rg.Input(("batch", "time", 3)))
        >>> a, b = model(np.ones((2, 5, 3), np.float32)), model(np.ones((2, 5, 3), np.float32))
        >>> model.reset_states()
        >>> bool((a == b).all()), bool((a == model(np.ones((2, 5, 3), np.float32))).all())
        (False, True)
        """
        if self._kept is None:
            raise InputError("reset_states: the model has no layer with stateful=True")
        self._kept.reset(self.variant(stateful=True), states)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs in the order in which positional arrays are taken; of an imported model, by the file's names."""
        return tuple(self._foreign_inputs.get(n, n) for n in self.program.input_names)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs in the order in which they are returned; of an imported model, by the file's names."""
        return tuple(self._foreign_outputs.get(n, n) for n in self.program.output_names)

    @property
    def report(self) -> Report:
        """What the compiler did; of another variant: ``model.variant(lengths=True).report``."""
        return self.program.report

    def explain(self) -> str:
        """The report as text: what was applied, missed and selected, and why."""
        return self.report.explain()

    def __call__(self, *arrays: object, lengths: object = None, initial_state: State | None = None,
                 mask: object = None, **named: object) -> Array | tuple[Array, ...]:
        """Run on arrays, given by position or by name.

        ``initial_state``: a mapping from state names (``layer.h0``, or ``layer.h`` as outputs are named) to
        arrays [batch, units], where a state that is not named starts at zero; or all of them in order; or the
        only one. A call of a model with stateful layers starts from the states that the last one left, except for
        those given.

        A `rnngraph.data.PackedSequence`, or PyTorch's, may stand for an input [batch, time, ...] (all with one
        packing): then outputs that are sequences are packed likewise (of a PyTorch module those that it packs), all
        else that has a row per sequence comes and goes in their order, and no step of a recurrence past a sequence's
        end is run. Tensors of PyTorch are arrays here. Raises InputError before anything runs when an input does not
        fit.
        """
        program = self._program
        plain = lengths is None and initial_state is None and mask is None and self._kept is None
        if plain and named:
            arrays, named = self._placed(arrays, named)
        if not PLAIN.issuperset(map(type, arrays)):
            arrays = all_plain(arrays, program.place)
            plain = plain and PackedSequence not in map(type, arrays)
        if plain and not named and len(arrays) == len(program.input_names):
            outputs = program.run(arrays)
        else:
            outputs = self._run_named(self._by_name(arrays, named), {"lengths": lengths, "mask": mask}, initial_state)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def prepare(self, *arrays: object, **named: object) -> None:
        """Check inputs as a call does, and compile what it would; nothing is run."""
        values = self._by_name(arrays, named)
        self._expect_all(values)
        self.program.plan.bind([values[n] for n in self.program.input_names])

    def run(self, inputs: Mapping[str, object]) -> dict[str, Array]:
        """Arrays by name in, arrays by name out. "lengths" or "mask", and states (``layer.h0``), may be among them.

        >>> import numpy as np, rnngraph as rg
        >>> neg = rg.compile("graph @g(%x: f32[B]) { %y = neg %x : f32[B]  return y = %y }")
        >>> neg.run({"x": np.ones(1, np.float32)})
        {'y': array([-1.], dtype=float32)}
        """
        if not isinstance(inputs, Mapping) or not all(isinstance(n, str) for n in inputs):
            raise InputError(f"run takes a mapping from input names to arrays, got {_kind(inputs)}")
        arrays = all_plain(inputs.values(), self.program.place)
        inputs = {self._own.get(n, n): a for n, a in zip(inputs, arrays, strict=True)}
        own = {n: a for n, a in inputs.items() if n in self.program.input_names}
        rows = {n: inputs.get(n) if n not in own else None for n in ("lengths", "mask")}
        state = {n: a for n, a in inputs.items() if n not in own and n not in rows}
        outputs = self._run_named(own, rows, state or None)
        return dict(zip(self.output_names, outputs, strict=True))

    def _placed(self, arrays: tuple[object, ...],
                named: dict[str, object]) -> tuple[tuple[object, ...], dict[str, object]]:
        """Arrays by name put behind those by position, when together they are the inputs."""
        rest = self._program.input_names[len(arrays) :]
        if len(named) == len(rest):
            given = {self._own.get(n, n): a for n, a in named.items()}
            if all(n in given for n in rest):
                return (*arrays, *(given[n] for n in rest)), {}
        return arrays, named

    def _by_name(self, arrays: Sequence[object], named: Mapping[str, object]) -> dict[str, object]:
        names = self.program.input_names
        if len(arrays) > len(names):
            raise InputError(f"expected {len(names)} input(s) {list(self.input_names)}, got {len(arrays)} arrays")
        values = dict(zip(names, all_plain(arrays, self.program.place), strict=False))
        for given, array in zip(named, all_plain(named.values(), self.program.place), strict=True):
            name = self._own.get(given, given)
            if name not in names:
                raise InputError(f"unknown input {given!r}; the model takes {list(self.input_names)}")
            if name in values:
                raise InputError(f"input {given!r} is given twice, by position and by name")
            values[name] = array
        return values

    def _run_named(self, values: dict[str, object], rows: Mapping[str, object], state: State | None) -> list[Array]:
        rows = {n: a for n, a in rows.items() if a is not None}  # lengths, or a mask
        if len(rows) > 1:
            raise InputError("expected lengths= or mask=, got both; a mask says all that lengths say")
        if (packing := Packing.of(values)) is not None:
            return self._run_packed(packing, values, rows, state)
        own = {n: a for n, a in rows.items() if n in self.program.input_names}  # of a graph that already has the input
        values, rows = {**values, **own}, {n: a for n, a in rows.items() if n not in own}
        self._expect_all(values)
        program = self.variant(lengths="lengths" in rows, initial_state=state is not None, mask="mask" in rows,
                               stateful=self._kept is not None)
        values = {**values, **rows}
        if state is not None:
            values = {**values, **self._states(program, values, state)}
        if self._kept is not None:
            return self._kept.run(program, values, len(self.program.output_names))
        values = {**values, **zero_states(program, values)}
        return program.run([values[n] for n in program.input_names])

    def _expect_all(self, values: Mapping[str, object]) -> None:
        expect_all(dict(zip(self.program.input_names, self.input_names, strict=True)), values)

    def _run_packed(self, packing: Packing, values: Mapping[str, object], rows: Mapping[str, object],
                    state: State | None) -> list[Any]:
        if rows or self._kept is not None:
            what = ", ".join(f"{n}=" for n in rows) or "layers that keep their states (stateful=True)"
            raise InputError(f"expected packed input alone, got {what}; a packing says the lengths, and its rows are "
                             "those of one call")
        self._expect_all({"lengths": None, **values})
        own = "lengths" in self.program.input_names  # a graph that was traced with them
        program = self.variant(lengths=not own, packed=not own, initial_state=state is not None)
        if state is not None:
            values = {**values, **self._states(program, {**values, "lengths": None}, state)}
        arrays = packing.pad(program, values)
        arrays = {**arrays, **zero_states(program, arrays)}
        return packing.pack(program, program.run([arrays[n] for n in program.input_names]))

    def _states(self, program: Program, values: Mapping[str, object], state: State) -> dict[str, object]:
        specs = {s.name: s for s in program.plan.specs if s.name not in values}
        if not specs:
            raise InputError("initial_state: no recurrence of this model takes its states from a call; states that are "
                             f"inputs of the model are given with the others: {list(self.input_names)}")
        if not isinstance(state, Mapping):
            single = isinstance(state, np.ndarray) or (program.place is not None and program.place.holds(state))
            if not single and not isinstance(state, list | tuple):
                raise InputError(f"initial_state: expected arrays for {list(specs)}, by name or in order, "
                                 f"got {_kind(state)}")
            items = [state] if single and len(specs) == 1 else list(state)
            if len(items) != len(specs):
                raise InputError(f"initial_state: expected one array for each of {list(specs)}, "
                                 f"got {len(items)}")
            return dict(zip(specs, items, strict=True))
        names = {n: next((m for m in (n, f"{n}0", f"{n}_0") if m in specs), "") for n in state}
        if unknown := [n for n in state if not names[n]]:
            raise InputError(f"initial_state: unknown state(s) {unknown}; the model has {list(specs)}")
        given = {names[n]: a for n, a in state.items()}
        if len(given) != len(state):
            raise InputError(f"initial_state: some state is given twice in {list(state)}; the model has {list(specs)}")
        return given


def expect_all(names: Mapping[str, str], values: Mapping[str, object]) -> None:
    """InputError for inputs that are missing; ``names`` are the callers' by the graph's."""
    if missing := [label for n, label in names.items() if n not in values]:
        only = next(iter(values.values()), None)
        got = f", {mapping(only)}" if isinstance(only, Mapping) else ""
        raise InputError(f"missing input(s) {missing}; the model takes {list(names.values())}{got}")


def _kind(value: object) -> str:
    """What was given, for a message: the keys of a mapping, else the type."""
    return f"the keys {list(value)}" if isinstance(value, Mapping) else type(value).__name__
