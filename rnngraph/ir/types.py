"""Types of IR values: a dtype and a shape whose dims are integers, symbols, or sizes computed from symbols."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TypeAlias

import numpy as np

from rnngraph.errors import InputError, ShapeError
from rnngraph.ir.dims import Dim as Dim
from rnngraph.ir.dims import evaluate, is_canonical, parse

Shape: TypeAlias = tuple[Dim, ...]
Dims: TypeAlias = dict[str, int]  # what symbols, and sizes computed from them, stand for in one call


class Sizes(dict[str, int]):
    """The sizes of one call whose graph computes sizes from those of symbols; do not change it. ``key`` says all.

    ``empty``: one of ``shapes``, the computed sizes that are dims of values, is 0, or a symbol is.
    """

    __slots__ = ("empty", "key")

    def __init__(self, symbols: Dims, computed: Dims, shapes: Collection[str]) -> None:
        super().__init__({**symbols, **computed})
        self.key = tuple(sorted(symbols.items()))
        self.empty = 0 in symbols.values() or 0 in [computed[d] for d in shapes]


def is_empty(dims: Dims) -> bool:
    """Whether some value has no elements under these sizes, as far as symbols and computed sizes tell."""
    return dims.empty if type(dims) is Sizes else 0 in dims.values()


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
I16 = DType("i16", np.dtype(np.int16), 2, "int")
I32 = DType("i32", np.dtype(np.int32), 4, "int")
I64 = DType("i64", np.dtype(np.int64), 8, "int")
U8 = DType("u8", np.dtype(np.uint8), 1, "int")
U16 = DType("u16", np.dtype(np.uint16), 2, "int")
U32 = DType("u32", np.dtype(np.uint32), 4, "int")
U64 = DType("u64", np.dtype(np.uint64), 8, "int")
BOOL = DType("bool", np.dtype(np.bool_), 1, "bool")
DTYPES = {d.name: d for d in (F32, F64, F16, BF16, I8, I16, I32, I64, U8, U16, U32, U64, BOOL)}
_FROM_NUMPY = {d.numpy: d for d in DTYPES.values() if d is not BF16}


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
    """``f32[T,B,256]``: a dtype and a shape. A computed dim, as in ``f32[T+1,B]``, has its canonical text."""

    dtype: DType
    shape: Shape

    def __post_init__(self) -> None:
        for dim in self.shape:
            if isinstance(dim, bool) or not isinstance(dim, int | str):
                raise ShapeError(f"a dim is an int, a symbol's name or an expression, got {dim!r}")
            if isinstance(dim, int) and not 0 <= dim <= MAX_DIM:
                raise ShapeError(f"a dim is in 0..2**48, got {dim if dim < 0 else 'a larger number'}")
            if isinstance(dim, str) and not is_canonical(dim):
                raise ShapeError(f"the dim {dim!r} is spelled {parse(dim)}")

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
    """The shape in numbers: ``dims`` has the sizes of symbols and may have those of expressions.

    ShapeError for a symbol that is not in ``dims``, InputError for a size below 0.
    """
    try:
        return tuple(dims[d] if isinstance(d, str) else d for d in shape)
    except KeyError:
        return tuple(size_of(d, dims) for d in shape)


def size_of(dim: Dim, dims: Dims) -> int:
    """The size of one dim, as `resolve`."""
    size = evaluate(dim, dims)
    if not 0 <= size <= MAX_DIM:
        known = ", ".join(f"{s} = {n}" for s, n in dims.items() if isinstance(dim, str) and s in dim)
        advice = "give longer inputs" if size < 0 else "a size is at most 2**48"
        raise InputError(f"the size {dim} is {size} where {known}; {advice}")
    return size


def numel(shape: Shape, dims: Dims) -> int:
    """Number of elements of ``shape`` under ``dims``."""
    return prod(resolve(shape, dims))
