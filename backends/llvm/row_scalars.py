"""The row prologue: numbers of which a row has one (a mean, a scalar gate), computed before its lanes.

Vectorised over rows. A reduction's partials, one per vector of its domain, are combined in the order of the vectors:
the same bits for every number of threads. What a fold has left is the thread's own and already whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnngraph.backends.llvm.vector import F32, Builder, IRValue
from rnngraph.backends.llvm.vmath import LOWERINGS, lowered, number, stored, typed
from rnngraph.phases.instances import Instance, Kind, Source, postorder

if TYPE_CHECKING:
    from rnngraph.backends.llvm.phase import PhaseEmitter


class RowScalars:
    """Emits the prologue of one phase: every row scalar it reads goes to the thread's own ``scalars`` buffer."""

    def __init__(self, phase: PhaseEmitter) -> None:
        self.phase = phase
        self.e = phase.e

    def emit(self, b: Builder) -> None:
        e, p = self.e, self.phase
        with e.for_range(b, p.at.row0, p.live, e.W, name="scalars") as rows:
            memo: dict[Instance, IRValue] = {}
            own = e.tail_mask(b, rows.index, p.live)  # the rows behind have ended, or belong to another thread
            for i in postorder(p.phase.row_scalars, lambda i: () if i.kind is Kind.REDUCE else i.args):
                self.eval(b, i, rows.index, memo)
            for k, i in enumerate(p.phase.row_scalars):
                value = self.eval(b, i, rows.index, memo)
                at = e.at(b, p.scalars, b.add(b.mul(p.capacity, e.num(k)), rows.index))
                e.store(b, stored(e, b, value), at, mask=own)

    def eval(self, b: Builder, i: Instance, row: IRValue, memo: dict[Instance, IRValue]) -> IRValue:
        if i not in memo:
            memo[i] = self.compute(b, i, row, memo)
        return memo[i]

    def compute(self, b: Builder, i: Instance, row: IRValue, memo: dict[Instance, IRValue]) -> IRValue:
        if i.kind is Kind.SPLAT:
            return number(self.e, b, i)
        if i.kind is Kind.LOAD:
            return typed(self.e, b, i, self.gather(b, i, row))
        if i.kind is Kind.REDUCE:
            return self.combine(b, i, row)
        return lowered(self.e, b, i, [self.eval(b, a, row, memo) for a in i.args])

    def gather(self, b: Builder, i: Instance, row: IRValue) -> IRValue:
        """W rows' numbers from memory with a row stride; rows beyond the last are read as the last one."""
        e, p = self.e, self.phase
        assert i.leaf is not None
        base, stride = p.base(b, i.leaf)
        if i.leaf.source is Source.SCALAR:
            return e.splat(b, e.load(b, base, F32))
        base = e.at(b, base, i.off)  # the number is one lane of a row
        out = e.const(0.0)
        last = b.sub(p.live, e.num(1))
        for lane in range(e.W):
            at = b.add(row, e.num(lane))
            at = b.select(b.icmp_signed("<", at, last), at, last)
            number = e.load(b, e.at(b, base, b.mul(at, stride)), F32)
            out = b.insert_element(out, number, e.num(lane))
        return out

    def combine(self, b: Builder, i: Instance, row: IRValue) -> IRValue:
        e, p = self.e, self.phase
        partial = p.partials[p.partition.reductions[i]]
        n = i.args[0].n
        vectors = 1 if i in p.folded else -(-n // e.W)
        first = e.load(b, e.at(b, partial, row))
        if vectors > 1:
            with e.for_range(b, 1, vectors, carried=[first], name="combine") as loop:
                value = e.load(b, e.at(b, partial, b.add(b.mul(loop.index, p.capacity), row)))
                loop.next = [self.fold(b, i.op.name, loop.carried[0], value)]
            first = loop.carried[0]
        if i.op.name == "reduce_mean":
            first = b.fmul(first, e.const(1.0 / n))
        return first

    def fold(self, b: Builder, kind: str, x: IRValue, y: IRValue) -> IRValue:
        name = {"reduce_max": "max", "reduce_min": "min"}.get(kind, "add")
        return LOWERINGS[name](self.e, b, x, y)
