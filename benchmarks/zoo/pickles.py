"""Pickles of arrays, read without running code: only numpy's arrays and named records come out.

Python's unpickler resolves a global by `find_class` alone; this one gives numpy's array constructors, plain records for
the classes that the caller names, and refuses everything else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Collection
from importlib import import_module
from typing import Any

import numpy as np

_NUMPY = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class Record:
    """An object of a foreign class: its attributes, and no behaviour."""

    kind = ""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def load(data: bytes, classes: Collection[str] = ()) -> Any:
    """What the pickle holds; objects of ``classes`` ("module.Class") become Records, functions their names.

    Raises pickle.UnpicklingError for any other global.
    """
    return _Reader(io.BytesIO(data), frozenset(classes)).load()


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, classes: frozenset[str]) -> None:
        super().__init__(file, encoding="latin1")
        self.classes = classes
        self.made: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NUMPY:
            return _NUMPY[module, name]
        if module in _MODULES and name in ("_reconstruct", "scalar"):
            return getattr(import_module(_MODULES[-1]), name)
        full = f"{module}.{name}"
        if full in ("copy_reg._reconstructor", "copyreg._reconstructor"):
            return _bare
        if full in ("__builtin__.object", "builtins.object"):
            return object
        if full in self.classes:
            return self.made.setdefault(full, type(name, (Record,), {"kind": name}))
        raise pickle.UnpicklingError(f"the file refers to {full}, which is not among the classes that it may hold")


def _bare(kind: type[Any], base: type[Any], state: Any) -> Any:
    """What Python 2 makes of an object without arguments; only for records."""
    if not (isinstance(kind, type) and issubclass(kind, Record)):
        raise pickle.UnpicklingError(f"the file makes an object of {kind!r}")
    return kind()
