"""dce: ops whose results nobody uses go, and with them carries, sequences and outputs of scans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import Block, Graph
from rnngraph.rewrite import Pass, PassContext, is_dead
from rnngraph.rewrite.scan_edit import prune


@dataclass(frozen=True)
class Dce(Pass):
    """Remove unused pure ops, unused outputs of scans, and the carries that only fed those."""

    name: ClassVar[str] = "dce"

    def run(self, graph: Graph, context: PassContext) -> None:
        before = sum(1 for _ in graph.walk())
        _clean(graph.block)
        if gone := before - sum(1 for _ in graph.walk()):
            context.applied("", f"{gone} unused op{'s' if gone > 1 else ''} removed")


def _clean(block: Block) -> None:
    """Backwards, so that an op's users are gone before it is looked at."""
    for op in reversed(block.body):
        if is_dead(op):
            op.erase()
            continue
        if op.name == "scan":
            prune(op)
        for inner in op.blocks:
            _clean(inner)
        if op.name == "scan":
            prune(op)  # a nested scan may have let go of a sequence or a carry
