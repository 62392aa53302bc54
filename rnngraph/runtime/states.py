"""What a caller gives as states, by name or in order, as arrays that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import Array, Dims, TensorType, resolve
from rnngraph.runtime.foreign import plain

State: TypeAlias = Mapping[str, object] | Sequence[object] | Array


class Named(Protocol):
    """A state's name and type."""

    @property
    def name(self) -> str:
        """As users write it: ``lstm.h``."""

    @property
    def type(self) -> TensorType:
        """Its dtype and shape, the batch among the symbols."""


def named_states(specs: Sequence[Named], dims: Dims, given: State) -> dict[str, Array]:
    """New arrays by the specs' names. InputError when a name is unknown or an array does not fit.

    ``given`` maps names (``lstm.h``, or ``lstm.h0``) to some of them, or holds all in order, or is the only one."""
    by_name = {s.name: s for s in specs}
    if isinstance(given, Mapping):
        named = {n if n in by_name else str(n).removesuffix("0").removesuffix("_"): a for n, a in given.items()}
        if len(named) < len(given) or any(n not in by_name for n in named):
            raise InputError(f"states {list(given)}: expected names of {list(by_name)}, each once")
    elif isinstance(given, list | tuple | np.ndarray):
        items = [given] if isinstance(given, np.ndarray) and len(specs) == 1 else list(given)
        if len(items) != len(specs):
            raise InputError(f"expected one array for each of the states {list(by_name)}, got {len(items)}")
        named = dict(zip(by_name, items, strict=True))
    else:
        raise InputError(f"expected the states {list(by_name)} by name or in order, got {type(given).__name__}")
    return {n: _array(by_name[n], dims, a) for n, a in named.items()}


def _array(spec: Named, dims: Dims, given: object) -> Array:
    want, shape = spec.type.dtype.numpy, resolve(spec.type.shape, dims)
    try:
        array = np.asarray(plain(given))
    except (ValueError, TypeError) as e:
        raise InputError(f"state {spec.name!r}: expected {spec.type}, got something that is no array: {e}") from e
    if array.dtype.newbyteorder("=") != want or array.shape != shape:
        raise InputError(f"state {spec.name!r}: expected {want} {list(shape)}, got {array.dtype} {list(array.shape)}")
    return np.array(array, want, order="C")
