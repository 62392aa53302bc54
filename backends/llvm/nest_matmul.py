"""Products of two computed matrices as a nest: rows of the result by the columns of a matrix that they share.

Several rows, and several vectors of columns, are accumulated side by side: that hides the latency of a multiplication
and reads the right matrix less often. Each sum is a chain of its own, in the same order whatever it is with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from rnngraph.backends.llvm.nest_place import Place
from rnngraph.backends.llvm.vector import Builder, IRValue

TILES = ((4, (2, 1)), (1, (4, 1)))  # rows, and vectors of columns or columns beside: 8 sums in registers at most


def matmul(p: Place, b: Builder) -> None:
    """All rows of the last outer axis."""
    assert p.span is not None
    e, (rows, strides) = p.e, p.span
    shared = b.icmp_signed("==", strides[2], e.num(0))
    begin: IRValue = e.num(0)
    for count, beside in TILES:
        end = rows if count == 1 else b.select(shared, b.sub(rows, e.num(count - 1)), e.num(0))
        with e.for_range(b, begin, end, count, name="rows") as row:
            out, left = ([p.along(b, k, b.add(row.index, e.num(i)), strides[k]) for i in range(count)] for k in (0, 1))
            _Rows(p, out, left, p.along(b, 2, row.index, strides[2])).emit(b, beside)
        begin = row.index


@dataclass(slots=True)
class _Rows:
    """Some rows of the result and of the left matrix, by all columns of the right one."""

    p: Place
    out: list[IRValue]
    left: list[IRValue]
    right: IRValue

    def emit(self, b: Builder, beside: Sequence[int]) -> None:
        """Vectors of columns where those lie side by side, else columns one by one; as many at once as ``beside``
        says, from the most to the least."""
        e = self.p.e
        (columns, out_stride), _, _, (_, right) = self.p.inner
        vectors = b.and_(b.icmp_signed("==", right, e.num(1)), b.icmp_signed("==", out_stride, e.num(1)))
        begin: IRValue = e.num(0)
        for count in beside:
            end = b.select(vectors, b.and_(columns, e.num(-count * e.W)), e.num(0))
            with e.for_range(b, begin, end, count * e.W, name="columns") as j:
                self.vectors(b, [b.add(j.index, e.num(n * e.W)) for n in range(count)])
            begin = end
        for count in beside:
            with e.for_range(b, begin, b.sub(columns, e.num(count - 1)), count, name="column") as j:
                self.columns(b, [b.add(j.index, e.num(n)) for n in range(count)])
            begin = j.index

    def vectors(self, b: Builder, places: Sequence[IRValue]) -> None:
        """The rows by the W columns from each of the places on."""
        p, e = self.p, self.p.e
        _, (k, left_stride), (_, down), _ = p.inner
        cells = list(product(range(len(self.left)), range(len(places))))
        with e.for_range(b, 0, k, carried=[e.const(0.0)] * len(cells), name="k") as i:
            x = [e.splat(b, p.load(b, 1, p.along(b, 1, i.index, left_stride, row))) for row in self.left]
            row = p.along(b, 2, i.index, down, self.right)
            w = [e.load(b, e.at(b, row, at)) for at in places]
            i.next = [e.fma(b, x[r], w[n], total) for (r, n), total in zip(cells, i.carried, strict=True)]
        for (r, n), total in zip(cells, i.carried, strict=True):
            e.store(b, total, e.at(b, self.out[r], places[n]))

    def columns(self, b: Builder, places: Sequence[IRValue]) -> None:
        """The rows by single columns; by vectors of k where both lie side by side."""
        p, e, one = self.p, self.p.e, self.p.e.num(1)
        (_, out_stride), (k, left_stride), (_, down), (_, right) = p.inner
        cells = list(product(range(len(self.left)), range(len(places))))
        columns = [p.along(b, 2, at, right, self.right) for at in places]
        beside = b.and_(b.icmp_signed("==", left_stride, one), b.icmp_signed("==", down, one))
        whole = b.select(beside, b.and_(k, e.num(-e.W)), e.num(0))
        with e.for_range(b, 0, whole, e.W, carried=[e.const(0.0)] * len(cells), name="by") as v:
            x = [e.load(b, e.at(b, row, v.index)) for row in self.left]
            w = [e.load(b, e.at(b, column, v.index)) for column in columns]
            v.next = [e.fma(b, x[r], w[n], total) for (r, n), total in zip(cells, v.carried, strict=True)]
        totals = [e.reduce_sum(b, total) for total in v.carried]
        fma = "fma" if e.target.has_fma else "fmuladd"
        with e.for_range(b, whole, k, carried=totals, name="k") as i:
            x = [p.load(b, 1, p.along(b, 1, i.index, left_stride, row)) for row in self.left]
            w = [p.load(b, 2, p.along(b, 2, i.index, down, column)) for column in columns]
            i.next = [e.intrinsic(b, fma, (x[r], w[n], total)) for (r, n), total in zip(cells, i.carried, strict=True)]
        for (r, n), total in zip(cells, i.carried, strict=True):
            p.store(b, 0, total, p.along(b, 0, places[n], out_stride, self.out[r]))


__all__ = ["matmul"]
