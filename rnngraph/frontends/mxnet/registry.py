"""The table of handlers: how each MXNet op becomes tensors. A handler is registered by the name of its op.

    @handler("Activation")
    def activation(node: Node, x: Tensor) -> Tensor: ...

A handler gets the node and a tensor for each input, and returns a tensor or a tuple, one for each output. ``uses``:
how many of the inputs it takes (labels of a loss are left out); ``outputs``: what MXNet calls the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from rnngraph.frontends.mxnet.symbol import Node

Handler: TypeAlias = Callable[..., Any]
OutputNames: TypeAlias = Callable[[Node], tuple[str, ...]]


def one_output(node: Node) -> tuple[str, ...]:
    return ("output",)


@dataclass(frozen=True, slots=True)
class Entry:
    """A handler, how many inputs it takes (None: all), and the names of the outputs."""

    function: Handler
    uses: int | None = None
    outputs: OutputNames = one_output


HANDLERS: dict[str, Entry] = {}


def handler(*names: str, uses: int | None = None, outputs: OutputNames = one_output) -> Callable[[Handler], Handler]:
    """Register the function for ops of these names."""
    def register(function: Handler) -> Handler:
        for name in names:
            assert name not in HANDLERS, f"two handlers for {name}"
            HANDLERS[name] = Entry(function, uses, outputs)
        return function

    return register


def used_inputs(node: Node) -> tuple[tuple[int, int], ...]:
    """The inputs that the node's handler takes."""
    entry = HANDLERS.get(node.op)
    return node.inputs if entry is None or entry.uses is None else node.inputs[: entry.uses]


def output_names(node: Node) -> tuple[str, ...]:
    """MXNet's names of the node's outputs, without the node's."""
    entry = HANDLERS.get(node.op)
    return ("output",) if entry is None else entry.outputs(node)
