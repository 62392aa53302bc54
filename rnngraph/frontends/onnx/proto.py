"""An ONNX model as plain Python: graphs, nodes and attributes, checked while they are read from the protobuf."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rnngraph.errors import ImportModelError
from rnngraph.frontends.known import Known

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """An input or output: its name, dtype (a name of the IR, or of ONNX where the IR has none), and dims; None where
    a dim, or the whole shape, is not told. ``kind`` is "tensor", "sequence" or "optional"."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    kind: str = "tensor"


@dataclass(eq=False, slots=True)
class Node:
    """One node. ``version`` is that of the opset of its domain; ``label`` is unique in the model, for messages."""

    op_type: str
    domain: str
    label: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    version: int

    def attr(self, name: str, default: T) -> T:
        """An attribute, or ``default``; ImportModelError when it is of another kind than the default."""
        value: Any = self.attributes.get(name)
        if value is None:
            return default
        if isinstance(default, float) and isinstance(value, int):
            value = float(value)
        if default is not None and not isinstance(value, type(default)):
            raise ImportModelError(f"{self}: attribute {name} must be {type(default).__name__}, got {value!r}")
        result: T = value
        return result

    def ints(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
        """An attribute of integers, or ``default``."""
        value = self.attributes.get(name)
        if value is None:
            return None if default is None else tuple(default)
        if not isinstance(value, list) or not all(isinstance(v, int) for v in value):
            raise ImportModelError(f"{self}: attribute {name} must be integers, got {value!r}")
        return tuple(value)

    def graph(self, name: str) -> Graph:
        """An attribute that is a graph."""
        value = self.attributes.get(name)
        if not isinstance(value, Graph):
            raise ImportModelError(f"{self}: expected a graph as attribute {name}, got {type(value).__name__}")
        return value

    def __str__(self) -> str:
        return f"node {self.label!r} ({self.domain + '.' if self.domain else ''}{self.op_type})"


@dataclass(eq=False, slots=True)
class Graph:
    """A graph or a body: its initializers are read when they are used."""

    name: str
    inputs: list[ValueInfo]
    outputs: list[ValueInfo]
    nodes: list[Node]
    initializers: Mapping[str, Callable[[], Known]] = field(default_factory=dict)

    def needed(self) -> list[Node]:
        """The nodes that the outputs follow from, in order."""
        wanted = {o.name for o in self.outputs}
        found: list[Node] = []
        for node in reversed(self.nodes):
            if wanted.intersection(n for n in node.outputs if n):
                found.append(node)
                wanted.update(node.inputs)
                for body in bodies(node):
                    wanted.update(body.free_names())
        return found[::-1]

    def free_names(self) -> set[str]:
        """The names that the graph takes from outside."""
        own = {i.name for i in self.inputs} | set(self.initializers) | {o for n in self.nodes for o in n.outputs}
        used = {o.name for o in self.outputs} | {i for n in self.nodes for i in n.inputs}
        for node in self.nodes:
            for body in bodies(node):
                used |= body.free_names()
        return {n for n in used - own if n}


def bodies(node: Node) -> list[Graph]:
    """The graphs among a node's attributes."""
    return [v for v in node.attributes.values() if isinstance(v, Graph)]
