"""An exported program as plain Python: nodes, weights, inputs and outputs, without anything of PyTorch in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rnngraph.frontends.nested import found_in
from rnngraph.ir import Array, Dim, DType


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of a node, an input or a weight, by its name."""

    name: str


@dataclass(eq=False, slots=True)
class Node:
    """One operator's call.

    op         namespace and name, such as "aten.linear"; Python's own on sizes are "operator.mul"
    overload   such as "Tensor"
    arguments  by the names of the operator's schema, those that are not its defaults: numbers, lists, Refs, DTypes
    path       the module that calls it, such as "encoder.lstm"
    dtype      of the (first) result, None where it is no tensor
    dtype_name PyTorch's name for it
    """

    name: str
    op: str
    overload: str
    arguments: dict[str, Any]
    path: str
    dtype: DType | None = None
    dtype_name: str = ""

    def refs(self) -> Iterator[Ref]:
        """The values that it uses."""
        return found_in(Ref, self.arguments)

    def __str__(self) -> str:
        overload = "" if self.overload in ("", "default") else f".{self.overload}"
        where = f" in {self.path!r}" if self.path else ""
        return f"{self.op}{overload}{where}"


@dataclass(frozen=True, slots=True)
class InputInfo:
    """An input of the call: its name, dtype and dims."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class WeightInfo:
    """A parameter, buffer or constant: the name that the module has for it, its dtype, and how to get the array."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    array: Callable[[], Array]


@dataclass(eq=False, slots=True)
class Program:
    """The whole: outputs are values or constants by name, in order."""

    name: str
    nodes: list[Node]
    inputs: list[InputInfo]
    weights: Mapping[str, WeightInfo]
    outputs: list[tuple[str, Any]]
    packed: frozenset[str] = frozenset()  # the outputs that are the data of a PackedSequence
    problems: list[str] = field(default_factory=list)  # what is not supported, found while reading

    def needed(self) -> list[Node]:
        """The nodes that the outputs follow from, in order."""
        wanted = {r.name for r in found_in(Ref, self.outputs)}
        found: list[Node] = []
        for node in reversed(self.nodes):
            if node.name in wanted:
                found.append(node)
                wanted.update(r.name for r in node.refs())
        return found[::-1]
