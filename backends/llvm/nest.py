"""Emission of a nest: loops over its outer axes, and within them what the op does at one place (`nest_bodies`)."""

from __future__ import annotations

from contextlib import ExitStack

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.nest_bodies import BODIES
from rnngraph.backends.llvm.nest_place import Place, element_type
from rnngraph.backends.llvm.vector import I64, PTR, VOID, Emit, IRValue
from rnngraph.ir import Op
from rnngraph.phases.nests import AXES, SPANS, WINDOWS, nest_of

ENTRY = "nest"


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


__all__ = ["ENTRY", "emit_nest", "nest_signature"]
