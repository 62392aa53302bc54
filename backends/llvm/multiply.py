"""Calls of the microkernels from a phase: which row variant takes which rows."""

from __future__ import annotations

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.layout import ROW_BLOCK
from rnngraph.backends.llvm.microkernel import name, pair_name, row_variants
from rnngraph.backends.llvm.vector import I32, I64, PTR, VOID, Builder, Emit, IRValue

LINE = 16  # floats of a cache line
_TILE = [PTR, I64, PTR, I64, PTR, I64, I64]
_PAIR = [PTR, PTR, PTR, PTR, PTR, I64, I64]


def most_rows(target: CpuTarget, vectors: int) -> int:
    """How many rows the largest microkernel for ``vectors`` takes."""
    return row_variants(vectors, target)[-1]


def call_pair(e: Emit, b: Builder, vectors: int, acc0: IRValue, acc1: IRValue, left: IRValue, w0: IRValue,
              w1: IRValue, k: IRValue, beta: IRValue) -> None:
    """One row, two adjacent lane tiles."""
    fn = e.declare(pair_name(vectors), VOID, _PAIR)
    b.call(fn, [acc0, acc1, left, w0, w1, k, beta])


def call_rows(e: Emit, b: Builder, vectors: int, acc: IRValue, left: IRValue, stride: IRValue, weights: IRValue,
              k: IRValue, beta: IRValue, rows: IRValue, panel: int) -> None:
    """All ``rows`` of one tile: the largest variant in a loop, then each smaller one at most once.

    ``panel`` is the size of the weights that these rows stream, in floats. Every turn of the loop asks for a part of
    the panel that follows, so that it has come to the second-level cache when its turn comes.
    """
    variants = row_variants(vectors, e.target)
    width = vectors * e.W

    def call(r: int, row: IRValue) -> None:
        fn = e.declare(name(r, vectors), VOID, _TILE)
        b.call(fn, [e.at(b, acc, b.mul(row, e.num(width))), e.num(width), e.at(b, left, b.mul(row, stride)), stride,
                    weights, k, beta])

    most = variants[-1]
    whole = b.mul(b.udiv(rows, e.num(most)), e.num(most))
    lines = -(-panel // LINE // (ROW_BLOCK // most))
    following = e.at(b, weights, panel)
    with e.for_range(b, 0, whole, most, name=f"by{most}") as loop:
        first = e.at(b, following, b.mul(b.udiv(loop.index, e.num(most)), e.num(lines * LINE)))
        for line in range(lines):
            prefetch(e, b, e.at(b, first, line * LINE))
        call(most, loop.index)
    done = whole
    for r in reversed(variants[:-1]):
        # at most a few turns: the larger variants have taken the rest
        with e.for_range(b, done, b.sub(rows, e.num(r - 1)), r, name=f"by{r}") as loop:
            call(r, loop.index)
        left_over = b.sub(rows, done)
        done = b.add(done, b.mul(b.udiv(left_over, e.num(r)), e.num(r)))


def prefetch(e: Emit, b: Builder, address: IRValue) -> None:
    """Ask for a line in the second-level cache; never faults."""
    fn = e.declare("llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])
    b.call(fn, [address, e.num(0, I32), e.num(2, I32), e.num(1, I32)])
