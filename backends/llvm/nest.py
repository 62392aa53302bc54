"""Emission of a nest: loops over its outer axes, and within them what the op does at one place (`nest_bodies`)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.vector import F32, F64, I64, PTR, VOID, Builder, Emit, IRType, IRValue
from rnngraph.ir import BOOL, DType, Op
from rnngraph.phases.nests import AXES, SPANS, WINDOWS, nest_of

ENTRY = "nest"


def element_type(dtype: DType) -> IRType:
    """How memory holds an element."""
    from llvmlite import ir

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


def nest_signature(op: Op) -> str:
    """What decides the code of a nest."""
    dtypes = " ".join(str(v.type.dtype) for v in (*op.results, *op.operands))
    nest = nest_of(op)
    return f"{op.name} {_flags(op)} {dtypes} {len(nest.inner)}"


def _flags(op: Op) -> str:
    """The attributes that code depends on: axes come as strides."""
    if op.name in WINDOWS:
        return str(op.attrs)
    names = ("last", "largest", "exclusive", "reverse")
    return " ".join(f"{n}={getattr(op.attrs, n)}" for n in names if hasattr(op.attrs, n))


def emit_nest(op: Op, target: CpuTarget) -> str:
    """The LLVM IR of a nest."""
    from rnngraph.backends.llvm.nest_bodies import BODIES

    e, nest = Emit(target), nest_of(op)
    dtypes = [v.type.dtype for v in (*op.results, *op.operands)]
    fn, b = e.function(ENTRY, VOID, [PTR] + [I64] * 7)
    count = 2 + len(dtypes) + AXES + AXES * len(dtypes) + 2 * len(nest.inner)
    words = [e.load(b, e.at(b, fn.args[0], k, I64), I64, align=8) for k in range(count)]
    at = [b.inttoptr(w, PTR) for w in words[2 : 2 + len(dtypes)]]
    rest = words[2 + len(dtypes) :]
    sizes, strides = rest[:AXES], [rest[AXES * (k + 1) : AXES * (k + 2)] for k in range(len(dtypes))]
    inner = rest[AXES * (1 + len(dtypes)) :]
    pairs = list(zip(inner[::2], inner[1::2], strict=True))
    outer, index = AXES - (op.name in SPANS), list[IRValue]()
    span = (sizes[-1], [s[-1] for s in strides]) if outer < AXES else None
    with ExitStack() as loops:
        for axis in range(outer):
            loop = loops.enter_context(e.for_range(b, 0, sizes[axis], name=f"axis{axis}"))
            index.append(loop.index)
            at = [e.at(b, a, b.mul(loop.index, strides[k][axis]), element_type(d))
                  for k, (a, d) in enumerate(zip(at, dtypes, strict=True))]
        BODIES[op.name](Place(e, op, dtypes, at, pairs, index, span, b.inttoptr(words[0], PTR), words[1]), b)
    b.ret_void()
    return e.text()


__all__ = ["ENTRY", "Place", "element_type", "emit_nest", "nest_signature"]
