"""What the walks over foreign graphs share: which one runs now, what nodes without a handler and nodes in error say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from rnngraph.errors import ImportModelError, RnngraphError
from rnngraph.frontends.imported import Undecided

GraphT = TypeVar("GraphT")
InputsT = TypeVar("InputsT")
OutputT = TypeVar("OutputT")

MAX_LISTED = 20  # unsupported nodes in one message
# handlers check what they can; a file may still give an op too few inputs, or of another kind
UNSOUND = (TypeError, ValueError, IndexError, KeyError, OverflowError, AttributeError, MemoryError, RecursionError)


class Walk(ABC, Generic[GraphT, InputsT, OutputT]):
    """One walk over a graph, nodes in order. ``unsupported``: the nodes that have no handler, as found so far."""

    def __init__(self) -> None:
        self.unsupported: list[str] = []

    def run(self, graph: GraphT, inputs: InputsT) -> list[OutputT]:
        """The outputs of the main graph. ImportModelError lists the nodes that have no handler."""
        token = _RUNNING.set(self)
        try:
            outputs = self.body(graph, inputs)
        finally:
            _RUNNING.reset(token)
        refuse(self.unsupported, "node")
        return outputs

    @abstractmethod
    def body(self, graph: GraphT, inputs: InputsT) -> list[OutputT]:
        """The outputs of a graph or of a node's body."""


_RUNNING: ContextVar[Walk[Any, Any, Any] | None] = ContextVar("rnngraph_walk", default=None)


def running() -> Walk[Any, Any, Any] | None:
    """The walk that runs now, the innermost one."""
    return _RUNNING.get()


def refuse(unsupported: Sequence[str], what: str) -> None:
    """ImportModelError that lists what has no handler, each kind once; nothing where the list is empty."""
    if unsupported:
        kinds = list(dict.fromkeys(unsupported))
        more = f"; and {len(kinds) - MAX_LISTED} more" if len(kinds) > MAX_LISTED else ""
        raise ImportModelError(f"the model has {len(unsupported)} {what}(s) that are not supported: "
                               f"{'; '.join(kinds[:MAX_LISTED])}{more}")


@contextmanager
def errors_of(node: object, inputs: Callable[[], str]) -> Iterator[None]:
    """Errors of a node's handler, as ImportModelErrors that name the node; ``inputs`` says what it was given."""
    try:
        yield
    except (Undecided, ImportModelError):
        raise
    except RnngraphError as e:
        raise ImportModelError(f"{node}: {e}") from e
    except UNSOUND as e:
        raise ImportModelError(f"{node}: not a sound node, with inputs ({inputs()}): {e}") from e


def label(name: str, op: str) -> str:
    """A node's name as the layer path of its ops; its op's name where it has none."""
    return name.strip("/").replace(" ", "_").replace("@", "_") or op
