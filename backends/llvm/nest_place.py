"""The place in the loops of a nest at which a body stands, and how memory holds its elements."""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from rnngraph.backends.llvm.vector import F32, F64, Builder, Emit, IRType, IRValue
from rnngraph.ir import BOOL, DType, Op


def element_type(dtype: DType) -> IRType:
    """How memory holds an element."""
    if dtype is BOOL:
        return F32
    if dtype.is_float:
        return F32 if dtype.itemsize == 4 else F64
    return ir.IntType(8 * dtype.itemsize)


@dataclass(slots=True)
class Place:
    """Where a body stands: an address for every result and operand, and (size, stride) of every inner axis."""

    e: Emit
    op: Op
    dtypes: list[DType]
    at: list[IRValue]
    inner: list[tuple[IRValue, IRValue]]
    index: list[IRValue]  # of the outer loops
    span: tuple[IRValue, list[IRValue]] | None  # size and strides of the last outer axis, for a body that walks it
    bad: IRValue  # address of the number of a nest that has failed, and of the index behind it
    number: IRValue

    def load(self, b: Builder, k: int, address: IRValue | None = None) -> IRValue:
        """An element of result or operand k, at its place or at another address; bool as i1."""
        dtype = self.dtypes[k]
        x = self.e.load(b, self.at[k] if address is None else address, element_type(dtype), align=dtype_size(dtype))
        return b.fcmp_unordered("!=", x, F32(0.0)) if dtype is BOOL else x

    def store(self, b: Builder, k: int, x: IRValue, address: IRValue | None = None) -> None:
        dtype = self.dtypes[k]
        if dtype is BOOL:
            x = b.uitofp(x, F32)
        self.e.store(b, x, self.at[k] if address is None else address, align=dtype_size(dtype))

    def along(self, b: Builder, k: int, index: IRValue, stride: IRValue, start: IRValue | None = None) -> IRValue:
        """The address of the ``index``-th element along an inner axis of result or operand k."""
        base = self.at[k] if start is None else start
        return self.e.at(b, base, b.mul(index, stride), element_type(self.dtypes[k]))


def dtype_size(dtype: DType) -> int:
    return 4 if dtype is BOOL else dtype.itemsize
