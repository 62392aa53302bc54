"""Types of IR values: a dtype and a shape whose dims are integers or named symbols."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TypeAlias

import numpy as np

from rnngraph.errors import ShapeError

Dim: TypeAlias = int | str
Shape: TypeAlias = tuple[Dim, ...]
Dims: TypeAlias = dict[str, int]  # what the symbols stand for in one call

SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class DType:
    """An element type; ``numpy`` is how the reference holds it (bf16 is held as rounded float32)."""

    name: str
    numpy: np.dtype[np.generic]
    itemsize: int
    kind: str  # "float" | "int" | "bool"

    def __str__(self) -> str:
        return self.name

    @property
    def is_float(self) -> bool:
        return self.kind == "float"


F32 = DType("f32", np.dtype(np.float32), 4, "float")
F64 = DType("f64", np.dtype(np.float64), 8, "float")
F16 = DType("f16", np.dtype(np.float16), 2, "float")
BF16 = DType("bf16", np.dtype(np.float32), 2, "float")
I8 = DType("i8", np.dtype(np.int8), 1, "int")
I32 = DType("i32", np.dtype(np.int32), 4, "int")
I64 = DType("i64", np.dtype(np.int64), 8, "int")
BOOL = DType("bool", np.dtype(np.bool_), 1, "bool")
DTYPES = {d.name: d for d in (F32, F64, F16, BF16, I8, I32, I64, BOOL)}
_FROM_NUMPY = {d.numpy: d for d in (F32, F64, F16, I8, I32, I64, BOOL)}


def dtype_of(array: np.ndarray | np.generic) -> DType:
    """The IR dtype of a numpy array; ShapeError for dtypes that the IR does not have."""
    try:
        return _FROM_NUMPY[array.dtype.newbyteorder("=")]
    except KeyError:
        raise ShapeError(
            f"arrays of dtype {array.dtype} have no IR type; expected one of {', '.join(DTYPES)}"
        ) from None


MAX_DIM = 2**48  # what an address can reach


@dataclass(frozen=True, slots=True)
class TensorType:
    """``f32[T,B,256]``: a dtype and a shape."""

    dtype: DType
    shape: Shape

    def __post_init__(self) -> None:
        for dim in self.shape:
            if isinstance(dim, bool) or not isinstance(dim, int | str):
                raise ShapeError(f"a dim is an int or a symbol's name, got {dim!r}")
            if isinstance(dim, int) and not 0 <= dim <= MAX_DIM:
                raise ShapeError(f"a dim is in 0..2**48, got {dim if dim < 0 else 'a larger number'}")
            if isinstance(dim, str) and not SYMBOL.fullmatch(dim):
                raise ShapeError(f"a symbolic dim is an identifier, got {dim!r}")

    @property
    def rank(self) -> int:
        return len(self.shape)

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return _type_text(self.dtype, self.shape)


@lru_cache(maxsize=4096)
def _type_text(dtype: DType, shape: Shape) -> str:
    return f"{dtype}[{','.join(map(str, shape))}]"


def resolve(shape: Shape, dims: Dims) -> tuple[int, ...]:
    """The shape with every symbol replaced by its size in ``dims``."""
    try:
        return tuple(dims[d] if isinstance(d, str) else d for d in shape)
    except KeyError as e:
        raise ShapeError(
            f"symbol {e.args[0]!r} in shape [{','.join(map(str, shape))}] is bound by no input"
        ) from None


def numel(shape: Shape, dims: Dims) -> int:
    """Number of elements of ``shape`` under ``dims``."""
    return prod(resolve(shape, dims))
