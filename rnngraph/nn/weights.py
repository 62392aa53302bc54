"""Weights, and what owns them: named float32 arrays, made on first use, checked when set."""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import F32, Array, TensorType, Value
from rnngraph.nn.context import active
from rnngraph.nn.initializers import Initializer, IntShape, to_initializer
from rnngraph.nn.tensor import Tensor, take_slice

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
MAX_ELEMENTS = 2**36  # of one weight: 256 GiB; beyond, it is a mistake in the model
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Weight(Tensor):
    """One weight of a layer or cell; a tensor while a model is traced, an array (`array`) outside."""

    def __init__(self, owner: WeightOwner, name: str, shape: IntShape, init: Initializer) -> None:
        self.owner = owner
        self.name = name
        self.initializer = init
        self._type = TensorType(F32, shape)
        self._array: Array | None = None

    @property
    def type(self) -> TensorType:
        return self._type

    @property
    def array(self) -> Array:
        """The values (read-only): what was set, else what the initialiser makes for this place."""
        if self._array is None:
            digest = hashlib.sha256(f"{self.owner.path}/{self.name}".encode()).digest()
            rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
            self.assign(self.initializer(tuple(int(d) for d in self._type.shape), rng))
        assert self._array is not None
        return self._array

    def assign(self, values: Any, layer: str | None = None) -> None:
        """Set the values; ShapeError, naming the layer, unless they are float32 of this shape."""
        given = np.asarray(values)
        where = f"layer {layer or self.owner.path!r}: weight {self.name!r}"
        if given.shape != self._type.shape:
            raise ShapeError(f"{where}: expected shape {list(self._type.shape)}, got {list(given.shape)}")
        if given.dtype != np.float32:
            raise ShapeError(f"{where}: expected float32, got {given.dtype}; use "
                             "np.asarray(values).astype(np.float32)")
        self._array = np.array(given, order="C")
        self._array.flags.writeable = False

    def value(self) -> Value:
        trace = active()
        if id(self) in trace.replaced:
            return trace.replaced[id(self)]
        return trace.constant((id(self), ""), self._type, lambda: self.array, self.name)

    def part(self, hint: str, *index: slice | int) -> WeightPart:
        """A part of the array as a constant of its own, such as one gate's columns."""
        return WeightPart(self, hint, index)

    def gates(self, names: str, row: int | None = None) -> list[WeightPart]:
        """Equal parts of the last axis, one per letter of ``names``; ``row`` picks from the first axis."""
        units = int(self._type.shape[-1]) // len(names)
        lead: tuple[slice | int, ...] = (slice(None),) * (self.rank - 1) if row is None else (row,)
        return [self.part(f"{self.name}_{n}", *lead, slice(i * units, (i + 1) * units))
                for i, n in enumerate(names)]


class WeightPart(Tensor):
    """A fixed part of a weight."""

    def __init__(self, weight: Weight, hint: str, index: tuple[slice | int, ...]) -> None:
        self.weight = weight
        self.hint = hint
        self.index = index
        shape = np.broadcast_to(np.float32(0), tuple(int(d) for d in weight.shape))[index].shape
        self._type = TensorType(weight.dtype, shape)

    @property
    def type(self) -> TensorType:
        return self._type

    def value(self) -> Value:
        if id(self.weight) in active().replaced:
            return take_slice(self.weight, self.index).value()
        key = (id(self.weight), f"{self.hint}{self.index}")
        return active().constant(key, self._type, lambda: self.weight.array[self.index], self.hint)


class WeightOwner:
    """What has weights of its own or of children: a layer or a cell."""

    name: str | None = None
    _path: str | None = None
    _weights: dict[str, Weight]

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        self = super().__new__(cls)
        self._weights = {}  # here, so that a user's __init__ need not call ours
        return self

    def default_name(self) -> str:
        """The class's name in snake case, as Keras does it: LSTM -> lstm, SimpleRNN -> simple_rnn."""
        return _WORD_START.sub("_", type(self).__name__).lower()

    @property
    def path(self) -> str:
        """Where this stands in its model: the names from the outermost in, joined by "/"."""
        return self._path or self.name or self.default_name()

    def children(self) -> Mapping[str, WeightOwner]:
        """Inner layers or cells by name; the name "" adds nothing to their path."""
        return {}

    def assign_path(self, path: str) -> None:
        """Tell this and its children where they stand."""
        self._path = path
        for name, child in self.children().items():
            child.assign_path(f"{path}/{name}" if name else path)

    def add_weight(self, name: str, shape: Sequence[int],
                   initializer: str | Initializer = "glorot_uniform") -> Weight:
        """Create a float32 weight; call it in build. Initialisers: a name or an object of `nn.initializers`."""
        if name in self._weights:
            raise TraceError(f"layer {self.path!r} already has a weight {name!r}; add_weight belongs in "
                             "build")
        for d in shape:
            if isinstance(d, bool) or not isinstance(d, int | np.integer) or d < 1:
                raise ShapeError(f"layer {self.path!r}: weight {name!r}: a dim is an integer >= 1, got {d!r}")
        if math.prod(int(d) for d in shape) > MAX_ELEMENTS:
            raise ShapeError(f"layer {self.path!r}: weight {name!r} of shape {list(shape)} is too large: more than "
                             f"{MAX_ELEMENTS} elements")
        self._weights[name] = Weight(self, name, tuple(int(d) for d in shape), to_initializer(initializer))
        return self._weights[name]

    def named_weights(self) -> dict[str, Weight]:
        """Own weights, then the children's, named by their path from here; the order is Keras's."""
        found = dict(self._weights)
        for name, child in self.children().items():
            for key, weight in child.named_weights().items():
                found[f"{name}/{key}" if name else key] = weight
        return found

    @property
    def weights(self) -> dict[str, Array]:
        """The arrays by name, in Keras's order (kernel, recurrent_kernel, bias)."""
        return {name: weight.array for name, weight in self.named_weights().items()}

    def set_weights(self, values: Mapping[str, Any] | Sequence[Any]) -> None:
        """Set all weights, by name or as a list in the order of `weights`.

        Raises ShapeError, with nothing changed, for a wrong count, name, shape or dtype (not float32).
        """
        mine = self.named_weights()
        if not mine:
            raise TraceError(f"layer {self.path!r} has no weights yet; build it first: "
                             "layer.build(input_shape)")
        if not isinstance(values, Mapping):
            if len(values) != len(mine):
                raise ShapeError(f"layer {self.path!r}: expected {len(mine)} weights ({', '.join(mine)}), "
                                 f"got {len(values)}")
            values = dict(zip(mine, values, strict=True))
        if set(values) != set(mine):
            raise ShapeError(f"layer {self.path!r}: expected the weights {', '.join(mine)}, got "
                             f"{', '.join(values)}")
        before = {name: weight._array for name, weight in mine.items()}
        try:
            for name, weight in mine.items():
                weight.assign(values[name], self.path)
        except ShapeError:
            for name, weight in mine.items():
                weight._array = before[name]
            raise

    def fresh_copy(self) -> Self:
        """A copy with the same arguments, not yet built."""
        other = copy.deepcopy(self)
        other.unbuild()
        return other

    def unbuild(self) -> None:
        """Forget the weights; the next use builds anew."""
        self._weights = {}
        for child in self.children().values():
            child.unbuild()


def check_name(name: str | None) -> str | None:
    """A layer's name; TraceError unless it is made of letters, digits, "_", "-" and "."."""
    if name is not None and not (isinstance(name, str) and NAME.fullmatch(name)):
        raise TraceError(f"a layer's name is made of letters, digits, '_', '-' and '.', got {name!r}")
    return name
