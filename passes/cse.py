"""cse: equal ops become one."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import Block, Graph, Op, Value
from rnngraph.rewrite import Pass, PassContext


@dataclass(frozen=True)
class Cse(Pass):
    """Ops with the same kind, operands and attributes become the first of them (its layer stays).

    A body may use what stands in front of its scan, never the other way round. Constants compare by content. Ops with
    bodies are left alone.
    """

    name: ClassVar[str] = "cse"

    def run(self, graph: Graph, context: PassContext) -> None:
        if count := _merge(graph.block, ChainMap()):
            context.applied("", f"{count} repeated op{'s' if count > 1 else ''} merged")


def _merge(block: Block, known: ChainMap[Hashable, tuple[Value, ...]]) -> int:
    count = 0
    for op in list(block.ops):
        for body in op.blocks:
            count += _merge(body, known.new_child())
        if not op.opdef.pure or op.opdef.terminator or op.blocks:
            continue
        first = known.setdefault(_key(op), op.results)
        if first is not op.results:
            for old, new in zip(op.results, first, strict=True):
                old.replace_by(new)
            op.erase()
            count += 1
    return count


def _key(op: Op) -> Hashable:
    operands = op.operands
    if "commutative" in op.opdef.tags:
        operands = tuple(sorted(operands, key=id))  # any order will do: keys are only compared
    return op.opdef.name, operands, op.attrs, op.impl
