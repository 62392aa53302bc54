"""inline-single-step: a scan of exactly one step is its body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import Builder, Graph, Op, Scan, Value
from rnngraph.ir.clone import inline_block
from rnngraph.rewrite import Miss, Pass, PassContext


@dataclass(frozen=True)
class InlineSingleStep(Pass):
    """A loop with ``steps = 1`` disappears, so that its projections are plain matmuls (a decoder's single step)."""

    name: ClassVar[str] = "inline-single-step"

    def run(self, graph: Graph, context: PassContext) -> None:
        for op in list(graph.walk()):
            if op.name == "scan" and op.parent is not None and Scan(op).attrs.steps == 1:
                if Scan(op).attrs.until:
                    context.missed(Miss("a single step may be skipped by rows that are done before it"), op.layer)
                elif Scan(op).attrs.lengths:
                    context.missed(Miss("a single step with lengths may be empty for some rows"), op.layer)
                else:
                    _inline(op)
                    context.applied(op.layer, "the scan of one step is its body")


def _inline(op: Op) -> None:
    s = Scan(op)
    assert op.parent is not None
    b = Builder.at(op)
    args: dict[Value, Value] = dict(zip(s.carry_args, s.inits, strict=True))
    for arg, sequence in zip(s.x_args, s.xs, strict=True):
        args[arg] = b.reshape(sequence, arg.shape)
    values = inline_block(s.body, args, op.parent, op.parent.ops.index(op))
    emitted = [b.reshape(v, y.shape) for v, y in zip(values[len(s.finals):], s.ys, strict=True)]
    for old, new in zip(op.results, [*values[: len(s.finals)], *emitted], strict=True):
        old.replace_by(new)
    op.erase()
