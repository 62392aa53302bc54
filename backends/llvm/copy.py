"""``rg_copy``: a strided copy of up to six axes, for initial and final states and for what must be laid out anew.

    rg_copy(table): table = [target, source, six sizes, six target strides, six source strides]

Strides count elements. There is one for each size of an element, named ``rg_copy`` and the bytes.
"""

from __future__ import annotations

from contextlib import ExitStack

from llvmlite import ir

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.vector import I8, I16, I32, I64, PTR, VOID, Emit
from rnngraph.ir import Array

ELEMENTS = {1: I8, 2: I16, 4: I32, 8: I64}
AXES = 6
WORDS = 2 + 3 * AXES


def entry(itemsize: int) -> str:
    """The name of the copy of elements of so many bytes."""
    return f"rg_copy{itemsize}"


def emit_copy(target: CpuTarget, itemsize: int) -> str:
    """The LLVM IR of the copy of elements of so many bytes."""
    e, element = Emit(target), ELEMENTS[itemsize]
    vector = ir.VectorType(element, e.W)
    fn, b = e.function(entry(itemsize), VOID, [PTR] + [I64] * 7)
    words = [e.load(b, e.at(b, fn.args[0], k, I64), I64, align=8) for k in range(WORDS)]
    to, source = (b.inttoptr(w, PTR) for w in words[:2])
    sizes, into, out_of = (words[2 + AXES * k : 2 + AXES * (k + 1)] for k in range(3))
    one = e.num(1)
    contiguous = b.and_(b.icmp_signed("==", into[-1], one), b.icmp_signed("==", out_of[-1], one))
    whole = b.select(contiguous, b.and_(sizes[-1], e.num(-e.W)), e.num(0))
    with ExitStack() as nest:
        row, origin = to, source
        for axis in range(AXES - 1):
            loop = nest.enter_context(e.for_range(b, 0, sizes[axis], name=f"axis{axis}"))
            row = e.at(b, row, b.mul(loop.index, into[axis]), element)
            origin = e.at(b, origin, b.mul(loop.index, out_of[axis]), element)
        with e.for_range(b, 0, whole, e.W, name="vectors") as v:
            value = e.load(b, e.at(b, origin, v.index, element), vector, align=itemsize)
            e.store(b, value, e.at(b, row, v.index, element), align=itemsize)
        with e.for_range(b, whole, sizes[-1], name="rest") as v:
            value = e.load(b, e.at(b, origin, b.mul(v.index, out_of[-1]), element), element, align=itemsize)
            e.store(b, value, e.at(b, row, b.mul(v.index, into[-1]), element), align=itemsize)
    b.ret_void()
    return e.text()


def copy_shape(target: Array, source: Array) -> list[int] | None:
    """Sizes and strides for a copy between arrays of one shape; None when it has more than six axes, even with those
    that are one in memory taken together."""
    size = source.itemsize
    axes: list[tuple[int, int, int]] = []
    for n, t, s in zip(target.shape, target.strides, source.strides, strict=True):
        if n == 1:
            continue
        if axes and axes[-1][1] * size == n * t and axes[-1][2] * size == n * s:
            axes[-1] = (axes[-1][0] * n, t // size, s // size)
        else:
            axes.append((n, t // size, s // size))
    if len(axes) > AXES:
        return None
    axes = [(1, 1, 1)] * (AXES - len(axes)) + axes
    return [axis[k] for k in range(3) for axis in axes]
