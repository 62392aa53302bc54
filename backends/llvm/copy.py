"""``rg_copy``: a strided copy of up to six axes, for initial and final states and for what must be laid out anew.

    rg_copy(table): table = [target, source, six sizes, six target strides, six source strides]

Strides count floats.
"""

from __future__ import annotations

from contextlib import ExitStack

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.vector import F32, I64, PTR, VOID, Emit
from rnngraph.ir import Array

ENTRY = "rg_copy"
AXES = 6
WORDS = 2 + 3 * AXES


def emit_copy(target: CpuTarget) -> str:
    """The LLVM IR of rg_copy."""
    e = Emit(target)
    fn, b = e.function(ENTRY, VOID, [PTR] + [I64] * 7)
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
            row = e.at(b, row, b.mul(loop.index, into[axis]))
            origin = e.at(b, origin, b.mul(loop.index, out_of[axis]))
        with e.for_range(b, 0, whole, e.W, name="vectors") as v:
            e.store(b, e.load(b, e.at(b, origin, v.index)), e.at(b, row, v.index))
        with e.for_range(b, whole, sizes[-1], name="rest") as v:
            value = e.load(b, e.at(b, origin, b.mul(v.index, out_of[-1])), F32)
            e.store(b, value, e.at(b, row, b.mul(v.index, into[-1])))
    b.ret_void()
    return e.text()


def copy_shape(target: Array, source: Array) -> list[int] | None:
    """Sizes and strides for a copy between arrays of one shape; None when it has more than six axes."""
    axes = [(n, t // 4, s // 4) for n, t, s in zip(target.shape, target.strides, source.strides, strict=True) if n != 1]
    if len(axes) > AXES:
        return None
    axes = [(1, 1, 1)] * (AXES - len(axes)) + axes
    return [axis[k] for k in range(3) for axis in axes]
