"""Pooling as a nest: the windows of all channels of a place, by vectors where channels lie side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from llvmlite import ir

from rnngraph.backends.llvm.nest_place import Place, element_type
from rnngraph.backends.llvm.nest_scalars import compare, extreme
from rnngraph.backends.llvm.vector import F32, I1, I64, Builder, IRValue
from rnngraph.backends.llvm.vmath import LOWERINGS
from rnngraph.ir.pool_ops import PoolAttrs
from rnngraph.phases.nests import AXES


def pool(p: Place, b: Builder) -> None:
    """One place of the result, all channels."""
    e, a = p.e, p.op.attrs
    assert isinstance(a, PoolAttrs)
    assert p.span is not None
    size, strides = p.span
    whole: IRValue = e.num(0)
    if element_type(p.dtypes[0]) == F32 and not a.indices:
        beside = b.and_(*(b.icmp_signed("==", s, e.num(1)) for s in strides))
        whole = b.select(beside, b.and_(size, e.num(-e.W)), e.num(0))
        with e.for_range(b, 0, whole, e.W, name="vectors") as v:
            _Window(p, a, vector=True).emit(b, [e.at(b, at, v.index) for at in p.at])
    with e.for_range(b, whole, size, name="channels") as v:
        _Window(p, a, vector=False).emit(b, [p.along(b, k, v.index, s) for k, s in enumerate(strides)])


class _Window:
    """The places of one window, one after the other; those beside the operand are left out."""

    def __init__(self, p: Place, a: PoolAttrs, *, vector: bool) -> None:
        self.p, self.a, self.vector = p, a, vector
        self.dtype = p.dtypes[-1]
        self.kind = p.e.f32v if vector else element_type(self.dtype)

    def emit(self, b: Builder, at: Sequence[IRValue]) -> None:
        e, a = self.p.e, self.a
        with b.goto_entry_block():
            total, count, where, found = (b.alloca(kind) for kind in (self.kind, I64, I64, I1))
        b.store(self.start(), total)
        b.store(e.num(0), count)
        b.store(e.num(0), where)
        b.store(e.num(0, I1), found)
        n = len(a.window)
        first = AXES - 1 - n  # of the outer loops: the last one, the channels, is the body's own
        inside: IRValue = e.num(1, I1)
        counted: IRValue = e.num(1, I1)
        address, flat = at[-1], e.num(0)
        with ExitStack() as loops:
            for k, (size, stride) in enumerate(self.p.inner):
                tap = loops.enter_context(e.for_range(b, 0, a.window[k], name="tap"))
                start = b.sub(b.mul(self.p.index[first + k], e.num(a.strides[k])), e.num(a.low[k]))
                place = b.add(start, b.mul(tap.index, e.num(a.dilation[k])))
                inside = b.and_(inside, b.icmp_unsigned("<", place, size))
                padded = b.add(size, e.num(a.low[k] + a.high[k]))
                counted = b.and_(counted, b.icmp_unsigned("<", b.add(place, e.num(a.low[k])), padded))
                address = self.p.along(b, len(at) - 1, place, stride, address)
                flat = b.add(b.mul(flat, size), place)
            more = b.zext(counted if a.counted else inside, I64)
            b.store(b.add(b.load(count, typ=I64), more), count)
            with e.if_then(b, inside, "inside"):
                self.take(b, address, flat, total, where, found)
        self.finish(b, at, b.load(total, typ=self.kind), b.load(count, typ=I64), b.load(where, typ=I64))

    def start(self) -> IRValue:
        least: float | int = 0
        if self.a.kind == "max":
            unsigned = self.dtype.numpy.kind == "u"
            least = float("-inf") if self.dtype.is_float else 0 if unsigned else -(2 ** (8 * self.dtype.itemsize - 1))
        if self.vector:
            return self.p.e.const(float(least))
        return ir.Constant(self.kind, float(least) if self.dtype.is_float else least)

    def take(self, b: Builder, address: IRValue, flat: IRValue, total: IRValue, where: IRValue,
             found: IRValue) -> None:
        """One more element of the window."""
        e, old = self.p.e, b.load(total, typ=self.kind)
        if self.vector:
            x = e.load(b, address)
            b.store(LOWERINGS["max" if self.a.kind == "max" else "add"](e, b, old, x), total)
            return
        x = self.p.load(b, len(self.p.at) - 1, address)
        if self.a.kind != "max":
            b.store(b.fadd(old, x) if self.dtype.is_float else b.add(old, x), total)
            return
        better = b.or_(b.not_(b.load(found, typ=I1)), compare(b, ">", self.dtype, x, old))
        if self.dtype.is_float:
            known = b.fcmp_unordered("uno", old, old)
            better = b.or_(better, b.and_(b.fcmp_unordered("uno", x, x), b.not_(known)))
        b.store(extreme(b, ">", self.dtype, x, old), total)
        b.store(b.select(better, flat, b.load(where, typ=I64)), where)
        b.store(e.num(1, I1), found)

    def finish(self, b: Builder, at: Sequence[IRValue], total: IRValue, count: IRValue, where: IRValue) -> None:
        e = self.p.e
        if self.a.kind == "average":
            if self.vector:
                total = b.fdiv(total, e.splat(b, b.sitofp(count, F32)))
            elif self.dtype.is_float:
                total = b.fdiv(total, b.sitofp(count, self.kind))
        if self.vector:
            e.store(b, total, at[0])
            return
        self.p.store(b, 0, total, at[0])
        if self.a.indices:
            self.p.store(b, 1, where, at[1])


__all__ = ["pool"]
