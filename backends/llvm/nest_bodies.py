"""What nests do at one place of their outer loops, by the name of the op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType

from llvmlite import ir

from rnngraph.backends.llvm.nest_matmul import matmul
from rnngraph.backends.llvm.nest_place import Place, dtype_size, element_type
from rnngraph.backends.llvm.nest_pool import pool
from rnngraph.backends.llvm.nest_scalars import SCALARS, compare, convert, extreme
from rnngraph.backends.llvm.vector import F32, F64, I64, Builder, IRType, IRValue
from rnngraph.backends.llvm.vmath import LOWERINGS
from rnngraph.ir import DType
from rnngraph.ir.order_ops import ArgAttrs, CumsumAttrs, TopKAttrs

Body = Callable[[Place, Builder], None]


def _elementwise(p: Place, b: Builder) -> None:
    first = len(p.op.results)
    args = [p.load(b, k) for k in range(first, len(p.at))]
    if p.op.name == "cast":
        p.store(b, 0, convert(b, args[0], p.dtypes[1], p.dtypes[0]))
        return
    p.store(b, 0, SCALARS[p.op.name](p.e, b, p.dtypes[-1], args))


def _lookup(p: Place, b: Builder) -> None:
    """A run of elements that one index finds, or elements with an index each."""
    assert p.span is not None
    size, strides = p.span
    one, each, after = (b.append_basic_block(name) for name in ("one", "each", "looked"))
    b.cbranch(b.icmp_signed("==", strides[2], p.e.num(0)), one, each)
    b.position_at_end(one)
    _found(p, b, p.at, lambda source: _run(p, b, source, size, strides))
    b.branch(after)
    b.position_at_end(each)
    with p.e.for_range(b, 0, size, name="element") as i:
        at = [p.along(b, k, i.index, stride) for k, stride in enumerate(strides)]
        _found(p, b, at, lambda source: p.store(b, 0, p.load(b, 1, source), at[0]))
    b.branch(after)
    b.position_at_end(after)


def _found(p: Place, b: Builder, at: Sequence[IRValue], read: Callable[[IRValue], None]) -> None:
    """``read`` from where the index says. One out of range is noted, and nothing is read."""
    size, stride = p.inner[0]
    given = p.load(b, 2, at[2])
    index = given if given.type == I64 else (b.sext if p.dtypes[2].numpy.kind == "i" else b.zext)(given, I64)
    place = index
    if p.op.name != "gather":
        place = b.select(b.icmp_signed("<", index, p.e.num(0)), b.add(index, size), index)
    inside, missing, after = (b.append_basic_block(name) for name in ("inside", "missing", "after"))
    b.cbranch(b.icmp_unsigned("<", place, size), inside, missing)
    b.position_at_end(inside)
    read(p.along(b, 1, place, stride, at[1]))
    b.branch(after)
    b.position_at_end(missing)
    p.e.store(b, p.number, p.bad, align=8)
    p.e.store(b, index, p.e.at(b, p.bad, 1, I64), align=8)
    b.branch(after)
    b.position_at_end(after)


def _run(p: Place, b: Builder, source: IRValue, size: IRValue, strides: Sequence[IRValue]) -> None:
    """Copy elements from ``source``; by vectors where they lie side by side."""
    e, element, align = p.e, element_type(p.dtypes[0]), dtype_size(p.dtypes[0])
    beside = b.and_(*(b.icmp_signed("==", s, e.num(1)) for s in strides[:2]))
    whole = b.select(beside, b.and_(size, e.num(-e.W)), e.num(0))
    with e.for_range(b, 0, whole, e.W, name="vectors") as v:
        x = e.load(b, e.at(b, source, v.index, element), ir.VectorType(element, e.W), align=align)
        e.store(b, x, e.at(b, p.at[0], v.index, element), align=align)
    with e.for_range(b, whole, size, name="rest") as v:
        p.store(b, 0, p.load(b, 1, p.along(b, 1, v.index, strides[1], source)), p.along(b, 0, v.index, strides[0]))


# --- reductions -------------------------------------------------------------------------------------------------


def _least(dtype: DType, *, greatest: bool = False) -> float | int:
    if dtype.is_float:
        return float("inf") if greatest else float("-inf")
    bits = 8 * dtype.itemsize - (dtype.numpy.kind == "i")
    return 2**bits - 1 if greatest else -(2**bits) if dtype.numpy.kind == "i" else 0


def _reduce(p: Place, b: Builder) -> None:
    """All results of the last outer axis: W at a time where results and what they are made of lie side by side."""
    assert p.span is not None
    e, (size, strides) = p.e, p.span
    whole: IRValue = e.num(0)
    if element_type(p.dtypes[0]) == F32 and p.dtypes[1].is_float:
        beside = b.and_(*(b.icmp_signed("==", s, e.num(1)) for s in strides))
        whole = b.select(beside, b.and_(size, e.num(-e.W)), e.num(0))
        with e.for_range(b, 0, whole, e.W, name="vectors") as v:
            to, source = (e.at(b, at, v.index) for at in p.at)
            e.store(b, _reduced(p, b, source, e.W), to)
    with e.for_range(b, whole, size, name="results") as i:
        to, source = (p.along(b, k, i.index, s) for k, s in enumerate(strides))
        p.store(b, 0, _reduced(p, b, source, 1), to)


def _reduced(p: Place, b: Builder, address: IRValue, lanes: int) -> IRValue:
    """One result, or several side by side. Sums and products of floats are kept in double precision: they do not grow
    worse with the number of terms."""
    name, dtype, e = p.op.name, p.dtypes[1], p.e
    double = name in ("reduce_sum", "reduce_mean", "reduce_prod") and dtype.is_float

    def lanewise(element: IRType) -> IRType:
        return ir.VectorType(element, lanes) if lanes > 1 else element

    def number(x: float | int, element: IRType) -> IRValue:
        return e.const(x, element) if lanes > 1 else ir.Constant(element, float(x) if dtype.is_float else x)

    kind: IRType = F64 if double else element_type(dtype)
    start = {"reduce_prod": 1, "reduce_max": _least(dtype), "reduce_min": _least(dtype, greatest=True)}.get(name, 0)
    with b.goto_entry_block():
        slot = b.alloca(lanewise(kind))
    b.store(number(start, kind), slot)
    with ExitStack() as loops:
        for size, stride in p.inner:
            loop = loops.enter_context(e.for_range(b, 0, size, name="reduced"))
            address = p.along(b, 1, loop.index, stride, address)
        x = e.load(b, address) if lanes > 1 else p.load(b, 1, address)
        if double and dtype.itemsize == 4:
            x = b.fpext(x, lanewise(F64))
        b.store(_combined(p, b, b.load(slot, typ=lanewise(kind)), x), slot)
    out = b.load(slot, typ=lanewise(kind))
    if name == "reduce_mean":
        count = p.inner[0][0]
        for size, _ in p.inner[1:]:
            count = b.mul(count, size)
        count = b.sitofp(count, F64)
        out = b.fdiv(out, e.splat(b, count) if lanes > 1 else count)
    return b.fptrunc(out, lanewise(F32)) if double and dtype.itemsize == 4 else out


def _combined(p: Place, b: Builder, x: IRValue, y: IRValue) -> IRValue:
    name, dtype = p.op.name, p.dtypes[1]
    if name in ("reduce_max", "reduce_min"):
        return extreme(b, ">" if name == "reduce_max" else "<", dtype, x, y)
    if name == "reduce_prod":
        return b.fmul(x, y) if dtype.is_float else b.mul(x, y)
    return b.fadd(x, y) if dtype.is_float else b.add(x, y)


# --- order ------------------------------------------------------------------------------------------------------


def _better(p: Place, b: Builder, sign: str, x: IRValue, best: IRValue, *, ties: bool = False) -> IRValue:
    """Whether x comes before the best so far; NaN comes before all, ``ties``: an equal one too."""
    dtype = p.dtypes[-1]
    found = compare(b, sign + ("=" if ties else ""), dtype, x, best)
    if not dtype.is_float:
        return found
    known = b.fcmp_unordered("uno", best, best)
    own = b.fcmp_unordered("uno", x, x)
    if ties:
        return b.or_(own, b.and_(b.not_(known), found))
    return b.and_(b.not_(known), b.or_(own, found))


def _arg(p: Place, b: Builder) -> None:
    """Where the greatest or least stands; the first of equals, or the last."""
    a, e = p.op.attrs, p.e
    assert isinstance(a, ArgAttrs)
    (size, stride), sign = p.inner[0], ">" if p.op.name == "argmax" else "<"
    first = p.load(b, 1)
    with e.for_range(b, 1, size, carried=[first, e.num(0)], name="order") as loop:
        x = p.load(b, 1, p.along(b, 1, loop.index, stride))
        better = _better(p, b, sign, x, loop.carried[0], ties=a.last)
        loop.next = [b.select(better, x, loop.carried[0]), b.select(better, loop.index, loop.carried[1])]
    p.store(b, 0, loop.carried[1])


def _top_k(p: Place, b: Builder) -> None:
    """k times the first of what comes behind the last one found. NaN counts as the largest of all."""
    a, e = p.op.attrs, p.e
    assert isinstance(a, TopKAttrs)
    (count, out_stride), (_, index_stride), (size, stride) = p.inner
    sign = ">" if a.largest else "<"

    def element(i: IRValue) -> IRValue:
        return p.load(b, 2, p.along(b, 2, i, stride))

    with e.for_range(b, 0, count, carried=[e.num(-1)], name="rank") as rank:
        last = rank.carried[0]
        begun = b.icmp_signed(">=", last, e.num(0))
        before = element(b.select(begun, last, e.num(0)))
        with e.for_range(b, 0, size, carried=[e.num(-1)], name="order") as loop:
            x, best = element(loop.index), loop.carried[0]
            # behind the last one: it comes before x, or is equal and stands in front of it
            behind = b.or_(_precedes(p, b, sign, before, x),
                           b.and_(b.not_(_precedes(p, b, sign, x, before)), b.icmp_signed(">", loop.index, last)))
            free = b.or_(b.not_(begun), behind)
            none = b.icmp_signed("<", best, e.num(0))
            current = element(b.select(none, loop.index, best))
            better = b.or_(none, _precedes(p, b, sign, x, current))
            loop.next = [b.select(b.and_(free, better), loop.index, best)]
        found = loop.carried[0]
        p.store(b, 0, element(found), p.along(b, 0, rank.index, out_stride))
        p.store(b, 1, found, p.along(b, 1, rank.index, index_stride))
        rank.next = [found]


def _precedes(p: Place, b: Builder, sign: str, x: IRValue, y: IRValue) -> IRValue:
    """Whether x stands strictly before y in the order; NaN is the largest number."""
    dtype = p.dtypes[-1]
    less = compare(b, sign, dtype, x, y)
    if not dtype.is_float:
        return less
    x_nan, y_nan = b.fcmp_unordered("uno", x, x), b.fcmp_unordered("uno", y, y)
    if sign == ">":
        return b.and_(b.not_(y_nan), b.or_(x_nan, less))
    return b.and_(b.not_(x_nan), b.or_(y_nan, less))


def _cumsum(p: Place, b: Builder) -> None:
    a, e, dtype = p.op.attrs, p.e, p.dtypes[1]
    assert isinstance(a, CumsumAttrs)
    (_, out_stride), (size, stride) = p.inner
    zero = ir.Constant(element_type(dtype), 0.0 if dtype.is_float else 0)
    with e.for_range(b, 0, size, carried=[zero], name="order") as loop:
        place = b.sub(b.sub(size, e.num(1)), loop.index) if a.reverse else loop.index
        x = p.load(b, 1, p.along(b, 1, place, stride))
        total = b.fadd(loop.carried[0], x) if dtype.is_float else b.add(loop.carried[0], x)
        p.store(b, 0, loop.carried[0] if a.exclusive else total, p.along(b, 0, place, out_stride))
        loop.next = [total]


def _softmax(p: Place, b: Builder) -> None:
    """The exponents of W elements at a time, less the largest, and the sum of all. NaN in one is NaN in all."""
    e = p.e
    (_, out_stride), (size, stride) = p.inner
    with e.for_range(b, 1, size, carried=[p.load(b, 1)], name="largest") as loop:
        x = p.load(b, 1, p.along(b, 1, loop.index, stride))
        loop.next = [extreme(b, ">", p.dtypes[1], x, loop.carried[0])]
    largest = e.splat(b, loop.carried[0])
    last = b.sub(size, e.num(1))
    with e.for_range(b, 0, size, e.W, carried=[e.const(0.0)], name="sum") as loop:
        x = e.const(0.0)
        for lane in range(e.W):
            at = b.add(loop.index, e.num(lane))
            at = b.select(b.icmp_signed("<", at, last), at, last)
            x = b.insert_element(x, p.load(b, 1, p.along(b, 1, at, stride)), e.num(lane))
        y = LOWERINGS["exp"](e, b, b.fsub(x, largest))
        y = b.select(e.tail_mask(b, loop.index, size), y, e.const(0.0))
        for lane in range(e.W):
            at = b.add(loop.index, e.num(lane))
            with e.if_then(b, b.icmp_signed("<", at, size), "lane"):
                p.store(b, 0, b.extract_element(y, e.num(lane)), p.along(b, 0, at, out_stride))
        loop.next = [b.fadd(loop.carried[0], y)]
    total = e.reduce_sum(b, loop.carried[0])
    with e.for_range(b, 0, size, name="share") as share:
        at = p.along(b, 0, share.index, out_stride)
        p.store(b, 0, b.fdiv(p.load(b, 0, at), total), at)


BODIES: Mapping[str, Body] = MappingProxyType({
    **dict.fromkeys((*SCALARS, "cast"), _elementwise),
    **dict.fromkeys(("take", "gather", "gather_elements"), _lookup),
    **dict.fromkeys(("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod"), _reduce),
    **dict.fromkeys(("argmax", "argmin"), _arg),
    "top_k": _top_k, "cumsum": _cumsum, "softmax": _softmax, "matmul": matmul, "pool": pool,
})

__all__ = ["BODIES"]
