"""fold-embedding: looking a row up and projecting it becomes looking up the projected row."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from rnngraph.ir import Builder, Graph, Op, Value
from rnngraph.ir.ops import ADD, BROADCAST, CONST, GATHER, MATMUL, TRANSPOSE, BroadcastAttrs, TransposeAttrs
from rnngraph.rewrite import Miss, Pass, PassContext, Pattern, pattern, rewrite


@dataclass(frozen=True)
class FoldEmbedding(Pass):
    """gather(E, i) @ W + b -> gather(E @ W + b, i) for constant E, W, b, through transposes that keep the features.

    A step then reads one row instead of multiplying by W. The new table has one row per word and as many columns as
    W: with more than ``max-elements`` numbers the op stays as it is. Rounds differently than the original.
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
        lookup = _lookup(x)
        if lookup is None or not _is_const(w) or w.type.rank != 2:
            return None
        table, index = lookup.operands
        columns = w.shape[1]
        assert isinstance(columns, int)
        size = columns * prod(d for d in table.shape[:1] if isinstance(d, int))
        if size > most:
            return Miss(f"the projected table would have {size} elements, more than max-elements = {most}", op.layer)
        return [_like(b, x, b.op(GATHER, b.matmul(table, w), index))]

    return projected_embedding


@pattern(ADD)
def _bias(op: Op, b: Builder) -> list[Value] | None:
    """gather(E, i) + broadcast(v) -> gather(E + broadcast(v), i)   for a constant vector v over the features"""
    for x, other in (op.operands, op.operands[::-1]):
        lookup, vector = _lookup(x), _row_vector(other)
        if lookup is not None and vector is not None and len(x.uses) == 1:
            table, index = lookup.operands
            added = b.add(table, b.broadcast(vector, table.shape))
            return [_like(b, x, b.op(GATHER, added, index))]
    return None


def _lookup(x: Value) -> Op | None:
    """The gather of a constant matrix that ``x`` is, or is a transpose of with the features left last."""
    op = x.op
    if op is not None and isinstance(op.attrs, TransposeAttrs) and op.attrs.perm[-1] == x.type.rank - 1:
        op = op.operands[0].op
    if op is None or op.opdef is not GATHER or op.operands[0].type.rank != 2 or not _is_table(op.operands[0]):
        return None
    return op


def _is_table(value: Value) -> bool:
    """A constant, or what an earlier turn of this pass made of one."""
    op = value.op
    if op is None:
        return False
    return op.opdef is CONST or (op.opdef in (MATMUL, ADD, BROADCAST) and all(map(_is_table, op.operands)))


def _is_const(value: Value) -> bool:
    return value.op is not None and value.op.opdef is CONST


def _row_vector(value: Value) -> Value | None:
    """v when ``value`` is broadcast(v) along every axis but the last."""
    op = value.op
    if op is None or not isinstance(op.attrs, BroadcastAttrs) or op.attrs.axes != (value.type.rank - 1,):
        return None
    return op.operands[0] if _is_const(op.operands[0]) else None


def _like(b: Builder, x: Value, gathered: Value) -> Value:
    """``gathered`` with the transpose that ``x`` had."""
    op = x.op
    if op is not None and op.opdef is TRANSPOSE:
        assert isinstance(op.attrs, TransposeAttrs)
        return b.transpose(gathered, op.attrs.perm)
    return gathered
