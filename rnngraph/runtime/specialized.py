"""SpecializedModel: a model whose structure follows from values or sizes that only a call knows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from rnngraph.errors import InputError, StreamError
from rnngraph.ir import Array, TensorType, dims
from rnngraph.report import Report
from rnngraph.runtime.inputs import InputSpec
from rnngraph.runtime.model import CompiledModel, ForeignNames
from rnngraph.runtime.program import Program
from rnngraph.runtime.session import Session
from rnngraph.runtime.states import State

MAX_PROGRAMS = 64  # kept; the one that was not used for longest goes


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be known before the model can be compiled: values of inputs, by name, and sizes of symbols.

    ``reasons`` says why, a sentence each.
    """

    values: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    def also(self, other: Needs) -> Needs:
        """Both."""
        return Needs(*(tuple(dict.fromkeys((*getattr(self, f), *getattr(other, f))))
                       for f in ("values", "sizes", "reasons")))


class SpecializedModel(CompiledModel):
    """A compiled model for which some inputs' values, or sizes, are part of the program: one is compiled for each.

    The first call with new ones compiles; the last 64 programs are kept. ``compile(values, sizes)`` gives the program's
    model, or what else must be known. `report` and `explain` speak of the program that ran last.
    """

    def __init__(self, compile: Callable[[Mapping[str, Array], Mapping[str, int]], CompiledModel | Needs],
                 types: Mapping[str, TensorType], outputs: Sequence[str], needs: Needs,
                 foreign: ForeignNames = ({}, {})) -> None:
        self._compile = compile
        self._types = dict(types)
        self._specs = {n: InputSpec(n, t) for n, t in types.items()}
        self._outputs = tuple(outputs)
        self._lock = Lock()
        self._foreign_inputs, self._foreign_outputs = foreign
        self._models: OrderedDict[object, CompiledModel] = OrderedDict()
        self._last: CompiledModel | None = None
        self.needs = needs

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self._foreign_inputs.get(n, n) for n in self._types)

    @property
    def output_names(self) -> tuple[str, ...]:
        if self._last is not None:  # a sequence has as many outputs as elements
            return self._last.output_names
        return tuple(self._foreign_outputs.get(n, n) for n in self._outputs)

    @property
    def program(self) -> Program:
        return self._current().program

    @property
    def report(self) -> Report:
        return self._current().report

    def prepare(self, *arrays: object, **named: object) -> None:
        """Compile the program for these inputs, without running it."""
        self.specialized(self._by_name(arrays, named))

    def _current(self) -> CompiledModel:
        if self._last is None:
            raise InputError(f"nothing is compiled yet: {self.describe()}; call the model first, or give "
                             "example_inputs= to compile()")
        return self._last

    def describe(self) -> str:
        """What the programs depend on, and why."""
        what = [f"the value of {n!r}" for n in self.needs.values] + [f"the size {s!r}" for s in self.needs.sizes]
        return f"a program is compiled for each {' and '.join(what)} ({'; '.join(self.needs.reasons)})"

    def explain(self) -> str:
        return f"{self.describe()}\n{self._current().explain() if self._last is not None else 'none yet'}"

    def variant(self, **how: bool) -> Program:
        return self._current().variant(**how)

    def stream(self, batch: int | None = None, *, lengths: bool = False, mask: bool = False,
               initial_state: State | None = None, dims: Mapping[str, int] | None = None) -> Session:
        raise StreamError(f"a model cannot be streamed when {self.describe()}; its structure is not that of a step")

    def __call__(self, *arrays: object, lengths: object = None, initial_state: State | None = None,
                 mask: object = None, **named: object) -> Array | tuple[Array, ...]:
        values = self._by_name(arrays, named)
        model, rest = self.specialized(values)
        return model(**rest, lengths=lengths, initial_state=initial_state, mask=mask)

    def run(self, inputs: Mapping[str, object]) -> dict[str, Array]:
        values = self._by_name((), dict(inputs))
        model, rest = self.specialized(values)
        return model.run(rest)

    def specialized(self, values: Mapping[str, object]) -> tuple[CompiledModel, dict[str, object]]:
        """The model for these inputs, by name in the graph, and the inputs that it takes."""
        if missing := [n for n in self._types if n not in values]:
            raise InputError(f"missing input(s) {missing}; the model takes {list(self.input_names)}")
        arrays = {n: self._specs[n].array(values[n]) for n in self._types}
        sizes = self._sizes(arrays)
        while True:
            needs = self.needs
            known = ({n: np.array(arrays[n]) for n in needs.values}, {s: sizes[s] for s in needs.sizes})
            key = (needs, tuple((str(a.dtype), a.shape, a.tobytes()) for a in known[0].values()),
                   tuple(known[1].values()))
            with self._lock:
                model = self._models.get(key)
                if model is None:
                    made = self._compile(*known)
                    if isinstance(made, Needs):
                        self.needs = needs.also(made)
                        if self.needs == needs:
                            raise InputError(f"the model cannot be compiled for these inputs: {made.reasons}")
                        continue
                    model = self._models[key] = made
                    while len(self._models) > MAX_PROGRAMS:
                        self._models.popitem(last=False)
                self._models.move_to_end(key)
                self._last = model
            return model, {n: a for n, a in arrays.items() if n not in needs.values}

    def _sizes(self, arrays: Mapping[str, Array]) -> dict[str, int]:
        """The sizes of all symbols; the models check the rest."""
        found: dict[str, int] = {}
        for n, t in self._types.items():
            if len(t.shape) != arrays[n].ndim:
                raise InputError(f"input {n!r}: expected {t}, got shape {list(arrays[n].shape)}")
            for d, size in zip(t.shape, arrays[n].shape, strict=True):
                if dims.is_symbol(d) and found.setdefault(str(d), size) != size:
                    raise InputError(f"input {n!r}: dim {d!r} is {size} here but {found[str(d)]} elsewhere")
        return found

    def _by_name(self, arrays: Sequence[object], named: Mapping[str, object]) -> dict[str, object]:
        own = {self._foreign_inputs.get(n, n): n for n in self._types}
        if len(arrays) > len(own):
            raise InputError(f"expected {len(own)} input(s) {list(own)}, got {len(arrays)} arrays")
        values = dict(zip(own.values(), arrays, strict=False))
        for name, array in named.items():
            at = own.get(name, name)
            if at not in self._types:
                raise InputError(f"unknown input {name!r}; the model takes {list(own)}")
            if at in values:
                raise InputError(f"input {name!r} is given twice, by position and by name")
            values[at] = array
        return values


__all__ = ["Needs", "SpecializedModel"]
