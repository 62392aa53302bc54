"""The table of handlers: how each ATen operator becomes tensors.

    @handler("aten.softmax", "aten._softmax")
    def softmax(node: Node, self: Tensor, dim: int, dtype: DType | None = None) -> Tensor: ...

A handler gets the node and the arguments by the names of the operator's schema; those that have the schema's defaults
are left out. Tensors are `Tensor`s of the active trace, sizes are Dims, dtypes are DTypes. It returns a tensor, a list
of tensors for operators with several results, or a Dim or number. An argument that it does not take makes the node
unsupported. ``each_step``: the operator works on each row by itself, so that it may run on the data of a packed
sequence, whose leading axis is then two. ``raw``: it gets items as they are (`items`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

Handler: TypeAlias = Callable[..., Any]
F = TypeVar("F", bound=Handler)


@dataclass(frozen=True, slots=True)
class Entry:
    """A handler, and what it may be given."""

    function: Handler
    takes: frozenset[str] | None  # the names of its arguments; None: any
    each_step: bool = False
    raw: bool = False


HANDLERS: dict[str, Entry] = {}


def handler(*names: str, each_step: bool = False, raw: bool = False) -> Callable[[F], F]:
    """Register the function for operators of these names, of every overload."""
    def register(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        takes = None if any(p.kind is p.VAR_KEYWORD for p in parameters) else frozenset(p.name for p in parameters)
        for name in names:
            assert name not in HANDLERS, f"two handlers for {name}"
            HANDLERS[name] = Entry(function, takes, each_step, raw)
        return function

    return register
