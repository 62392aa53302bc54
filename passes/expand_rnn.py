"""expand-rnn: replace rnn nodes by the scans that they stand for, so that a code generator for scans runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import Builder, Graph, Op
from rnngraph.ir import expand_rnn as expansion
from rnngraph.phases.stages import is_call
from rnngraph.rewrite import Pass, PassContext

EXPANDING_BACKENDS = ("llvm", "cupy")  # they run an rnn node by running its scans


@dataclass(frozen=True)
class ExpandRnn(Pass):
    """Expands every rnn node.

    selected_only  only nodes whose chosen implementation is of a backend that runs expansions; nodes that a backend
                   runs as they are (a library call) and nodes without an implementation stay
    """

    name: ClassVar[str] = "expand-rnn"
    selected_only: bool = False

    def run(self, graph: Graph, context: PassContext) -> None:
        for op in list(graph.walk()):
            if op.name != "rnn" or (self.selected_only and not expands(op)):
                continue
            values = expansion(Builder.at(op), op)
            for old, new in zip(op.results, values, strict=True):
                old.replace_by(new)
            op.erase()
            context.applied(op.layer, "the rnn node is expanded into its scans")


def expands(op: Op) -> bool:
    """Whether an rnn node's chosen implementation runs its scans."""
    return op.impl.split(".")[0] in EXPANDING_BACKENDS and not is_call(op)
