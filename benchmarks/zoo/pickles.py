"""Pickles of arrays and plain records, as `rnngraph.weights.files.pickles` describes them: nothing in them is run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.ir import Array
from rnngraph.weights.files.pickles import Made, Name, read_pickle

_ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_OBJECTS = ("copy_reg._reconstructor", "copyreg._reconstructor")


class Record:
    """An object of a foreign class: the class's name and the object's attributes, and no behaviour."""

    def __init__(self, kind: str, attributes: dict[str, Any]) -> None:
        self.kind = kind
        self.__dict__.update(attributes)


def load(data: bytes, classes: Collection[str] = ()) -> Any:
    """What the pickle holds; objects of ``classes`` ("module.Class") become Records, functions their names.

    ImportModelError for everything else but numpy's arrays.
    """
    return _value(read_pickle(data), frozenset(classes))


def _value(value: Any, classes: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _value(v, classes) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_value(v, classes) for v in value]
    if isinstance(value, Name) and str(value) in classes:
        return value.name
    if isinstance(value, Made):
        function = str(value.function)
        if function in _ARRAYS:
            return _array(value.state)
        of = value.args[0] if function in _OBJECTS and value.args else value.function
        if str(of) in classes and isinstance(of, Name) and isinstance(value.state, dict):
            return Record(of.name, _value(value.state, classes))
    if isinstance(value, Made | Name):
        raise ImportModelError(f"the file refers to {getattr(value, 'function', value)}, which it is not expected to")
    return value


def _array(state: Any) -> Array:
    """An array of its pickled state: version, shape, dtype, whether columns come first, bytes."""
    _, shape, dtype, columns, content = state
    code, order = dtype.args[0], dtype.state[1]
    if isinstance(content, Made):  # bytes, as the older protocols write them: text, and its encoding
        content = content.args[0]
    raw = content.encode("latin1") if isinstance(content, str) else content
    kind = np.dtype(code).newbyteorder("=" if order == "|" else order)
    return np.frombuffer(raw, kind).reshape(shape, order="F" if columns else "C")
