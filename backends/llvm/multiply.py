"""Calls of the microkernels from a phase: which row variant takes which rows."""

from __future__ import annotations

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.microkernel import name, pair_name, row_variants
from rnngraph.backends.llvm.vector import I64, PTR, VOID, Builder, Emit, IRValue

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
              k: IRValue, beta: IRValue, rows: IRValue) -> None:
    """All ``rows`` of one tile: the largest variant in a loop, then each smaller one at most once."""
    variants = row_variants(vectors, e.target)
    width = vectors * e.W

    def call(r: int, row: IRValue) -> None:
        fn = e.declare(name(r, vectors), VOID, _TILE)
        b.call(fn, [e.at(b, acc, b.mul(row, e.num(width))), e.num(width), e.at(b, left, b.mul(row, stride)), stride,
                    weights, k, beta])

    most = variants[-1]
    whole = b.mul(b.udiv(rows, e.num(most)), e.num(most))
    with e.for_range(b, 0, whole, most, name=f"by{most}") as loop:
        call(most, loop.index)
    done = whole
    for r in reversed(variants[:-1]):
        # at most a few turns: the larger variants have taken the rest
        with e.for_range(b, done, b.sub(rows, e.num(r - 1)), r, name=f"by{r}") as loop:
            call(r, loop.index)
        left_over = b.sub(rows, done)
        done = b.add(done, b.mul(b.udiv(left_over, e.num(r)), e.num(r)))
