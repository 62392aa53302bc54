"""SpecializedModel: a model whose structure follows from values or sizes that only a call knows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from threading import Lock

from rnngraph.errors import ImportModelError, InputError, ShapeError, StreamError
from rnngraph.ir import Array, TensorType, dims
from rnngraph.report import Report
from rnngraph.runtime.inputs import spec_of
from rnngraph.runtime.keys import kept, key_of
from rnngraph.runtime.model import CompiledModel, ForeignNames, expect_all
from rnngraph.runtime.program import Program
from rnngraph.runtime.session import Session
from rnngraph.runtime.states import State

MAX_PROGRAMS = 64  # kept; the one that was not used for longest goes
MAX_SHOWN = 8  # elements of a value in a message


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


@dataclass(frozen=True, slots=True)
class Plan:
    """`Needs` as places among the inputs: of those whose values a program is compiled for, and of the others."""

    needs: Needs
    values: tuple[int, ...]
    rest: tuple[int, ...]


@dataclass(slots=True)
class Entry:
    """A program, when it was last used, in calls, and whether it takes arrays of a GPU."""

    model: CompiledModel
    used: int
    placed: bool


class SpecializedModel(CompiledModel):
    """A compiled model for which some inputs' values, or sizes, are part of the program: one is compiled for each.

    The first call with new ones compiles; the last 64 programs are kept. ``compile(values, sizes)`` gives the program's
    model, or what else must be known. Calls with values for which there is a program do not wait for those that
    compile. `report` and `explain` speak of the program that ran last.
    """

    def __init__(self, compile: Callable[[Mapping[str, Array], Mapping[str, int]], CompiledModel | Needs],
                 types: Mapping[str, TensorType], outputs: Sequence[str], needs: Needs,
                 foreign: ForeignNames = ({}, {})) -> None:
        self._compile = compile
        self._types = dict(types)
        self._foreign_inputs, self._foreign_outputs = foreign
        self._specs = [spec_of(n, t, label=self._foreign_inputs.get(n, "")) for n, t in types.items()]
        self._axes = [([(i, d) for i, d in enumerate(t.shape) if isinstance(d, int)],
                       [(i, d) for i, d in enumerate(t.shape) if isinstance(d, str) and dims.is_symbol(d)])
                      for t in types.values()]
        self._own = {name: own for own, name in self._foreign_inputs.items()}
        self._outputs = tuple(outputs)
        self._compiling = Lock()  # one compiles, others that have to wait; calls with known values do not
        self._entries: dict[Hashable, Entry] = {}
        self._calls = count()
        self._last: CompiledModel | None = None
        self._kept = None
        self._plan = self._planned(needs)

    @property
    def needs(self) -> Needs:
        """What a program is compiled for, as far as calls have shown."""
        return self._plan.needs

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
        """Check inputs as a call does, and compile the program for them, without running it."""
        model, rest = self._specialized(self._placed_all(arrays, named))
        model.prepare(*rest)

    def _current(self) -> CompiledModel:
        if self._last is None:
            raise InputError(f"nothing is compiled yet: {self.describe()}; call the model first, or give "
                             "example_inputs= to compile()")
        return self._last

    def describe(self) -> str:
        """What the programs depend on, and why."""
        what = [f"each value of input {self._foreign_inputs.get(n, n)!r}" for n in self.needs.values]
        what += [f"each size {s!r}" for s in self.needs.sizes]
        return f"one program is compiled for {' and '.join(what)}, because {'; '.join(self.needs.reasons)}"

    def explain(self) -> str:
        programs = len(self._entries)
        number = f"{programs} programs are" if programs != 1 else "1 program is"
        rest = f"the one that ran last:\n{self._last.explain()}" if self._last is not None else ""
        return f"{self.describe()}\n{number} compiled, at most {MAX_PROGRAMS} are kept; {rest}".rstrip("; ")

    def variant(self, **how: bool) -> Program:
        return self._current().variant(**how)

    def stream(self, batch: int | None = None, *, lengths: bool = False, mask: bool = False,
               initial_state: State | None = None, dims: Mapping[str, int] | None = None) -> Session:
        raise StreamError(f"the model cannot run step by step: {self.describe()}. Fix them first, and stream what is "
                          "left: compile(layer.specialized(values, sizes)) of rg.from_onnx, rg.from_torch or "
                          "rg.from_mxnet")

    def __call__(self, *arrays: object, lengths: object = None, initial_state: State | None = None,
                 mask: object = None, **named: object) -> Array | tuple[Array, ...]:
        model, rest = self._specialized(self._placed_all(arrays, named))
        return model(*rest, lengths=lengths, initial_state=initial_state, mask=mask)

    def run(self, inputs: Mapping[str, object]) -> dict[str, Array]:
        if not isinstance(inputs, Mapping) or not all(isinstance(n, str) for n in inputs):
            raise InputError(f"run takes a mapping from input names to arrays, got {type(inputs).__name__}")
        given = {self._own.get(n, n): a for n, a in inputs.items()}
        own = {n: a for n, a in given.items() if n in self._types}
        model, rest = self._specialized(self._placed_all((), own))
        more = {n: a for n, a in given.items() if n not in own}  # lengths, states
        return model.run({**dict(zip(model.input_names, rest, strict=True)), **more})

    def _specialized(self, values: Sequence[object]) -> tuple[CompiledModel, list[object]]:
        """The model for these inputs, in order, and the inputs that it takes."""
        arrays = [spec.array(value) for spec, value in zip(self._specs, values, strict=True)]
        sizes = self._sizes(arrays)
        while True:
            plan = self._plan
            key = (*[key_of(arrays[i]) for i in plan.values], *[sizes[s] for s in plan.needs.sizes])
            entry = self._entries.get(key)
            if entry is None:
                with self._compiling:
                    entry = self._entries.get(key) or self._made(plan, key, arrays, sizes)
            if entry is not None:
                entry.used = next(self._calls)
                self._last = entry.model
                rest = values if entry.placed else arrays  # what lies on a GPU is taken there
                return entry.model, [rest[i] for i in plan.rest]

    def _made(self, plan: Plan, key: tuple[Hashable, ...], arrays: Sequence[Array],
              sizes: Mapping[str, int]) -> Entry | None:
        """A new program; None where more must be known first."""
        known = {self._specs[i].name: arrays[i].copy() for i in plan.values}
        fixed = {s: sizes[s] for s in plan.needs.sizes}
        try:
            made = self._compile(known, fixed)
        except ImportModelError as e:
            if isinstance(e.__cause__, ShapeError):  # the file is sound: there are values that fit
                raise InputError(f"the inputs do not fit the model ({self._shown(known, fixed)}): {e}") from e
            raise
        if isinstance(made, Needs):
            found = self.needs.also(made)
            if found == self.needs == plan.needs:
                raise InputError(f"the model cannot be compiled for these inputs: {'; '.join(made.reasons)}")
            self._plan = self._planned(found)
            return None
        while len(self._entries) >= MAX_PROGRAMS:
            del self._entries[min(self._entries, key=lambda k: self._entries[k].used)]
        placed = made.program.place is not None
        entry = self._entries[tuple(kept(part) for part in key)] = Entry(made, next(self._calls), placed)
        return entry

    def _planned(self, needs: Needs) -> Plan:
        places = {n: i for i, n in enumerate(self._types)}
        return Plan(needs, tuple(places[n] for n in needs.values),
                    tuple(i for n, i in places.items() if n not in needs.values))

    def _shown(self, values: Mapping[str, Array], sizes: Mapping[str, int]) -> str:
        shown = {repr(self._foreign_inputs.get(n, n)): a.tolist() if a.size <= MAX_SHOWN else f"{a.dtype}"
                 f"{list(a.shape)}" for n, a in values.items()}
        return ", ".join(f"{n} is {v}" for n, v in {**shown, **sizes}.items())

    def _sizes(self, arrays: Sequence[Array]) -> dict[str, int]:
        """The sizes of all symbols; the models check what is an expression of them."""
        found: dict[str, int] = {}
        for spec, array, (fixed, symbols) in zip(self._specs, arrays, self._axes, strict=True):
            shape = array.shape
            wrong = len(shape) != len(spec.type.shape) or [d for axis, d in fixed if shape[axis] != d]
            if wrong:
                raise InputError(f"input {spec.shown}: expected {spec.type}, got shape {list(shape)}")
            for axis, symbol in symbols:
                if found.setdefault(symbol, shape[axis]) != shape[axis]:
                    raise InputError(f"input {spec.shown}: expected {spec.type}, got shape {list(shape)}; dim "
                                     f"{symbol!r} is {found[symbol]} elsewhere")
        return found

    def _placed_all(self, arrays: tuple[object, ...], named: Mapping[str, object]) -> Sequence[object]:
        """The inputs in the graph's order."""
        if not named and len(arrays) == len(self._specs):
            return arrays
        values = self._by_name(arrays, named)
        expect_all(dict(zip(self._types, self.input_names, strict=True)), values)
        return [values[n] for n in self._types]

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
