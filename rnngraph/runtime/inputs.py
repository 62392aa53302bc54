"""From what a caller gives to what a kernel may read: every check is here, before anything native runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnngraph.data.packing import PackedSequence
from rnngraph.errors import InputError
from rnngraph.ir import BF16, Array, Dims, Graph, TensorType, bind_dims
from rnngraph.ir.bounds import Bound, integer_bounds
from rnngraph.ir.dims import evaluate, is_symbol, symbols_of
from rnngraph.ir.opdef import round_bf16
from rnngraph.runtime.foreign import plain


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a compiled graph: its type, the range that its integers must keep to, and what callers call it."""

    name: str
    type: TensorType
    bounds: tuple[Bound, ...] = ()
    label: str = ""

    @property
    def shown(self) -> str:
        """The name in messages: of an imported model that of the file."""
        return repr(self.label or self.name)

    def array(self, given: object) -> Array:
        """``given`` as an aligned array of this input's dtype and native byte order; strides are kept.

        Floats must already have the dtype: a silent float64 -> float32 would hide a loss. Any integer dtype
        will do for an integer input when its values fit. Raises InputError.
        """
        want: np.dtype[Any] = self.type.dtype.numpy
        if type(given) is np.ndarray and given.dtype == want and given.flags.aligned:
            return given
        if isinstance(given, np.ma.MaskedArray):
            raise InputError(f"input {self.shown}: expected {self.type}, got a masked array, whose mask would be "
                             "lost; fill it first (x.filled(value)), and give lengths= for padded rows")
        if isinstance(given, Mapping):
            raise InputError(f"input {self.shown}: expected {self.type}, {mapping(given)}")
        given = plain(given)
        if isinstance(given, PackedSequence):
            raise InputError(f"input {self.shown}: expected {self.type}, got a PackedSequence, and this model takes "
                             "none: rnngraph.data.pad_packed_sequence pads it")
        try:
            array = np.asarray(given)
        except (ValueError, TypeError, RuntimeError) as e:  # also what a foreign __array__ raises
            raise InputError(f"input {self.shown}: expected {self.type}, "
                             f"got something that is no array: {e}") from e
        return self.fitted(array, given)

    def fitted(self, array: Array, given: object) -> Array:
        """The array with this input's dtype; InputError where that would lose something."""
        want: np.dtype[Any] = self.type.dtype.numpy
        if array.dtype.newbyteorder("=") == want:
            sound = type(array) is not np.ndarray or (array.dtype.isnative and array.flags.aligned)
            return array if sound else array.astype(want, order="C")
        if self.type.dtype.name == "bf16" and array.dtype.name == "bfloat16":
            return array.astype(want)  # of ml_dtypes; numpy has none of its own, so here they are held as float32
        if isinstance(given, list | tuple) and not array.size:
            return array.astype(want)  # an empty list has no dtype
        if self.type.dtype.kind == "int" and array.dtype.kind in "iu":
            return self._narrow(array, want)
        if self.type.dtype.kind == "bool" and array.dtype.kind in "iu" and not ((array < 0) | (array > 1)).any():
            return array.astype(want)
        name = self.label or self.name
        raise InputError(f"input {name!r}: expected {self.type}, got dtype {array.dtype}; convert it first: "
                         f"{name if name.isidentifier() else 'array'}.astype(numpy.{want.name})")

    def _narrow(self, array: Array, want: np.dtype[Any]) -> Array:
        info = np.iinfo(want)
        if array.size and (int(array.min()) < info.min or int(array.max()) > info.max):
            raise InputError(f"input {self.shown}: expected {self.type}, got {array.dtype} values up to "
                             f"{array.max()} that do not fit {want.name}")
        return array.astype(want)

    def check_range(self, array: Array, dims: Dims) -> None:
        """InputError when an integer is outside of what its users accept."""
        if not array.size:
            return
        low, high = int(array.min()), int(array.max())
        for bound in self.bounds:
            lowest, highest = bound.lowest(dims), bound.highest(dims)
            if low < lowest or high > highest:
                what = "the number of steps" if bound.kind == "lengths" else "the table's last row"
                where = f" (layer {bound.layer!r})" if bound.layer else ""
                raise InputError(f"input {self.shown}: values must be in {lowest}..{highest}, {what}{where}; "
                                 f"got {low}..{high}")
            if bound.kind == "longest" and high < highest:
                raise InputError(f"input {self.shown}: the longest row must have all {highest} steps, got {high}: "
                                 f"pad_packed_sequence cuts at the longest row; give sequences of {high} steps, or "
                                 "total_length= to pad_packed_sequence")


class RoundedSpec(InputSpec):
    """An input of bf16: numpy has none, so that it is given as float32, and rounded here."""

    __slots__ = ()

    def array(self, given: object) -> Array:
        return round_bf16(InputSpec.array(self, given))

    def fitted(self, array: Array, given: object) -> Array:
        return round_bf16(InputSpec.fitted(self, array, given))


def mapping(given: Mapping[object, object]) -> str:
    """What is said of a mapping in the place of an array."""
    return (f"got a mapping with the keys {list(given)}: inputs by name go to model.run({{...}}), or as "
            "model(**{...})")


def spec_of(name: str, type: TensorType, bounds: tuple[Bound, ...] = (), label: str = "") -> InputSpec:
    """The spec of an input."""
    return (RoundedSpec if type.dtype is BF16 else InputSpec)(name, type, bounds, label)


class InputPlan:
    """The inputs of one graph, and how their shapes bind its symbols; ``labels`` are the callers' names for them."""

    def __init__(self, graph: Graph, labels: Mapping[str, str] | None = None) -> None:
        longest = {n: (Bound("longest", d),) for n, d in graph.longest.items()}
        self.specs = tuple(spec_of(n, v.type, (*integer_bounds(v), *longest.get(n, ())), (labels or {}).get(n, ""))
                           for n, v in zip(graph.input_names, graph.inputs, strict=True))
        self.bounded = tuple(i for i, s in enumerate(self.specs) if s.bounds)
        self.computed = tuple({d: None for s in self.specs for d in s.type.shape
                               if isinstance(d, str) and not is_symbol(d)})  # sizes that must follow from symbols

    def bind(self, given: Sequence[object]) -> tuple[list[Array], Dims]:
        """Checked arrays in the specs' order, and the size of every symbol; else InputError names the input."""
        arrays = [spec.array(g) for spec, g in zip(self.specs, given, strict=True)]
        dims = self.sizes(arrays)
        for i in self.bounded:
            self.specs[i].check_range(arrays[i], dims)
        return arrays, dims

    def sizes(self, arrays: Sequence[Array]) -> Dims:
        dims: Dims = {}
        for spec, array in zip(self.specs, arrays, strict=True):
            shape = spec.type.shape
            fits = len(shape) == array.ndim
            for want, got in zip(shape, array.shape, strict=False):
                fits = fits and (want if isinstance(want, int) else dims.setdefault(want, got)) == got
            if not fits:
                return self._say(arrays)
        if self.computed and any(evaluate(d, {s: dims[s] for s in symbols_of(d)}) != dims[d] for d in self.computed):
            return self._say(arrays)
        return dims

    def _say(self, arrays: Sequence[Array]) -> Dims:
        """Say exactly what is wrong with the sizes, the slow way."""
        return bind_dims({s.label or s.name: s.type for s in self.specs},
                         {s.label or s.name: a for s, a in zip(self.specs, arrays, strict=True)})
