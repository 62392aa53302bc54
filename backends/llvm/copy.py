"""``rg_copy``: a strided copy of up to four axes, for initial and final states and for what must be laid out anew.

    rg_copy(table): table = [target, source, sizes 0 1 2 3, target strides 0 1 2 3, source strides 0 1 2 3]

Strides count floats.
"""

from __future__ import annotations

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.vector import F32, I64, PTR, VOID, Emit
from rnngraph.ir import Array

ENTRY = "rg_copy"
AXES = 4
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
    with e.for_range(b, 0, sizes[0], name="outer") as i, e.for_range(b, 0, sizes[1], name="middle") as j, \
            e.for_range(b, 0, sizes[2], name="rows") as k:
        row, origin = to, source
        for loop, t, f in zip((i, j, k), into, out_of, strict=False):
            row, origin = e.at(b, row, b.mul(loop.index, t)), e.at(b, origin, b.mul(loop.index, f))
        with e.for_range(b, 0, whole, e.W, name="vectors") as v:
            e.store(b, e.load(b, e.at(b, origin, v.index)), e.at(b, row, v.index))
        with e.for_range(b, whole, sizes[-1], name="rest") as v:
            value = e.load(b, e.at(b, origin, b.mul(v.index, out_of[-1])), F32)
            e.store(b, value, e.at(b, row, b.mul(v.index, into[-1])))
    b.ret_void()
    return e.text()


def copy_shape(target: Array, source: Array) -> list[int] | None:
    """Sizes and strides for a copy between arrays of one shape; None when it has more than four axes."""
    axes = [(n, t // 4, s // 4) for n, t, s in zip(target.shape, target.strides, source.strides, strict=True) if n != 1]
    if len(axes) > AXES:
        return None
    axes = [(1, 1, 1)] * (AXES - len(axes)) + axes
    return [axis[k] for k in range(3) for axis in axes]
