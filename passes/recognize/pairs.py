"""What the two merges share: constraints on pairs of nodes, where a sequence comes from, order of a block."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rnngraph.errors import PassError
from rnngraph.ir import Block, Graph, Op, Rnn, Scan, ScanAttrs, Value, ops
from rnngraph.ir.placement import placements
from rnngraph.rewrite import Miss


@dataclass(frozen=True, slots=True)
class PairConstraint:
    """What must hold for two rnn nodes to become one; ``check`` gives the reason when it does not."""

    name: str
    sentence: str
    check: Callable[[Rnn, Rnn], str | None]


def first_failure(table: Sequence[PairConstraint], a: Rnn, b: Rnn) -> Miss | None:
    """The first constraint that fails, as a Miss about the layer of ``b``."""
    for constraint in table:
        reason = constraint.check(a, b)
        if reason is not None:
            return Miss(reason, b.op.layer)
    return None


def blocks(graph: Graph) -> list[Block]:
    """The graph's block and every body."""
    return [graph.block, *(block for op in graph.walk() for block in op.blocks)]


def is_recurrent(op: Op | None) -> bool:
    return op is not None and op.name in ("rnn", "scan")


def runs_backwards(op: Op) -> bool:
    """Whether a scan, or a node of one direction, goes from the last step to the first."""
    return op.attrs.reverse if isinstance(op.attrs, ScanAttrs) else Rnn(op).attrs.direction == "reverse"


def is_sequence(value: Value) -> bool:
    """Whether ``value`` is what a recurrent op gives for each step (and not its final state)."""
    op = value.op
    if op is None or not is_recurrent(op):
        return False
    return value.index == 0 if op.name == "rnn" else value in Scan(op).ys


def sequences_of(op: Op) -> tuple[Value, ...]:
    return (Rnn(op).x,) if op.name == "rnn" else Scan(op).xs


def untransposed(value: Value) -> tuple[Value, tuple[int, ...]]:
    """``(source, perm)`` with value = transpose(source, perm), through any number of transposes."""
    perm = tuple(range(value.type.rank))
    while value.op is not None and isinstance(value.op.attrs, ops.TransposeAttrs):
        inner = value.op.attrs.perm
        perm = tuple(inner[p] for p in perm)
        value = value.op.operands[0]
    return value, perm


def depends_on(values: Iterable[Value], target: Op) -> bool:
    """Whether some of ``values`` is computed, directly or not, from results of ``target``."""
    seen: set[Op] = set()
    stack = [v.op for v in values]
    while stack:
        op = stack.pop()
        if op is target:
            return True
        if op is not None and op not in seen:
            seen.add(op)
            stack.extend(v.op for v in _inputs(op))
    return False


def _inputs(op: Op) -> Iterator[Value]:
    yield from op.operands
    for block in op.blocks:
        yield from block.captures()


def sort_block(block: Block) -> None:
    """Put every op behind what it uses; ops keep their order where they may."""
    position = {op: i for i, op in enumerate(block.ops)}
    waiting: dict[Op, int] = {}
    users: dict[Op, list[Op]] = {op: [] for op in block.ops}
    for op in block.ops:
        before = dict.fromkeys(v.op for v in _inputs(op) if v.op in position)
        waiting[op] = len(before)
        for source in before:
            assert source is not None
            users[source].append(op)
    last = block.terminator
    ready = [position[op] for op, n in waiting.items() if not n and op is not last]
    heapq.heapify(ready)
    order: list[Op] = []
    while ready:
        op = block.ops[heapq.heappop(ready)]
        order.append(op)
        for user in users[op]:
            waiting[user] -= 1
            if not waiting[user] and user is not last:
                heapq.heappush(ready, position[user])
    if len(order) + 1 != len(block.ops):
        raise PassError("merging rnn nodes made a cycle; this is a bug of the pass")
    block.ops[:] = [*order, last]


# --- constraints that both merges have ---------------------------------------------------------------------------


def label(op: Op) -> str:
    return op.layer or "(unnamed)"


def name(node: Rnn) -> str:
    return f"layer {label(node.op)}"


def _mode(a: Rnn, b: Rnn) -> str | None:
    if a.attrs.mode == b.attrs.mode:
        return None
    return f"{name(b)} is of kind {b.attrs.mode}, {name(a)} is of kind {a.attrs.mode}"


def _hidden(a: Rnn, b: Rnn) -> str | None:
    if a.attrs.hidden == b.attrs.hidden:
        return None
    return f"{name(b)} has hidden size {b.attrs.hidden}, {name(a)} has {a.attrs.hidden}"


def _projection(a: Rnn, b: Rnn) -> str | None:
    if a.attrs.proj == b.attrs.proj:
        return None
    with_, without = (a, b) if a.attrs.proj else (b, a)
    if not without.attrs.proj:
        return f"{name(with_)} projects h to {with_.attrs.proj} features, {name(without)} does not project"
    return f"{name(b)} projects h to {b.attrs.proj} features, {name(a)} to {a.attrs.proj}"


def _reset_after(a: Rnn, b: Rnn) -> str | None:
    if a.attrs.mode != "gru" or a.attrs.reset_after == b.attrs.reset_after:
        return None
    word = {True: "after", False: "before"}
    return (f"{name(b)} applies its reset gate {word[b.attrs.reset_after]} the matmul, "
            f"{name(a)} {word[a.attrs.reset_after]} it")


def _lengths(a: Rnn, b: Rnn) -> str | None:
    if a.lengths is b.lengths:
        return None
    if a.lengths is None or b.lengths is None:
        with_, without = (a, b) if b.lengths is None else (b, a)
        return f"{name(with_)} has lengths, {name(without)} has none"
    return f"{name(b)} and {name(a)} have different lengths"


def _device(a: Rnn, b: Rnn) -> str | None:
    devices = [", ".join(placements(node.op)) or "none" for node in (a, b)]
    return None if devices[0] == devices[1] else f"{name(b)} is placed on {devices[1]}, {name(a)} on {devices[0]}"


DEVICE = PairConstraint("device", "both layers are placed on one device, or neither is placed", _device)
MODE = PairConstraint("mode", "both layers are of one kind (LSTM, GRU, RNN tanh, RNN relu)", _mode)
HIDDEN = PairConstraint("hidden", "both layers have the same hidden size", _hidden)
PROJECTION = PairConstraint("projection", "both LSTMs project h to the same size, or neither does", _projection)
RESET_AFTER = PairConstraint(
    "reset-after", "both GRUs apply the reset gate on the same side of the matmul", _reset_after)
LENGTHS = PairConstraint("lengths", "both layers have the same lengths, or none", _lengths)
