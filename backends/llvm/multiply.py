"""Calls of the microkernels from a phase: which row variant takes which rows."""

from __future__ import annotations

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.layout import ROW_BLOCK
from rnngraph.backends.llvm.microkernel import FEW_ROWS, name, pair_name, row_variants
from rnngraph.backends.llvm.vector import I32, I64, PTR, VOID, Builder, Emit, IRValue

LINE = 16  # floats of a cache line
CHAINS = 8  # sums at once that hide the latency of a multiply-add: 4 cycles, 2 a cycle
_TILE = [PTR, I64, PTR, I64, PTR, I64, I64]
_PAIR = [PTR, PTR, PTR, PTR, PTR, I64, I64]


def most_rows(target: CpuTarget, vectors: int) -> int:
    """How many rows the largest microkernel for ``vectors`` takes."""
    return row_variants(vectors, target)[-1]


def call_pair(e: Emit, b: Builder, vectors: int, acc0: IRValue, acc1: IRValue, left: IRValue, w0: IRValue,
              w1: IRValue, k: IRValue, beta: IRValue, kept: str) -> None:
    """One row, two adjacent lane tiles; the weights are ``kept`` in f32 or bf16."""
    fn = e.declare(pair_name(vectors, kept), VOID, _PAIR)
    b.call(fn, [acc0, acc1, left, w0, w1, k, beta])


def call_rows(e: Emit, b: Builder, vectors: int, acc: IRValue, left: IRValue, stride: IRValue, weights: IRValue,
              k: IRValue, beta: IRValue, rows: IRValue, panel: int, kept: str) -> None:
    """All ``rows`` of one tile: the largest variant in a loop, then the rest, in two even parts where no variant takes
    it. One that has too few chains to hide the latency of a multiplication takes the last turn's rows in: 6+1 as 4+3.

    ``panel`` is the size of the weights that these rows stream, in floats. Every turn of the loop asks for a part of
    the panel that follows, so that it has come to the second-level cache when its turn comes.
    """
    width = vectors * e.W

    def call(r: int, row: IRValue) -> None:
        fn = e.declare(name(r, vectors, kept), VOID, _TILE)
        b.call(fn, [e.at(b, acc, b.mul(row, e.num(width))), e.num(width), e.at(b, left, b.mul(row, stride)), stride,
                    weights, k, beta])

    most = most_rows(e.target, vectors)
    rest = b.urem(rows, e.num(most))
    few = min(FEW_ROWS, most - 1)
    short = max(0, min(-(-CHAINS // vectors) - 1, 2 * few - most))  # the longest rest that takes more rows in
    shared = b.and_(b.icmp_unsigned("<", b.sub(rest, e.num(1)), e.num(short)), b.icmp_signed(">", rows, e.num(most)))
    last = b.select(shared, b.add(rest, e.num(most)), rest)
    whole = b.sub(rows, last)
    lines = -(-panel // LINE // (ROW_BLOCK // most))
    following = e.at(b, weights, panel)
    with e.for_range(b, 0, whole, most, name=f"by{most}") as loop:
        first = e.at(b, following, b.mul(b.udiv(loop.index, e.num(most)), e.num(lines * LINE)))
        for line in range(lines):
            prefetch(e, b, e.at(b, first, line * LINE))
        call(most, loop.index)
    if most == 1:
        return
    share = b.select(b.icmp_signed("<=", last, e.num(few)), last, b.lshr(b.add(last, e.num(1)), e.num(1)))
    with e.for_range(b, whole, rows, share, name="rest") as loop:
        count = e.least(b, b.sub(rows, loop.index), share)
        after = b.append_basic_block("multiplied")
        cases = b.switch(count, after)
        for r in range(1, few + 1):
            block = b.append_basic_block(f"by{r}")
            cases.add_case(e.num(r), block)
            b.position_at_end(block)
            call(r, loop.index)
            b.branch(after)
        b.position_at_end(after)


def prefetch(e: Emit, b: Builder, address: IRValue) -> None:
    """Ask for a line in the second-level cache; never faults."""
    fn = e.declare("llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])
    b.call(fn, [address, e.num(0, I32), e.num(2, I32), e.num(1, I32)])
