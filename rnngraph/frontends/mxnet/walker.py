"""The walk over a symbol: nodes in order, each by its handler, in the active trace.

MXNet writes 0 for a size that is to be inferred, as in the zeros that a recurrence starts with. Such a size is a symbol
of its own; where it meets another size, `same` raises `Resolved`, and the walk begins again with what it stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import Undecided
from rnngraph.frontends.mxnet.registry import HANDLERS, output_names, used_inputs
from rnngraph.frontends.mxnet.symbol import Graph, Node
from rnngraph.frontends.walk import Walk, errors_of, label, running
from rnngraph.ir import Dim, Shape
from rnngraph.ir.dims import substitute
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor

OPEN = "unknown_"  # how the symbols of sizes to be inferred begin


class Resolved(Undecided):
    """A size that was to be inferred is found."""

    def __init__(self, symbol: str, dim: Dim) -> None:
        self.symbol = symbol
        self.dim = dim
        super().__init__(f"{symbol} is {dim}")


class Walker(Walk[Graph, Mapping[str, Tensor], Tensor]):
    """One walk. ``solved`` has the sizes that are inferred; ``loose``: the rows of MXNet 2's zeros are inferred too."""

    def __init__(self, solved: Mapping[str, Dim], *, loose: bool = False) -> None:
        super().__init__()
        self.solved = solved
        self.loose = loose

    def body(self, graph: Graph, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs of a graph whose variables are given by name; [] when a node is not supported."""
        found: dict[int, tuple[Tensor, ...] | None] = {}
        for node in needed(graph):
            if node.op == "null":
                if node.name not in inputs:
                    raise ImportModelError(f"variable {node.name!r} has no value")
                found[node.number] = (inputs[node.name],)
                continue
            items = [found[n] for n, _ in used_inputs(node)]
            given = [_output(graph, node, i, at) for i, (_, at) in zip(items, used_inputs(node), strict=True) if i]
            found[node.number] = self.results(node, given) if None not in items else None
        made = [(found[n], n, at) for n, at in graph.heads]
        return [] if any(i is None for i, _, _ in made) else [
            _output(graph, graph.nodes[n], i, at) for i, n, at in made if i is not None]

    def results(self, node: Node, inputs: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        entry = HANDLERS.get(node.op)
        if entry is None:
            self.unsupported.append(str(node))
            return None
        with errors_of(node, lambda: ", ".join(str(i.type) for i in inputs)), active().scope(label(node.name, node.op)):
            result = entry.function(node, *inputs)
        return result if isinstance(result, tuple) else (result,)

    def shape(self, node: Node, sizes: Sequence[int]) -> Shape:
        """The shape that an attribute says; 0 or -1 is a size that is to be inferred."""
        rows = self.loose and node.op.startswith("_npi_") and len(sizes) > 1
        found: list[Dim] = []
        for axis, size in enumerate(sizes):
            name = f"{OPEN}{node.number}_{axis}"
            found.append(self.solved.get(name, name) if size in (0, -1) or (rows and axis == 0) else size)
        return tuple(found)


def needed(graph: Graph) -> list[Node]:
    """The nodes that the outputs follow from, in order."""
    wanted = {n for n, _ in graph.heads}
    found: list[Node] = []
    for node in reversed(graph.nodes):
        if node.number in wanted:
            found.append(node)
            wanted.update(n for n, _ in used_inputs(node))
    return found[::-1]


def _output(graph: Graph, user: Node, outputs: tuple[Tensor, ...], at: int) -> Tensor:
    if at >= len(outputs):
        raise ImportModelError(f"{user}: uses output {at} of a node that has {len(outputs)} here")
    return outputs[at]


def walker() -> Walker:
    """The walk that runs now: for handlers of nodes with graphs, or with sizes to be inferred."""
    found = running()
    assert isinstance(found, Walker), "handlers run within a walk"
    return found


def same(node: Node, a: Shape, b: Shape, but: int | None = None) -> None:
    """Sizes that must be equal, all axes but ``but``: `Resolved` where one of two is to be inferred."""
    if len(a) != len(b):
        raise ImportModelError(f"{node}: shapes {list(a)} and {list(b)} do not fit")
    for axis, (x, y) in enumerate(zip(a, b, strict=True)):
        if x != y and axis != but:
            for one, other in ((x, y), (y, x)):
                if is_open(one):
                    raise Resolved(str(one), other)


def is_open(dim: Dim) -> bool:
    """Whether a size is one that is to be inferred."""
    return isinstance(dim, str) and dim.startswith(OPEN) and dim.isidentifier()


def solve(solved: Mapping[str, Dim], found: Resolved) -> dict[str, Dim]:
    """``solved`` with one size more."""
    return {**{s: substitute(d, {found.symbol: found.dim}) for s, d in solved.items()}, found.symbol: found.dim}


def names_of(graph: Graph) -> list[str]:
    """MXNet's names of the outputs (list_outputs)."""
    found = []
    for number, at in graph.heads:
        node = graph.nodes[number]
        names = output_names(node)
        end = names[at] if at < len(names) else f"output{at}"
        found.append(node.name if node.op == "null" else f"{node.name}_{end}")
    return found
