"""An MXNet symbol as plain Python: its JSON is read and checked. A node may use only nodes before it, so no cycles.

Formats: ``attrs`` (MXNet 1.x, 2.x), ``attr`` (0.9 to 0.12), ``param`` and ``attr`` (before 0.9; auxiliary states are no
inputs yet). https://github.com/apache/mxnet, src/nnvm/legacy_json_util.cc.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from rnngraph.errors import ImportModelError
from rnngraph.frontends.mxnet.attributes import Attributes

Entry: TypeAlias = tuple[int, int]  # number of a node, and of its output
MAX_BYTES = 2**28
MAX_DEPTH = 8  # of graphs in graphs
OLD = 905  # before this version -1 as the axis of argmax meant all axes
AUXILIARY = {"BatchNorm": ("data", "gamma", "beta", "moving_mean", "moving_var")}


@dataclass(eq=False, slots=True)
class Node:
    """One node: a variable (``op`` "null") or an op. ``number`` is its place in the graph."""

    op: str
    name: str
    inputs: tuple[Entry, ...]
    attrs: Attributes
    graphs: tuple[Graph, ...] = ()
    number: int = 0

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op})"


@dataclass(eq=False, slots=True)
class Graph:
    """Nodes in order, and the entries that are the outputs."""

    nodes: list[Node]
    heads: list[Entry]
    version: int = 0
    variables: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.variables = [n for n in self.nodes if n.op == "null"]


def read_symbol(path: str | Path) -> Graph:
    """The graph of a -symbol.json file; ImportModelError for what is none, OSError where it cannot be opened."""
    file = Path(path)
    if file.stat().st_size > MAX_BYTES:
        raise ImportModelError(f"{file}: a symbol of more than {MAX_BYTES} bytes")
    try:
        return parse_symbol(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as e:
        raise ImportModelError(f"{file}: no text: {e.reason}") from None
    except ImportModelError as e:
        raise ImportModelError(f"{file}: {e}") from None


def parse_symbol(text: str) -> Graph:
    """The graph that a symbol's JSON says; ImportModelError for what is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ImportModelError(f"no JSON: {e}") from None
    return _graph(found, 0)


def _graph(data: Any, depth: int) -> Graph:
    if depth > MAX_DEPTH:
        raise ImportModelError(f"graphs are nested more than {MAX_DEPTH} deep")
    if not isinstance(data, dict) or not isinstance(data.get("nodes"), list) or not data["nodes"]:
        keras = "; it is a Keras configuration, which rnngraph.from_keras(WEIGHTS, config=FILE) takes" \
            if isinstance(data, dict) and "class_name" in data else ""
        raise ImportModelError(f"no MXNet symbol: expected an object with a list of nodes{keras}")
    version = _version(data.get("attrs"))
    nodes: list[Node] = []
    places: list[int] = []  # of the file's nodes: old files get nodes for auxiliary states besides
    for number, item in enumerate(data["nodes"]):
        node = _node(item, number, places, depth)
        for name in _missing(node, version):
            nodes.append(Node("null", name, (), Attributes({}, name), number=len(nodes)))
            node.inputs = (*node.inputs, (len(nodes) - 1, 0))
        if version < OLD and node.op in ("argmax", "argmin") and node.attrs.text("axis") == "-1":
            node.attrs = Attributes({**node.attrs.texts, "axis": "None"}, node.attrs.owner)
        node.number = len(nodes)
        places.append(node.number)
        nodes.append(node)
    heads = data.get("heads")
    if not isinstance(heads, list) or not heads:
        raise ImportModelError("no MXNet symbol: expected heads, the outputs")
    return Graph(nodes, [_entry(h, places, "the outputs") for h in heads], version)


def _version(attrs: Any) -> int:
    found = attrs.get("mxnet_version") if isinstance(attrs, dict) else None
    number = found[1] if isinstance(found, list) and len(found) == 2 else 800
    return number if isinstance(number, int) else 800


def _missing(node: Node, version: int) -> Sequence[str]:
    """Names of the auxiliary states that files before 0.9 leave out."""
    names = AUXILIARY.get(node.op, ()) if version < 900 else ()
    return [f"{node.name}_{n}" for n in names[len(node.inputs):]]


def _node(data: Any, number: int, places: list[int], depth: int) -> Node:
    if not isinstance(data, dict) or not isinstance(data.get("op"), str) or not isinstance(data.get("name"), str):
        raise ImportModelError(f"node {number}: expected an object with an op and a name")
    op, name = data["op"], data["name"]
    owner = f"node {name!r} ({op})"
    texts: dict[str, str] = {}
    for key in ("param", "attr", "attrs"):
        part = data.get(key) or {}
        if not isinstance(part, dict) or not all(isinstance(v, str) for v in part.values()):
            raise ImportModelError(f"{owner}: expected {key} to be texts by name")
        texts.update(part)
    inputs = data.get("inputs", [])
    graphs = data.get("subgraphs", [])
    if not isinstance(inputs, list) or not isinstance(graphs, list):
        raise ImportModelError(f"{owner}: expected a list of inputs")
    return Node(op, name, tuple(_entry(i, places, owner) for i in inputs), Attributes(texts, owner),
                tuple(_graph(g, depth + 1) for g in graphs))


def _entry(data: Any, places: list[int], owner: str) -> Entry:
    if not isinstance(data, list) or len(data) not in (2, 3) or not all(type(v) is int for v in data):
        raise ImportModelError(f"{owner}: an input is [node, output], got {str(data)[:60]}")
    node, output = data[:2]
    if not 0 <= node < len(places):
        raise ImportModelError(f"{owner}: uses node {node}, but only {len(places)} nodes stand before it")
    if not 0 <= output < 2**16:
        raise ImportModelError(f"{owner}: uses output {output} of node {node}")
    return places[node], output
