"""fold-embedding: looking a row up and projecting it becomes looking up the projected row."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from rnngraph.ir import Builder, Graph, Op, Value
from rnngraph.ir.index_ops import is_lookup
from rnngraph.ir.ops import ADD, MATMUL, BroadcastAttrs, ReshapeAttrs, TransposeAttrs
from rnngraph.phases.static import is_static
from rnngraph.rewrite import Miss, Pass, PassContext, Pattern, pattern, rewrite


@dataclass(frozen=True)
class FoldEmbedding(Pass):
    """gather(E, i) @ W + b -> gather(E @ W + b, i) for constant E, W, b, through moves that keep the features last.

    A take of rows is one too. A step then reads one row instead of multiplying by W. The new table has one row per
    word and as many columns as W: with more than ``max-elements`` numbers the op stays as it is. Rounds differently
    than the original.
    """

    name: ClassVar[str] = "fold-embedding"
    max_elements: int = 1 << 22

    def run(self, graph: Graph, context: PassContext) -> None:
        report = rewrite(graph, [_projection(self.max_elements), _bias])
        for name, miss in report.misses:
            if name == "projected_embedding":
                context.missed(miss)
        if folded := report.hits["projected_embedding"]:
            context.applied("", f"{folded} embedding table{'s' if folded > 1 else ''} multiplied by the projection "
                                "that reads them")


def _projection(most: int) -> Pattern:
    @pattern(MATMUL)
    def projected_embedding(op: Op, b: Builder) -> list[Value] | Miss | None:
        """gather(E, i) @ W -> gather(E @ W, i)"""
        x, w = op.operands
        found = _lookup(x)
        if found is None or not is_static(w) or w.type.rank != 2:
            return None
        lookup, moves = found
        table, index = lookup.operands
        columns = w.shape[1]
        assert isinstance(columns, int)
        size = columns * prod(d for d in table.shape[:1] if isinstance(d, int))
        if size > most:
            return Miss(f"the projected table would have {size} elements, more than max-elements = {most}", op.layer)
        return [_moved(b, b.op(lookup.opdef, b.matmul(table, w), index, attrs=lookup.attrs), moves)]

    return projected_embedding


@pattern(ADD)
def _bias(op: Op, b: Builder) -> list[Value] | None:
    """gather(E, i) + broadcast(v) -> gather(E + broadcast(v), i)   for a constant vector v over the features"""
    for x, other in (op.operands, op.operands[::-1]):
        found, vector = _lookup(x), _row_vector(other)
        if found is not None and vector is not None and len(x.uses) == 1:
            lookup, moves = found
            table, index = lookup.operands
            added = b.add(table, b.broadcast(vector, table.shape))
            return [_moved(b, b.op(lookup.opdef, added, index, attrs=lookup.attrs), moves)]
    return None


def _lookup(x: Value) -> tuple[Op, list[Op]] | None:
    """The gather of a constant matrix that ``x`` is a move of, and the moves (transposes and reshapes that keep the
    features last), the first one first."""
    moves: list[Op] = []
    op = x.op
    while op is not None and not is_lookup(op):
        source = op.operands[0] if op.operands else None
        if source is None or not (_keeps_features(op, source)):
            return None
        moves.insert(0, op)
        op = source.op
    if op is None or op.operands[0].type.rank != 2 or not is_static(op.operands[0]):
        return None
    return op, moves


def _keeps_features(op: Op, source: Value) -> bool:
    if isinstance(op.attrs, TransposeAttrs):
        return op.attrs.perm[-1] == source.type.rank - 1
    return isinstance(op.attrs, ReshapeAttrs) and op.attrs.shape[-1:] == source.shape[-1:]


def _row_vector(value: Value) -> Value | None:
    """v when ``value`` is broadcast(v) along every axis but the last."""
    op = value.op
    if op is None or not isinstance(op.attrs, BroadcastAttrs) or op.attrs.axes != (value.type.rank - 1,):
        return None
    return op.operands[0] if is_static(op.operands[0]) else None


def _moved(b: Builder, gathered: Value, moves: list[Op]) -> Value:
    """``gathered`` after the same moves, with the number of features that it has."""
    for op in moves:
        if isinstance(op.attrs, TransposeAttrs):
            gathered = b.transpose(gathered, op.attrs.perm)
        elif isinstance(op.attrs, ReshapeAttrs):
            gathered = b.reshape(gathered, (*op.attrs.shape[:-1], gathered.shape[-1]))
    return gathered
