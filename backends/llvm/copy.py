"""``rg_copy``: a strided copy of up to three axes, for initial and final states and for what must be laid out anew.

    rg_copy(table): table = [target, source, n0, n1, n2, target strides 0 1, source strides 0 1 2]   (strides in floats)
"""

from __future__ import annotations

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.vector import F32, I64, PTR, VOID, Emit
from rnngraph.ir import Array

ENTRY = "rg_copy"
WORDS = 10


def emit_copy(target: CpuTarget) -> str:
    """The LLVM IR of rg_copy."""
    e = Emit(target)
    fn, b = e.function(ENTRY, VOID, [PTR] + [I64] * 7)
    words = [e.load(b, e.at(b, fn.args[0], k, I64), I64, align=8) for k in range(WORDS)]
    to, source = (b.inttoptr(w, PTR) for w in words[:2])
    n0, n1, n2, t0, t1, s0, s1, s2 = words[2:]
    whole = b.select(b.icmp_signed("==", s2, e.num(1)), b.and_(n2, e.num(-e.W)), e.num(0))
    with e.for_range(b, 0, n0, name="outer") as i, e.for_range(b, 0, n1, name="rows") as j:
        into = e.at(b, to, b.add(b.mul(i.index, t0), b.mul(j.index, t1)))
        out_of = e.at(b, source, b.add(b.mul(i.index, s0), b.mul(j.index, s1)))
        with e.for_range(b, 0, whole, e.W, name="vectors") as k:
            e.store(b, e.load(b, e.at(b, out_of, k.index)), e.at(b, into, k.index))
        with e.for_range(b, whole, n2, name="rest") as k:
            value = e.load(b, e.at(b, out_of, b.mul(k.index, s2)), F32)
            e.store(b, value, e.at(b, into, k.index))
    b.ret_void()
    return e.text()


def copy_shape(target: Array, source: Array) -> list[int] | None:
    """n0, n1, n2 and strides for a copy between arrays of one shape; None when it is no copy of at most three axes."""
    axes = [(n, t // 4, s // 4) for n, t, s in zip(target.shape, target.strides, source.strides, strict=True)]
    if not axes:
        axes = [(1, 1, 0)]
    *lead, last = axes
    lead = [a for a in lead if a[0] != 1]
    if last[0] == 1:
        last = (1, 1, last[2])
    if last[1] != 1 or len(lead) > 2:
        return None
    while len(lead) < 2:
        lead.insert(0, (1, 0, 0))
    (n0, t0, s0), (n1, t1, s1) = lead
    return [n0, n1, last[0], t0, t1, s0, s1, last[2]]
