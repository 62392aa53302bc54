"""The table of handlers: how each ONNX op becomes tensors. A handler is registered by the name of its op.

    @handler("Softmax")
    def softmax(node: Node, x: Tensor) -> Tensor: ...

    @handler("Reshape", known=(1,))
    def reshape(node: Node, x: Tensor, shape: Known) -> Tensor: ...

A handler gets the node and its inputs by position, absent ones as None: tensors, but for the places in ``known``, whose
values must be known to go on (then `NeedsValue` or `NeedsSize` is raised where they are not). It returns one item or a
tuple, one for each output. ``raw``: it gets the items as they are, known or not, and sequences as lists. Versions of
an op are told apart by ``node.version``, that of the opset. `shape_handler` registers what an op means on known
integers and sizes; it is tried first where all inputs are such, and may decline by returning None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from rnngraph.frontends.known import Known
from rnngraph.nn.tensor import Tensor

Item: TypeAlias = "Known | Tensor | list[Any] | None"
Handler: TypeAlias = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A handler, the places of its inputs that must be known, and whether it gets the items as they are."""

    function: Handler
    known: tuple[int, ...] = ()
    raw: bool = False


HANDLERS: dict[tuple[str, str], Entry] = {}
SHAPE_HANDLERS: dict[tuple[str, str], Handler] = {}


def handler(*names: str, domain: str = "", known: tuple[int, ...] = (),
            raw: bool = False) -> Callable[[Handler], Handler]:
    """Register the function for ops of these names."""
    def register(function: Handler) -> Handler:
        for name in names:
            assert (domain, name) not in HANDLERS, f"two handlers for {name}"
            HANDLERS[domain, name] = Entry(function, known, raw)
        return function

    return register


def shape_handler(*names: str) -> Callable[[Handler], Handler]:
    """Register what ops of these names mean on known integers: (node, *Known) -> Known, a tuple of them, or None."""
    def register(function: Handler) -> Handler:
        for name in names:
            assert ("", name) not in SHAPE_HANDLERS, f"two shape handlers for {name}"
            SHAPE_HANDLERS["", name] = function
        return function

    return register
