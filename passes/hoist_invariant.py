"""hoist-invariant: what is the same in every step is computed once, in front of the scan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import Block, Graph, Op, Value
from rnngraph.ir.clone import clone_op
from rnngraph.ir.ops import BROADCAST
from rnngraph.rewrite import Pass, PassContext


@dataclass(frozen=True)
class HoistInvariant(Pass):
    """Ops of a scan body whose operands all come from outside move in front of the scan; inner scans go first.

    A broadcast stays: repeating a small value costs nothing inside a step, while outside it would be an array. Where
    an op that moves needs one, the broadcast goes along (or a copy of it, when an op that stays needs it too).
    """

    name: ClassVar[str] = "hoist-invariant"

    def run(self, graph: Graph, context: PassContext) -> None:
        _run(graph.block, context)


def _run(block: Block, context: PassContext) -> None:
    for op in block.body:
        for body in op.blocks:
            _run(body, context)
        if op.name == "scan" and (moved := _hoist(op)):
            total = sum(moved.values())
            kinds = ", ".join(name if n == 1 else f"{n} {name}" for name, n in moved.items())
            context.applied(op.layer, f"{total} op{'s' if total > 1 else ''} moved in front of the scan ({kinds})")


def _hoist(scan: Op) -> Counter[str]:
    """Move what can move; returns how many of each kind, without the broadcasts that went along."""
    body = scan.blocks[0]
    moved: Counter[str] = Counter()
    waiting: dict[Value, None] = {}  # results of broadcasts of outer values
    pulled: list[Op] = []
    for op in body.body:
        reads = _reads(op)
        if not op.opdef.pure or not all(v.block is not body or v in waiting for v in reads):
            continue
        if op.opdef is BROADCAST:
            waiting[op.result] = None
            continue
        for v in dict.fromkeys(reads):
            _pull(v, scan, waiting, pulled)
        op.move_before(scan)
        moved[op.name] += 1
    for op in reversed(pulled):
        _rejoin(op, body)
    return moved


def _reads(op: Op) -> list[Value]:
    """The values from outside that an op with its bodies reads."""
    return [*op.operands, *(v for b in op.blocks for v in b.captures())]


def _pull(value: Value, scan: Op, waiting: dict[Value, None], pulled: list[Op]) -> None:
    """Move a waiting broadcast, and those that it repeats, in front of the scan."""
    if value not in waiting or value.op is None:
        return
    del waiting[value]
    for source in value.op.operands:
        _pull(source, scan, waiting, pulled)
    value.op.move_before(scan)
    pulled.append(value.op)


def _rejoin(broadcast: Op, body: Block) -> None:
    """A broadcast that moved although ops in the body still read it: the body gets a copy of its own."""
    value = broadcast.result
    inside = [(user, i) for user, i in value.uses if user.is_inside(body)]
    if not inside:
        return
    copy = clone_op(broadcast, {})
    body.insert(0, copy)
    for user, i in inside:
        user.set_operand(i, copy.result)
    if not value.uses:
        broadcast.erase()
