"""The calls of layers in a functional model, as Keras 2 and Keras 3 write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnngraph.frontends.keras.config import Config
from rnngraph.frontends.nested import found_in, replaced
from rnngraph.nn.tensor import Tensor

MAX_NESTING = 16
MAX_CONSTANT = 2**20


@dataclass(frozen=True, slots=True)
class Reference:
    """Output ``tensor`` of call ``node`` of a layer."""

    layer: str
    node: int
    tensor: int


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one call; tensors are References."""

    args: list[Any]
    kwargs: dict[str, Any]

    def references(self) -> list[Reference]:
        return list(found_in(Reference, [self.args, self.kwargs]))

    def resolved(self, find: Callable[[Reference], Tensor]) -> tuple[list[Any], dict[str, Any]]:
        """The arguments with tensors."""
        return replaced(Reference, self.args, find), replaced(Reference, self.kwargs, find)


def calls_of(c: Config) -> list[Call]:
    """The calls of a layer."""
    nodes = c.entry.get("inbound_nodes", [])
    if not isinstance(nodes, list):
        raise c.fail("its inbound_nodes are no list")
    return [_new(c, node) if isinstance(node, Mapping) else _old(c, node) for node in nodes]


def _new(c: Config, node: Mapping[str, Any]) -> Call:
    args, kwargs = node.get("args", []), node.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, Mapping):
        raise c.fail("a call of it has no args and kwargs")
    return Call([_value(c, a, 0) for a in args], {str(k): _value(c, v, 0) for k, v in kwargs.items()})


def _value(c: Config, value: Any, depth: int) -> Any:
    """An argument in the manner of Keras 3."""
    if depth > MAX_NESTING:
        raise c.fail("arguments within arguments without end")
    if isinstance(value, list | tuple):
        return [_value(c, v, depth + 1) for v in value]
    if not isinstance(value, Mapping):
        return value
    kind, config = value.get("class_name"), value.get("config", {})
    if kind is None:
        return {str(k): _value(c, v, depth + 1) for k, v in value.items()}
    if kind == "__keras_tensor__" and isinstance(config, Mapping):
        return _reference(c, config.get("keras_history"))
    if kind in ("__numpy__", "__tensor__") and isinstance(config, Mapping):
        return _constant(c, config.get("value"))
    if kind == "__slice__" and isinstance(config, Mapping):
        return slice(*(config.get(k) for k in ("start", "stop", "step")))
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__tuple__" and isinstance(config, Mapping):
        return _value(c, config.get("value", []), depth + 1)
    raise c.fail(f"an argument of class {str(kind)[:60]!r} is not supported")


def _constant(c: Config, value: Any) -> Any:
    try:
        array = np.asarray(value, np.float32)
    except (ValueError, TypeError, OverflowError):
        raise c.fail("an argument is no array of numbers") from None
    if array.size > MAX_CONSTANT:
        raise c.fail(f"an argument has {array.size} numbers")
    return array


def _reference(c: Config, history: Any) -> Reference:
    if not isinstance(history, list | tuple) or len(history) < 3 or not isinstance(history[0], str) or not all(
            isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 2**31 for i in history[1:3]):
        raise c.fail(f"expected a layer's name, a call and an output, got {str(history)[:80]}")
    return Reference(history[0], history[1], history[2])


def _is_reference(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str) and all(
        isinstance(i, int) and not isinstance(i, bool) for i in value[1:3])


def _old(c: Config, node: Any) -> Call:
    """A call in the manner of Keras 2: [layer, call, output, keyword arguments] for each input."""
    if not isinstance(node, list) or not node:
        raise c.fail(f"a call of it is {str(node)[:80]}, expected a list of inputs")
    items = [node] if _is_reference(node) else node
    kwargs: dict[str, Any] = {}
    for item in items:
        if isinstance(item, list) and len(item) == 4 and isinstance(item[3], Mapping):
            kwargs |= {str(k): _old_value(c, v, 0) for k, v in item[3].items()}
    found = [_old_value(c, item, 0) for item in items]
    return Call([found[0] if len(found) == 1 else found], kwargs)


def _old_value(c: Config, value: Any, depth: int) -> Any:
    if depth > MAX_NESTING:
        raise c.fail("arguments within arguments without end")
    if _is_reference(value):
        if value[0] == "_CONSTANT_VALUE":
            return value[2]
        return _reference(c, value)
    return [_old_value(c, v, depth + 1) for v in value] if isinstance(value, list) else value


def output_names(c: Config, wanted: Sequence[Reference]) -> list[str]:
    """What a functional model's outputs are called: the keys of a dict of them, else the layers that give them."""
    outputs = c.get("output_layers")
    if isinstance(outputs, Mapping) and len(outputs) == len(wanted):
        return [str(key) for key in outputs]
    layers = [r.layer for r in wanted]
    return [f"{name}_{i}" if layers.count(name) > 1 else name for i, name in enumerate(layers)]


def references(c: Config, value: Any) -> list[Reference]:
    """The inputs or outputs of a model: one, a list of them, or by name."""
    if isinstance(value, Mapping):
        return [r for v in value.values() for r in references(c, v)]
    if _is_reference(value):
        return [_reference(c, value)]
    if not isinstance(value, list | tuple):
        raise c.fail(f"expected a layer's name, a call and an output, got {str(value)[:80]}")
    return [r for v in value for r in references(c, v)]
