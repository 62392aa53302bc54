"""The dataflow as a networkx graph (for orders, longest paths, cycles, GraphML) and as Graphviz text."""

from __future__ import annotations

import networkx as nx

from rnngraph.ir.core import Block, Graph, Op, Value


def to_networkx(graph: Graph) -> nx.MultiDiGraph:
    """One node per op and per block argument, one edge per use.

    Node attributes: ``label``, ``kind`` ("op" | "arg"), ``layer``, ``type`` (result types), ``scope`` (node number of
    the region op it stands in, -1 at the top). A value captured by a body is an edge straight to its user inside, and
    also to the region op, so that the order of the top-level nodes is a valid schedule.
    """
    g: nx.MultiDiGraph = nx.MultiDiGraph(name=graph.name)
    number: dict[int, int] = {}
    _add_block(g, graph.block, -1, number)
    for op in graph.walk():
        for i, v in enumerate(op.operands):
            owner, user = number[id(v)], number[id(op)]
            g.add_edge(owner, user, operand=i, type=str(v.type))
            _link_enclosing(g, number, v, op)
    return g


def _add_block(g: nx.MultiDiGraph, block: Block, scope: int, number: dict[int, int]) -> None:
    for arg in block.args:
        n = len(g)
        number[id(arg)] = n
        g.add_node(n, label=f"%{arg.hint or arg.index}", kind="arg", layer="", type=str(arg.type), scope=scope)
    for op in block.ops:
        n = len(g)
        number[id(op)] = n
        for r in op.results:
            number[id(r)] = n
        types = ", ".join(str(r.type) for r in op.results)
        g.add_node(n, label=op.name, kind="op", layer=op.layer, type=types, scope=scope)
        for b in op.blocks:
            _add_block(g, b, n, number)


def _link_enclosing(g: nx.MultiDiGraph, number: dict[int, int], v: Value, op: Op) -> None:
    """Edges from a captured value to every region op between its block and its user."""
    block = op.parent
    while block is not None and block is not v.block and block.parent is not None:
        g.add_edge(number[id(v)], number[id(block.parent)], operand=-1, type=str(v.type))
        block = block.parent.parent


def to_dot(graph: Graph) -> str:
    """Graphviz text: bodies are clusters, edges carry types."""
    g = to_networkx(graph)
    lines = ["digraph " + _quote(graph.name) + " {", '  node [shape=box, fontname="monospace"];']

    def emit(scope: int, indent: str) -> None:
        for n, d in g.nodes(data=True):
            if d["scope"] != scope:
                continue
            label = d["label"] + (f"\n{d['layer']}" if d["layer"] else "") + (f"\n{d['type']}" if d["type"] else "")
            shape = ", shape=ellipse" if d["kind"] == "arg" else ""
            lines.append(f"{indent}n{n} [label={_quote(label)}{shape}];")
            if any(e["scope"] == n for _, e in g.nodes(data=True)):
                lines.append(f"{indent}subgraph cluster_{n} {{")
                emit(n, indent + "  ")
                lines.append(indent + "}")

    emit(-1, "  ")
    for u, v, d in g.edges(data=True):
        if d["operand"] >= 0:
            lines.append(f"  n{u} -> n{v} [label={_quote(d['type'])}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
