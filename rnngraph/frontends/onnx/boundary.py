"""Inputs and outputs that are sequences or optionals: one input or output of the graph for each element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.onnx.proto import ValueInfo
from rnngraph.frontends.onnx.registry import Item
from rnngraph.frontends.onnx.walker import Missing, tensor_of
from rnngraph.nn import Input
from rnngraph.nn.tensor import Tensor


@dataclass(frozen=True, slots=True)
class Parts:
    """The graph's inputs that one input of the file is made of: of a sequence its elements, of an absent optional
    none."""

    names: tuple[str, ...]
    sequence: bool

    def item(self, given: Mapping[str, Item]) -> Item:
        if self.sequence:
            return [given[n] for n in self.names]
        return given[self.names[0]] if self.names else None


def elements(info: ValueInfo, name: str, given: Any, make: Callable[[ValueInfo, str, Input], Input]) -> tuple[
        Parts, list[Input]]:
    """What ``inputs=`` says of a sequence (a list of Inputs) or an optional (what it holds, or None).

    The elements of sequence ``x`` are the inputs ``x.0``, ``x.1``, ...
    """
    tensor = replace(info, kind="tensor")
    if given is None:
        return Parts((), False), []
    if isinstance(given, Input) and info.kind == "optional":
        return Parts((name,), False), [make(tensor, name, given)]
    if info.kind == "sequence" and isinstance(given, Sequence) and all(isinstance(e, Input) for e in given):
        made = [make(tensor, f"{name}.{i}", e) for i, e in enumerate(given)]
        return Parts(tuple(x.name for x in made), True), made
    raise ImportModelError(f"input {info.name!r} is a {info.kind}: {_how(info)}; got {given!r}")


def untold(info: ValueInfo) -> ImportModelError:
    """How many elements there are, and of what shapes, decides the structure."""
    return ImportModelError(f"input {info.name!r} is a {info.kind}, of which the file does not tell what it holds: "
                            f"{_how(info)}")


def _how(info: ValueInfo) -> str:
    one = f"rnngraph.Input((...), dtype={info.dtype!r})"
    held = f"[{one}, ...]" if info.kind == "sequence" else one
    return f"give it as inputs={{{info.name!r}: {held}}}, or None for an optional without an element"


def flat_outputs(names: Sequence[str], items: Sequence[Item]) -> dict[str, Tensor]:
    """The outputs by name; the elements of sequence ``y`` are ``y.0``, ``y.1``, ...; an absent optional is none."""
    found: dict[str, Tensor] = {}
    for name, item in zip(names, items, strict=True):
        several = isinstance(item, list) and not isinstance(item, Missing)
        parts = {f"{name}.{i}": e for i, e in enumerate(item)} if several and isinstance(item, list) else {name: item}
        for part, element in parts.items():
            tensor = tensor_of(element)
            if tensor is None:
                raise ImportModelError(f"output {part!r} has no value")
            found[part] = tensor
    return found
