"""Values in nested lists, tuples and mappings, as the arguments of foreign calls hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def found_in(kind: type[T], value: object) -> Iterator[T]:
    """The values of a kind, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from found_in(kind, item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from found_in(kind, item)


def replaced(kind: type[Any] | tuple[type[Any], ...], value: Any, function: Callable[[Any], Any]) -> Any:
    """``value`` with ``function`` of each value of a kind in its place; tuples become lists, mappings dicts."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, Mapping):
        return {k: replaced(kind, v, function) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(kind, v, function) for v in value]
    return value
