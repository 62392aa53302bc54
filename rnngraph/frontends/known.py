"""Known: a value of a foreign graph that is known while it is walked; integers in it may be sizes, as in a shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.ir import I64, Array, Dim, DType
from rnngraph.ir.types import dtype_of
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap

MAX_KNOWN = 4096  # elements of a value that is computed while the graph is walked; larger ones become ops


class Known:
    """An array that is known: of numbers, or of dtype object with Dims (ints and symbols), which stand for integers."""

    def __init__(self, array: Any, dtype: DType | None = None) -> None:
        # numpy takes a scalar out of an array of objects; a size must stay an object
        self.array: Array = np.asarray(array, object if isinstance(array, str) else None)
        self.dtype = dtype  # where the array does not tell it: bf16, held as float32, and sizes that are not i64

    @classmethod
    def dims(cls, dims: Iterable[Dim]) -> Known:
        """A vector of sizes."""
        items = list(dims)
        array = np.empty(len(items), object)
        array[:] = items
        return cls(array).settled()

    def settled(self) -> Known:
        """An int64 array where no symbol is in it."""
        if self.array.dtype == object and not any(isinstance(d, str) for d in self.array.flat):
            return Known(self.array.astype(np.int64))
        return self

    @property
    def is_shape(self) -> bool:
        """Whether it is small and integer or bool: what shapes are computed with."""
        return self.array.size <= MAX_KNOWN and self.array.dtype.kind in "Oiub"

    @property
    def symbolic(self) -> bool:
        return self.array.dtype == object

    @property
    def integers(self) -> DType:
        """The dtype of integers or sizes."""
        return self.dtype or I64 if self.symbolic else dtype_of(self.array)

    def tensor(self) -> Tensor:
        """The value as a tensor in the active trace."""
        if not self.symbolic:
            return wrap(active().builder.const(self.array, self.dtype))
        dtype = self.integers
        parts = [ops.reshape(_size(d, dtype), (1,)) for d in self.array.flat]
        return ops.reshape(ops.concat(parts, 0) if len(parts) > 1 else parts[0], self.array.shape)

    def __repr__(self) -> str:
        return f"Known({self.array!r})"


def _size(dim: Dim, dtype: DType) -> Tensor:
    if isinstance(dim, str):
        return ops.size_of(dim, dtype.name)
    return wrap(active().builder.const(np.asarray(dim, dtype.numpy)))


def as_dims(known: Known, what: str) -> tuple[Dim, ...]:
    """A vector (or a scalar) of integers as Dims; ImportModelError when it is none."""
    if known.array.dtype.kind not in "Oiu" or known.array.ndim > 1:
        raise ImportModelError(f"{what}: expected a vector of integers, got {known.array.dtype}"
                               f"{list(known.array.shape)}")
    return tuple(d if isinstance(d, str) else int(d) for d in known.array.reshape(-1))


def as_ints(known: Known, what: str) -> tuple[int, ...]:
    """As `as_dims`, of integers alone; ImportModelError names the size that is none."""
    dims = as_dims(known, what)
    if symbols := [d for d in dims if isinstance(d, str)]:
        raise ImportModelError(f"{what}: expected integers, got the size {symbols[0]}")
    return tuple(int(d) for d in dims)
