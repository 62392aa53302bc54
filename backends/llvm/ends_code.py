"""``rg_ends``: the row lengths that a loop needs (`Ends`), from lengths that the segment itself computes.

    rg_ends(table): table = [source, its stride, rows per length, how many lengths, steps, lengths, live, the word that
                    says what is out of range, the number to write there]

A length out of range is noted and counts as 0, so that the loop stays within its memory.
"""

from __future__ import annotations

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.nest_place import element_type
from rnngraph.backends.llvm.vector import I64, PTR, VOID, Emit
from rnngraph.ir import DType

ENTRY = "rg_ends"
WORDS = 9


def emit_ends(target: CpuTarget, dtype: DType) -> str:
    """The LLVM IR of rg_ends for lengths of a dtype."""
    e, element = Emit(target), element_type(dtype)
    fn, b = e.function(ENTRY, VOID, [PTR] + [I64] * 7)
    words = [e.load(b, e.at(b, fn.args[0], k, I64), I64, align=8) for k in range(WORDS)]
    source, lengths, live, bad = (b.inttoptr(words[k], PTR) for k in (0, 5, 6, 7))
    stride, each, count, steps, number = (words[k] for k in (1, 2, 3, 4, 8))
    with e.for_range(b, 0, steps, name="clear") as t:
        e.store(b, e.num(0), e.at(b, live, t.index, I64), align=8)
    with e.for_range(b, 0, count, name="given") as given:
        n = e.load(b, e.at(b, source, b.mul(given.index, stride), element), element, align=dtype.itemsize)
        if element != I64:
            n = (b.sext if dtype.numpy.kind == "i" else b.zext)(n, I64)
        fits = b.icmp_unsigned("<=", n, steps)
        with e.if_then(b, b.not_(fits), "bad"):
            e.store(b, number, bad, align=8)
            e.store(b, n, e.at(b, bad, 1, I64), align=8)
        n = b.select(fits, n, e.num(0))
        first = b.mul(given.index, each)
        with e.for_range(b, 0, each, name="row") as row:
            e.store(b, n, e.at(b, lengths, b.add(first, row.index), I64), align=8)
        with e.for_range(b, 0, n, name="step") as t:
            e.store(b, b.add(first, each), e.at(b, live, t.index, I64), align=8)
    b.ret_void()
    return e.text()


__all__ = ["ENTRY", "emit_ends"]
