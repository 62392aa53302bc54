"""Reductions over lanes: partial results of vectors, which a later phase combines, and folds.

A fold reduces what stands in memory. Every thread that shares a step's lanes does all of it for itself, so that nobody
waits for another's part, and the lanes of an accumulator become one number only at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnngraph.backends.llvm.place import Place
from rnngraph.backends.llvm.vector import Builder, IRValue
from rnngraph.backends.llvm.vmath import LOWERINGS
from rnngraph.phases.instances import Instance

if TYPE_CHECKING:
    from rnngraph.backends.llvm.phase import PhaseEmitter

COMBINE = {"reduce_max": "max", "reduce_min": "min"}  # how two vectors become one; others add
IDENTITY = {"reduce_max": float("-inf"), "reduce_min": float("inf")}


def partial(p: PhaseEmitter, b: Builder, r: Instance, value: IRValue, place: Place) -> None:
    """Store one vector's share of a reduction."""
    address = p.e.at(b, p.partials[p.partition.reductions[r]], b.add(b.mul(place.vector, p.capacity), place.row))
    b.store(_number(p, b, r, _live(p, b, r, value, place)), address, align=4)


def fold(p: PhaseEmitter, b: Builder) -> None:
    """Reduce memory over all lanes, for this thread's rows."""
    e, n, reduces = p.e, p.phase.n, p.phase.reduces
    starts = [e.const(IDENTITY.get(r.op.name, 0.0)) for r in reduces]
    with e.for_range(b, p.at.row0, p.live, name="rows") as row:
        with e.for_range(b, 0, p.tiling.vectors, carried=starts, name="vectors") as loop:
            lane = b.mul(loop.index, e.num(e.W))
            place = Place(row.index, lane, loop.index, e.tail_mask(b, lane, n) if n % e.W else None, [], e.num(0))
            memo: dict[Instance, IRValue] = {}
            for i in p.order:  # operands first
                p.eval(b, i, place, memo, root=False)
            values = [_live(p, b, r, memo[r.args[0]], place) for r in reduces]
            loop.next = [LOWERINGS[COMBINE.get(r.op.name, "add")](e, b, total, value)
                         for r, total, value in zip(reduces, loop.carried, values, strict=True)]
        for r, total in zip(reduces, loop.carried, strict=True):
            b.store(_number(p, b, r, total), e.at(b, p.partials[p.partition.reductions[r]], row.index), align=4)


def _live(p: PhaseEmitter, b: Builder, r: Instance, value: IRValue, place: Place) -> IRValue:
    """``value`` where there are lanes, and behind them what changes nothing."""
    if place.mask is None:
        return value
    return b.select(place.mask, value, p.e.const(IDENTITY.get(r.op.name, 0.0)))


def _number(p: PhaseEmitter, b: Builder, r: Instance, value: IRValue) -> IRValue:
    """What the lanes of a vector make."""
    e = p.e
    return {"reduce_max": e.reduce_max, "reduce_min": e.reduce_min}.get(r.op.name, e.reduce_sum)(b, value)
