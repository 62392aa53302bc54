"""A graph as it stood at one moment, printed only when somebody looks: copying takes a fraction of printing."""

from __future__ import annotations

from functools import cached_property

from rnngraph.ir import Array, Graph
from rnngraph.ir.text.printer import resources_of


class Snapshot:
    """Keeps a copy of ``graph`` (constants are shared)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph.clone()
        self.mark = fingerprint(graph)

    def still(self, graph: Graph) -> bool:
        """Whether ``graph``, of which this was taken, is as it was."""
        return fingerprint(graph) == self.mark

    @cached_property
    def text(self) -> str:
        """The text, large constants as references."""
        return self.graph.to_text(resources=False)

    @property
    def resources(self) -> dict[str, Array]:
        """The large constants that the text refers to, by key."""
        return resources_of(self.graph)


def fingerprint(graph: Graph) -> int:
    """A number that changes whenever the text of ``graph`` would."""
    ops = [(id(op), op.opdef.name, id(op.attrs), op.layer, op.impl, *map(id, op.operands),
            *(r.hint for r in op.results)) for op in graph.walk()]
    args = [(id(a), a.hint) for op in graph.walk() for block in op.blocks for a in block.args]
    return hash((tuple(ops), tuple(args), tuple((id(v), v.hint) for v in graph.inputs)))
