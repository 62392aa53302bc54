"""SpecializedModel: a model whose structure follows from values or sizes that only a call knows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from rnngraph.errors import ImportModelError, InputError, ShapeError, StreamError
from rnngraph.ir import Array, TensorType, dims
from rnngraph.report import Report
from rnngraph.runtime.foreign import all_plain
from rnngraph.runtime.inputs import spec_of
from rnngraph.runtime.model import CompiledModel, ForeignNames, expect_all
from rnngraph.runtime.program import Program
from rnngraph.runtime.session import Session
from rnngraph.runtime.states import State

MAX_PROGRAMS = 64  # kept; the one that was not used for longest goes
MAX_HASHED = 1024  # bytes of a value that are hashed; the whole of it is compared
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


class Key:
    """Values and sizes that a program is compiled for. Large values are hashed by a sample of their bytes; equal ones
    are found by comparing all of them, which takes a tenth of hashing them."""

    __slots__ = ("arrays", "hash", "needs", "samples", "sizes")

    def __init__(self, needs: Needs, arrays: Mapping[str, Array], sizes: Mapping[str, int]) -> None:
        self.needs = needs
        self.arrays = {n: np.ascontiguousarray(a).reshape(a.shape) for n, a in arrays.items()}  # a scalar stays one
        self.sizes = dict(sizes)
        self.samples = [(a.shape, _sample(a)) for a in self.arrays.values()]
        self.hash = hash((*self.samples, *self.sizes.values()))

    def frozen(self) -> Key:
        """With copies, which nobody else can change."""
        return Key(self.needs, {n: a.copy() for n, a in self.arrays.items()}, self.sizes)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key) or (self.hash, self.sizes) != (other.hash, other.sizes):
            return False
        if self.samples != other.samples or self.needs != other.needs:
            return False
        pairs = zip(self.arrays.values(), other.arrays.values(), strict=True)
        return all(_is_sample(a) or np.array_equal(_bytes(a), _bytes(b)) for a, b in pairs)


def _bytes(array: Array) -> Array:
    """The bytes of a contiguous array: NaN is the same as itself there."""
    flat = array.reshape(-1).view(np.uint8)
    return flat.view(np.uint64) if flat.size % 8 == 0 and flat.ctypes.data % 8 == 0 else flat


def _is_sample(array: Array) -> bool:
    """Whether the sample is all of the array."""
    return array.nbytes < 2 * MAX_HASHED


def _sample(array: Array) -> bytes:
    if _is_sample(array):
        return array.tobytes()
    return array.reshape(-1)[:: array.nbytes // MAX_HASHED].tobytes()


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
        self._specs = {n: spec_of(n, t, label=self._foreign_inputs.get(n, "")) for n, t in types.items()}
        self._own = {name: own for own, name in self._foreign_inputs.items()}
        self._outputs = tuple(outputs)
        self._lock = Lock()  # of the table; held for a look
        self._compiling = Lock()  # one compiles, others that have to wait
        self._models: OrderedDict[Key, CompiledModel] = OrderedDict()
        self._last: CompiledModel | None = None
        self._kept = None
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
        """Check inputs as a call does, and compile the program for them, without running it."""
        model, rest = self.specialized(self._by_name(arrays, named))
        model.prepare(**rest)

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
        count = f"{len(self._models)} programs are" if len(self._models) != 1 else "1 program is"
        rest = f"the one that ran last:\n{self._last.explain()}" if self._last is not None else ""
        return f"{self.describe()}\n{count} compiled, at most {MAX_PROGRAMS} are kept; {rest}".rstrip("; ")

    def variant(self, **how: bool) -> Program:
        return self._current().variant(**how)

    def stream(self, batch: int | None = None, *, lengths: bool = False, mask: bool = False,
               initial_state: State | None = None, dims: Mapping[str, int] | None = None) -> Session:
        raise StreamError(f"the model cannot run step by step: {self.describe()}. Fix them first, and stream what is "
                          "left: compile(layer.specialized(values, sizes)) of rg.from_onnx, rg.from_torch or "
                          "rg.from_mxnet")

    def __call__(self, *arrays: object, lengths: object = None, initial_state: State | None = None,
                 mask: object = None, **named: object) -> Array | tuple[Array, ...]:
        values = self._by_name(arrays, named)
        model, rest = self.specialized(values)
        return model(**rest, lengths=lengths, initial_state=initial_state, mask=mask)

    def run(self, inputs: Mapping[str, object]) -> dict[str, Array]:
        if not isinstance(inputs, Mapping) or not all(isinstance(n, str) for n in inputs):
            raise InputError(f"run takes a mapping from input names to arrays, got {type(inputs).__name__}")
        given = {self._own.get(n, n): a for n, a in inputs.items()}
        own = {n: a for n, a in given.items() if n in self._types}
        model, rest = self.specialized(self._by_name((), own))
        return model.run({**rest, **{n: a for n, a in given.items() if n not in own}})  # lengths, states

    def specialized(self, values: Mapping[str, object]) -> tuple[CompiledModel, dict[str, object]]:
        """The model for these inputs, by name in the graph, and the inputs that it takes."""
        expect_all(dict(zip(self._types, self.input_names, strict=True)), values)
        arrays = {n: self._specs[n].array(values[n]) for n in self._types}
        sizes = self._sizes(arrays)
        model = None
        while model is None:
            needs = self.needs
            key = Key(needs, {n: arrays[n] for n in needs.values}, {s: sizes[s] for s in needs.sizes})
            model = self._known(key)
            if model is None:
                with self._compiling:
                    model = self._known(key) or self._made(key.frozen())
        self._last = model
        return model, {n: a for n, a in arrays.items() if n not in needs.values}

    def _known(self, key: Key) -> CompiledModel | None:
        with self._lock:
            model = self._models.get(key)
            if model is not None:
                self._models.move_to_end(key)
            return model

    def _made(self, key: Key) -> CompiledModel | None:
        """A new program; None where more must be known first."""
        try:
            made = self._compile(key.arrays, key.sizes)
        except ImportModelError as e:
            if isinstance(e.__cause__, ShapeError):  # the file is sound: there are values that fit
                raise InputError(f"the inputs do not fit the model ({self._shown(key)}): {e}") from e
            raise
        if isinstance(made, Needs):
            found = self.needs.also(made)
            if found == self.needs and key.needs == found:
                raise InputError(f"the model cannot be compiled for these inputs: {'; '.join(made.reasons)}")
            self.needs = found
            return None
        with self._lock:
            self._models[key] = made
            while len(self._models) > MAX_PROGRAMS:
                self._models.popitem(last=False)
        return made

    def _shown(self, key: Key) -> str:
        values = {repr(self._foreign_inputs.get(n, n)): a.tolist() if a.size <= MAX_SHOWN else f"{a.dtype}"
                  f"{list(a.shape)}" for n, a in key.arrays.items()}
        return ", ".join(f"{n} is {v}" for n, v in {**values, **key.sizes}.items())

    def _sizes(self, arrays: Mapping[str, Array]) -> dict[str, int]:
        """The sizes of all symbols; the models check the rest."""
        found: dict[str, int] = {}
        for n, t in self._types.items():
            if len(t.shape) != arrays[n].ndim:
                raise InputError(f"input {self._specs[n].shown}: expected {t}, got shape {list(arrays[n].shape)}")
            for d, size in zip(t.shape, arrays[n].shape, strict=True):
                if dims.is_symbol(d) and found.setdefault(str(d), size) != size:
                    raise InputError(f"input {self._specs[n].shown}: dim {d!r} is {size} here but "
                                     f"{found[str(d)]} elsewhere")
        return found

    def _by_name(self, arrays: Sequence[object], named: Mapping[str, object]) -> dict[str, object]:
        own = {self._foreign_inputs.get(n, n): n for n in self._types}
        if len(arrays) > len(own):
            raise InputError(f"expected {len(own)} input(s) {list(own)}, got {len(arrays)} arrays")
        values = dict(zip(own.values(), all_plain(arrays), strict=False))
        for name, array in zip(named, all_plain(named.values()), strict=True):
            at = own.get(name, name)
            if at not in self._types:
                raise InputError(f"unknown input {name!r}; the model takes {list(own)}")
            if at in values:
                raise InputError(f"input {name!r} is given twice, by position and by name")
            values[at] = array
        return values


__all__ = ["Needs", "SpecializedModel"]
