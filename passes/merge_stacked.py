"""merge-stacked: rnn nodes of which one reads only the other's output become one node of more layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from rnngraph.ir import RNN, Block, Builder, Graph, Op, Rnn, Value, make_op
from rnngraph.ir.ops import RandomMaskAttrs
from rnngraph.passes.recognize.pairs import (
    DEVICE,
    HIDDEN,
    LENGTHS,
    MODE,
    PROJECTION,
    RESET_AFTER,
    PairConstraint,
    blocks,
    depends_on,
    first_failure,
    is_recurrent,
    is_sequence,
    label,
    name,
    sequences_of,
    sort_block,
    untransposed,
)
from rnngraph.rewrite import Miss, Pass, PassContext

SEARCH = 12  # how many ops back from a node's x a recurrent layer is looked for, to say what stands between


@dataclass(frozen=True, slots=True)
class Link:
    """How a node's x comes from ``source``: through ``ops`` (transposes, dropout).

    mask       the dropout mask on the way, or None
    mask_perm  how the mask's axes stand to x's; drawn in x's layout it is the identity
    """

    source: Value
    ops: tuple[Op, ...]
    mask: RandomMaskAttrs | None = None
    mask_perm: tuple[int, ...] = (0, 1, 2)

    @property
    def rate(self) -> float:
        return self.mask.rate if self.mask is not None else 0.0


def link(x: Value) -> Link | None:
    """Follow ``x`` back through transposes that cancel and one dropout mask to a recurrent layer's output."""
    found = Link(x, ())
    perm = identity = tuple(range(x.type.rank))
    while True:
        source, inner = untransposed(x)
        perm = tuple(inner[p] for p in perm)
        passed = []
        while x is not source:
            assert x.op is not None
            passed.append(x.op)
            x = x.op.operands[0]
        found = replace(found, source=x, ops=(*found.ops, *passed))
        if is_sequence(x):
            return found if perm == identity else None
        dropout = _dropout(x)
        if dropout is None or found.mask is not None or x.op is None:
            return None
        found = replace(found, ops=(*found.ops, x.op), mask=dropout[1],
                        mask_perm=tuple(dropout[2][p] for p in perm))
        x = dropout[0]


def _dropout(x: Value) -> tuple[Value, RandomMaskAttrs, tuple[int, ...]] | None:
    """``(y, mask, perm)`` where x = y * transpose(mask, perm)."""
    if x.op is None or x.op.name != "mul":
        return None
    for y, m in (x.op.operands, x.op.operands[::-1]):
        drawn, perm = untransposed(m)
        if drawn.op is not None and isinstance(drawn.op.attrs, RandomMaskAttrs):
            return y, drawn.op.attrs, perm
    return None


def _link(b: Rnn) -> Link:
    found = link(b.x)
    assert found is not None, "constraints are checked on linked nodes only"
    return found


def _direction(a: Rnn, b: Rnn) -> str | None:
    if a.attrs.direction == b.attrs.direction:
        return None
    return f"{name(b)} runs {b.attrs.direction}, {name(a)} runs {a.attrs.direction}"


def _sole_consumer(a: Rnn, b: Rnn) -> str | None:
    chain = _link(b)
    path = {b.op, *chain.ops}
    for value in (a.y, *(op.result for op in chain.ops)):
        for user in value.users():
            if user not in path:
                reader = _reader(user)
                who = f"layer {reader.layer}" if reader.layer else f"the graph's {reader.name}"
                return f"{name(b)} reads a sequence of {name(a)} that {who} also consumes"
    return None


def _reader(user: Op) -> Op:
    """Who reads what ``user`` passes on: a transpose at a layer's end is no consumer of its own."""
    while user.name == "transpose" and user.result.uses:
        user = user.result.users()[0]
    return user


def _independent(a: Rnn, b: Rnn) -> str | None:
    if not depends_on(b.op.operands[1:], a.op):
        return None
    return f"{name(b)} starts from a state that {name(a)} computes; in one node all states start together"


def _dropout_rate(a: Rnn, b: Rnn) -> str | None:
    between = _link(b).rate
    for node in (a, b):
        if node.attrs.num_layers > 1 and node.attrs.dropout != between:
            return (f"dropout between {name(a)} and {name(b)} is {between}, inside {name(node)} it is "
                    f"{node.attrs.dropout}")
    return None


def _mask_layout(a: Rnn, b: Rnn) -> str | None:
    found = _link(b)
    if found.mask is None or found.mask_perm == (0, 1, 2):
        return None
    return (f"dropout between {name(a)} and {name(b)} draws its mask in another layout than "
            "[time, batch, features], in which a fused node draws it")


CONSTRAINTS = (
    DEVICE, MODE, HIDDEN, PROJECTION,
    PairConstraint("direction", "both layers run in the same direction(s)", _direction),
    RESET_AFTER, LENGTHS,
    PairConstraint("sole-consumer", "nothing else reads the sequence between the layers", _sole_consumer),
    PairConstraint("independent", "the upper layer starts from nothing that the lower one computes", _independent),
    PairConstraint("dropout", "dropout between all layers has one rate", _dropout_rate),
    PairConstraint("mask-layout", "a dropout mask between the layers is drawn time first", _mask_layout),
)


@dataclass(frozen=True)
class MergeStacked(Pass):
    """Merges chains of nodes, lowest layers first; one remark for each pair."""

    name: ClassVar[str] = "merge-stacked"

    def run(self, graph: Graph, context: PassContext) -> None:
        for block in blocks(graph):
            for op in list(block.ops):
                if not is_recurrent(op):
                    continue
                outcome = _plan(op)
                if isinstance(outcome, Miss):
                    context.missed(outcome)
                elif outcome is not None:
                    layers = f"layers {label(outcome.op)} and {label(op)}"
                    node = _merge(block, outcome, Rnn(op))
                    context.applied(node.layer, f"{layers} are one rnn node of "
                                                f"{Rnn(node).attrs.num_layers} layers")


def _plan(op: Op) -> Rnn | Miss | None:
    """The node below ``op`` that it may merge with; a Miss when there is a recurrent layer below that it may not."""
    for x in sequences_of(op):
        found = link(x)
        if found is not None and found.source.op is not None:
            lower = found.source.op
            if lower.name == op.name == "scan":
                continue  # raise-rnn has said why
            for scan in (lower, op):
                if scan.name == "scan":
                    return Miss(f"layer {label(scan)} is not a fused rnn node: see raise-rnn", op.layer)
            return first_failure(CONSTRAINTS, Rnn(lower), Rnn(op)) or Rnn(lower)
        if op.name == "rnn":
            return _between(x, op)
    return None


def _between(x: Value, op: Op) -> Miss | None:
    """What stands between ``op`` and the next recurrent layer below, if there is one."""
    me = f"layer {label(op)}"
    at = x.op
    for _ in range(SEARCH):
        if at is None:
            return None
        below = [v.op for v in at.operands if is_sequence(v) and v.op is not None]
        names = " and ".join(f"layer {label(o)}" for o in below)
        if at.name == "concat" and len(below) == 2:
            return Miss(f"{names}, which {me} reads, are not one node: see merge-bidirectional", op.layer)
        if below:
            owner = f" of layer {at.layer}" if at.layer else ""
            return Miss(f"{at.name}{owner} stands between {names} and {me}", op.layer)
        at = next((v.op for v in at.operands if v.type.rank == 3 and v.op is not None), None)
    return None


def _merge(block: Block, a: Rnn, b: Rnn) -> Op:
    chain = _link(b)
    build = Builder(block, b.op, "+".join(filter(None, (a.op.layer, b.op.layer))))
    states = [build.concat([a.h0, b.h0], 0)]
    if a.c0 is not None and b.c0 is not None:
        states.append(build.concat([a.c0, b.c0], 0))
    layers = a.attrs.num_layers + b.attrs.num_layers
    seeds = (*a.attrs.seeds, chain.mask.seed, *b.attrs.seeds) if chain.mask is not None and chain.rate else ()
    attrs = replace(b.attrs, num_layers=layers, dropout=chain.rate, seeds=seeds)
    lengths = [b.lengths] if b.lengths is not None else []
    operands = (a.x, *states, *lengths, *a.all_weights, *b.all_weights)
    node = build.insert(make_op(RNN, operands, attrs, layer=build.layer))
    b.y.replace_by(node.results[0])
    split = a.attrs.num_layers * len(a.attrs.reverses)
    for new, lower, upper in zip(node.results[1:], a.op.results[1:], b.op.results[1:], strict=True):
        if lower.uses:
            lower.replace_by(build.slice(new, 0, 0, split))
        if upper.uses:
            upper.replace_by(build.slice(new, 0, split, layers * len(b.attrs.reverses) - split))
    for op in (b.op, *chain.ops, a.op):
        op.erase()
    sort_block(block)
    return node
