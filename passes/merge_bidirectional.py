"""merge-bidirectional: a forward and a backward rnn node over one sequence become one bidirectional node.

Candidates are pairs whose sequences a concat joins, and pairs over the same x of which only final states are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from rnngraph.ir import RNN, Block, Builder, Graph, Op, Rnn, Value, make_op, ops
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
    is_sequence,
    label,
    name,
    runs_backwards,
    sort_block,
    untransposed,
)
from rnngraph.rewrite import Miss, Pass, PassContext


def _same_x(a: Rnn, b: Rnn) -> str | None:
    return None if a.x is b.x else f"{name(b)} and {name(a)} read different sequences"


def _one_layer(a: Rnn, b: Rnn) -> str | None:
    for node in (a, b):
        if node.attrs.num_layers > 1:
            return f"{name(node)} is a stack of {node.attrs.num_layers} layers; directions merge layer by layer"
    return None


def _pad(a: Rnn, b: Rnn) -> str | None:
    if a.lengths is None or a.attrs.pad == b.attrs.pad:
        return None
    return f"{name(b)} pads its output with {b.attrs.pad}, {name(a)} with {a.attrs.pad}"


def _independent(a: Rnn, b: Rnn) -> str | None:
    for first, second in ((a, b), (b, a)):
        if depends_on(second.op.operands, first.op):
            return f"{name(second)} starts from what {name(first)} computes"
    return None


def _joined(a: Rnn, b: Rnn) -> str | None:
    if not a.y.uses and not b.y.uses:
        return None
    pairs = [pair for op in a.op.parent.ops if (pair := _operands(op)) is not None] if a.op.parent else []
    if (a.y, b.y) in pairs:
        return None
    if (b.y, a.y) in pairs:
        return (f"the outputs of {name(a)} and {name(b)} are concatenated backward first; "
                "a fused node gives forward first")
    return f"the outputs of {name(a)} and {name(b)} are not joined by a concat of forward and backward features"


CONSTRAINTS = (
    PairConstraint("same-x", "both directions read the same sequence", _same_x),
    PairConstraint("one-layer", "each direction is one layer", _one_layer),
    DEVICE, MODE, HIDDEN, PROJECTION, RESET_AFTER, LENGTHS,
    PairConstraint("pad", "both directions pad their outputs in the same way", _pad),
    PairConstraint("independent", "neither direction starts from a result of the other", _independent),
    PairConstraint("joined", "the outputs are concatenated, forward first, or only final states are read", _joined),
)


@dataclass(frozen=True)
class MergeBidirectional(Pass):
    """Merges pairs of one-directional nodes; one remark for each pair."""

    name: ClassVar[str] = "merge-bidirectional"

    def run(self, graph: Graph, context: PassContext) -> None:
        for block in blocks(graph):
            merged: set[Op] = set()
            for forward, backward in list(_candidates(block)):
                if forward in merged or backward in merged:
                    continue
                miss = _unfused(forward, backward) or first_failure(CONSTRAINTS, Rnn(forward), Rnn(backward))
                if miss is not None:
                    context.missed(miss)
                    continue
                merged.update((forward, backward))
                layers = f"layers {label(forward)} and {label(backward)}"
                node = _merge(block, Rnn(forward), Rnn(backward))
                context.applied(node.layer, f"{layers} are one bidirectional rnn node")


def _operands(op: Op) -> tuple[Value, Value] | None:
    """The two sequences that ``op`` concatenates along their features, transposes aside."""
    if not isinstance(op.attrs, ops.ConcatAttrs) or len(op.operands) != 2:
        return None
    (a, perm), (b, other) = map(untransposed, op.operands)
    if perm != other or len(perm) != 3 or perm[op.attrs.axis] != 2 or not is_sequence(a) or not is_sequence(b):
        return None
    return a, b


def _candidates(block: Block) -> Iterator[tuple[Op, Op]]:
    """(forward, backward): pairs that a concat joins first, then nodes over the same sequence."""
    joined: set[Op] = set()
    for op in block.ops:
        pair = _operands(op)
        if pair is None:
            continue
        a, b = (v.op for v in pair)
        assert a is not None
        assert b is not None
        if not _directed(a) or not _directed(b) or runs_backwards(a) == runs_backwards(b):
            continue
        joined.update((a, b))
        yield (b, a) if runs_backwards(a) else (a, b)
    rest = [op for op in block.ops if op.name == "rnn" and _directed(op) and op not in joined]
    for a in rest:
        if not runs_backwards(a):
            yield from ((a, b) for b in rest if runs_backwards(b) and Rnn(b).x is Rnn(a).x)


def _directed(op: Op) -> bool:
    return op.name == "scan" or Rnn(op).attrs.direction != "bidirectional"


def _unfused(a: Op, b: Op) -> Miss | None:
    for op, other in ((a, b), (b, a)):
        if op.name == "scan":
            return Miss(f"layer {label(op)} is not a fused rnn node: see raise-rnn", other.layer)
    return None


def _merge(block: Block, a: Rnn, b: Rnn) -> Op:
    later = max((a.op, b.op), key=block.ops.index)
    build = Builder(block, later, _common(a.op.layer, b.op.layer))
    states = [build.concat([a.h0, b.h0], 0)]
    if a.c0 is not None and b.c0 is not None:
        states.append(build.concat([a.c0, b.c0], 0))
    lengths = [a.lengths] if a.lengths is not None else []
    attrs = replace(a.attrs, direction="bidirectional")
    operands = (a.x, *states, *lengths, *a.weights(0, 0), *b.weights(0, 0))
    node = build.insert(make_op(RNN, operands, attrs, layer=build.layer))
    _replace_concats(block, a, b, node.results[0])
    size = attrs.features
    for k, old in enumerate((a, b)):
        if old.y.uses:
            old.y.replace_by(build.slice(node.results[0], 2, k * size, size))
        for mine, theirs in zip(node.results[1:], old.op.results[1:], strict=True):
            if theirs.uses:
                theirs.replace_by(build.slice(mine, 0, k, 1))
    for op in (a.op, b.op):  # only now: one of them is where the builder stands
        op.erase()
    sort_block(block)
    return node


def _replace_concats(block: Block, a: Rnn, b: Rnn, y: Value) -> None:
    """Concats of the two outputs are the new output; transposes on the way go behind it."""
    for op in list(block.ops):
        if _operands(op) != (a.y, b.y):
            continue
        _, perm = untransposed(op.operands[0])
        parts = [v.op for v in op.operands]
        op.result.replace_by(Builder.at(op).transpose(y, perm))
        op.erase()
        for part in parts:
            while part is not None and part.name == "transpose" and not part.result.uses:
                source = part.operands[0].op
                part.erase()
                part = source


def _common(a: str, b: str) -> str:
    """The common parent path of two layer names, or both names."""
    shared = []
    for x, y in zip(a.split("/"), b.split("/"), strict=False):
        if x != y:
            break
        shared.append(x)
    return "/".join(shared) or "+".join(filter(None, (a, b)))
