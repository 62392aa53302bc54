"""canonicalize: small algebra, so that every later pass sees one form of a thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rnngraph.errors import PassError
from rnngraph.ir import Graph, Op, Scan
from rnngraph.passes._layout_patterns import LAYOUT_PATTERNS
from rnngraph.passes._move_patterns import MOVE_PATTERNS
from rnngraph.passes._scalar_patterns import SCALAR_PATTERNS
from rnngraph.passes._whole_patterns import WHOLE_PATTERNS
from rnngraph.rewrite import Pass, PassContext, Pattern, rewrite
from rnngraph.rewrite.scan_edit import simplify, unreverse

PATTERNS: Sequence[Pattern] = (*SCALAR_PATTERNS, *WHOLE_PATTERNS, *MOVE_PATTERNS, *LAYOUT_PATTERNS)


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Apply `PATTERNS` and simplify every scan until nothing changes; dead ops go.

    ``max-rounds`` bounds the repetition; PassError when it does not settle.
    """

    name: ClassVar[str] = "canonicalize"
    max_rounds: int = 100

    def run(self, graph: Graph, context: PassContext) -> None:
        for _ in range(self.max_rounds):
            report = rewrite(graph, PATTERNS)
            scans = [_simplify(op, context) for op in graph.walk() if op.name == "scan"]
            if not report.changed and not any(scans):
                return
        raise PassError(f"canonicalize did not settle in {self.max_rounds} rounds; "
                        f"the last applied {dict(report.hits)}")


def _simplify(op: Op, context: PassContext) -> bool:
    if op.parent is None:  # went with the scan around it
        return False
    changed = simplify(op)
    if unreverse(op):
        way = "backwards" if Scan(op).attrs.reverse else "forwards"
        context.applied(op.layer, f"reversed sequences replaced by a scan that runs {way}")
        return True
    return changed


__all__ = ["PATTERNS", "Canonicalize"]
