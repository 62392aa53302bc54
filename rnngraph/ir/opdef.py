"""OpDef: what one kind of op is. Typing rule, reference evaluation and cost stand together, once."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from rnngraph.ir.types import BF16, Dims, DType, TensorType, dtype_of, numel

if TYPE_CHECKING:
    from rnngraph.ir.core import Block, Op, Value

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Types: TypeAlias = tuple[TensorType, ...]


@dataclass(frozen=True, slots=True)
class Attrs:
    """Base of the attribute records; an op without attributes carries this one."""


NO_ATTRS = Attrs()


class Literal:
    """An immutable constant: a dtype and a read-only array, equal and hashed by content."""

    def __init__(self, array: Array, dtype: DType | None = None) -> None:
        self.dtype = dtype or dtype_of(array)
        self.array = np.array(array, dtype=self.dtype.numpy, order="C")
        if self.dtype is BF16:
            self.array = round_bf16(self.array)
        self.array.flags.writeable = False

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, self.array.shape)

    @cached_property
    def digest(self) -> str:
        """sha256 over type and bytes (bit-exact: -0.0 and 0.0 differ, NaNs compare by bits)."""
        h = hashlib.sha256(str(self.type).encode())
        h.update(np.ascontiguousarray(self.array).data)
        return h.hexdigest()

    @cached_property
    def splat(self) -> float | int | bool | None:
        """The one value that fills the array, or None."""
        flat = self.array.reshape(-1)
        if flat.size == 0:
            return None
        bits = flat.view(np.uint8).reshape(flat.size, -1)
        if (bits[-1] != bits[0]).any() or not (bits == bits[0]).all():  # the ends settle it for most weights
            return None
        value: float | int | bool = flat[0].item()
        return value

    @cached_property
    def _checksum(self) -> int:
        """Quick, for hashing; `digest` is for names that must not collide."""
        return zlib.crc32(np.ascontiguousarray(self.array).data) if self.array.size else 0

    def __eq__(self, other: object) -> bool:
        """Same type and same bits."""
        if self is other:
            return True
        if not isinstance(other, Literal) or self.type != other.type or self._checksum != other._checksum:
            return False
        return self.array.tobytes() == other.array.tobytes()

    def __hash__(self) -> int:
        return hash((self.type, self._checksum))

    def __repr__(self) -> str:
        return f"Literal({self.type}, {self.digest[:8]})"


def as_array(x: Any) -> Array:
    """What a function of numpy has given, as an array: numpy's, or that of another library which answers for numpy's
    functions, as CuPy's do."""
    return x if hasattr(x, "__array_function__") else np.asarray(x)


def round_bf16(array: Array) -> Array:
    """float32 rounded to nearest-even bfloat16, still held as float32."""
    given = array if hasattr(array, "__array_function__") else np.asarray(array)  # also one that lies on a GPU
    bits = given.astype(np.float32, copy=False).view(np.uint32)
    rounded = bits + (((bits >> 16) & 1) + 0x7FFF).astype(np.uint32)
    out: Array = np.where(np.isnan(array), array, (rounded & 0xFFFF0000).view(np.float32))
    return out.astype(np.float32).reshape(np.shape(array))


class EvalContext(Protocol):
    """What an op's reference evaluation may ask for."""

    dims: Dims

    def array_dtype(self, dtype: DType) -> np.dtype[Any]:
        """The numpy dtype that holds ``dtype`` in this run (float64 for every float in a float64 run)."""

    def run_block(self, block: Block, args: Sequence[Array]) -> list[Array]:
        """Evaluate a body with its arguments bound; returns its terminator's operands."""


Infer: TypeAlias = Callable[[Types, Any, "tuple[Block, ...]"], Types]
Evaluate: TypeAlias = Callable[[EvalContext, "Op", Sequence[Array]], Sequence[Array]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Floating point operations and bytes moved (operands read once, results written once)."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.flops * times, self.bytes * times)


CostRule: TypeAlias = Callable[["Op", Dims], Cost]


def value_bytes(value: Value, dims: Dims) -> float:
    return numel(value.type.shape, dims) * value.type.dtype.itemsize


def traffic(op: Op, dims: Dims) -> float:
    """Bytes of all operands and results."""
    return sum(value_bytes(v, dims) for v in (*op.operands, *op.results))


def elementwise_cost(flops_per_element: float) -> CostRule:
    def rule(op: Op, dims: Dims) -> Cost:
        return Cost(flops_per_element * numel(op.results[0].shape, dims), traffic(op, dims))

    return rule


@dataclass(frozen=True, slots=True)
class OpDef:
    """One kind of op.

    ``infer(operand types, attrs, blocks) -> result types`` is the only typing rule: builder, parser and verifier
    all use it. ``evaluate`` is the meaning of the op, in numpy. ``tags`` group ops for passes and backends.
    """

    name: str
    infer: Infer
    evaluate: Evaluate
    cost: CostRule = field(default=elementwise_cost(0.0))
    attrs: type[Attrs] = Attrs
    tags: frozenset[str] = frozenset()
    terminator: bool = False
    pure: bool = True  # same operands and attrs, same results: may be merged and removed

    def __repr__(self) -> str:
        return f"OpDef({self.name})"
