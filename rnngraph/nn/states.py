"""States: how a cell's states are named, how large they are, and the structure in which ``step`` sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from rnngraph.errors import TraceError
from rnngraph.nn.initializers import IntShape
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.weights import NAME

if TYPE_CHECKING:
    from rnngraph.nn.cell import Cell

StateSize: TypeAlias = int | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Branch:
    """A level of nested states. ``kind`` makes it: dict, tuple, or a NamedTuple's class."""

    kind: type
    keys: tuple[str, ...]
    parts: tuple[Tree, ...]

    def build(self, parts: list[Any]) -> Any:
        if self.kind is dict:
            return dict(zip(self.keys, parts, strict=True))
        return tuple(parts) if self.kind is tuple else self.kind(*parts)

    def take(self, new: Any) -> list[Any] | None:
        """The parts of what a step returned for this level; None when it has another form."""
        if self.kind is dict:
            fits = isinstance(new, dict) and set(new) == set(self.keys)
            return [new[k] for k in self.keys] if fits else None
        fits = isinstance(new, tuple | list) and len(new) == len(self.parts)
        return list(new) if fits else None


Tree: TypeAlias = Branch | None  # None: one tensor


@dataclass(frozen=True, slots=True)
class States:
    """The states of a cell in order: names, shapes without the batch, and how ``step`` sees them.

    The only state of a cell is called h; in a dict states have its keys, in a tuple (of more than ints: see `Cell`)
    state0, state1, ...; the names of nested ones are joined by ".".
    """

    names: tuple[str, ...]
    shapes: tuple[IntShape, ...]
    structure: Tree

    @classmethod
    def of(cls, cell: Cell) -> States:
        """What ``cell.state_size`` says; TraceError when it says nothing sensible."""
        size = getattr(cell, "state_size", None)
        if isinstance(size, int):
            return cls(("h",), (_state_shape(cell, size),), None)
        if not _is_nest(size) or (isinstance(size, Mapping) and not size):
            raise TraceError(f"{cell.label}: state_size must be an int, a tuple of ints or shapes, or a dict of "
                             f"names to them, nested as you like, got {size!r}")
        found: dict[str, IntShape] = {}
        structure = _branch(cell, size, "", found)
        return cls(tuple(found), tuple(found.values()), structure)

    def pack(self, states: Sequence[Any]) -> Any:
        """States in order -> what ``step`` takes: one tensor, or tuples and dicts as in state_size."""
        left = iter(states)

        def build(tree: Tree) -> Any:
            return next(left) if tree is None else tree.build([build(p) for p in tree.parts])

        return build(self.structure)

    def flatten(self, new: Any) -> list[Any] | None:
        """The leaves of a structure like the one that ``step`` takes, in order; None when it has another form."""

        def leaves(tree: Tree, value: Any) -> list[Any] | None:
            if tree is None:
                return [value]
            parts = tree.take(value)
            if parts is None:
                return None
            found = [leaves(t, p) for t, p in zip(tree.parts, parts, strict=True)]
            return None if any(f is None for f in found) else [v for f in found if f is not None for v in f]

        return leaves(self.structure, new)

    def unpack(self, new: Any) -> list[Tensor]:
        """What ``step`` returned as the new state -> states in order; TraceError when it differs."""
        found = self.flatten(new)
        if found is None or not all(isinstance(t, Tensor) for t in found):
            raise TraceError(f"step must return {_expected(self.structure)} as the new state, got {describe(new)}")
        return found


def _is_nest(size: object) -> bool:
    return isinstance(size, Mapping) or (isinstance(size, Sequence) and not isinstance(size, str))


def _is_shape(size: object) -> bool:
    """Within a tuple or dict, a sequence of numbers is the shape of one state."""
    return isinstance(size, Sequence) and bool(size) and not any(_is_nest(s) for s in size)


def _branch(cell: Cell, size: Any, prefix: str, found: dict[str, IntShape]) -> Branch:
    """The structure of a level, whose states go to ``found``."""
    items = dict(size) if isinstance(size, Mapping) else {f"state{i}": s for i, s in enumerate(size)}
    if bad := [n for n in items if not isinstance(n, str) or not NAME.fullmatch(n)]:
        raise TraceError(f"{cell.label}: a state's name is made of letters, digits, '_', '-' and '.', got {bad[0]!r}")
    parts: list[Tree] = []
    for name, part in items.items():
        if _is_nest(part) and not _is_shape(part):
            parts.append(_branch(cell, part, f"{prefix}{name}.", found))
            continue
        if prefix + name in found:
            raise TraceError(f"{cell.label}: two states are named {prefix + name!r}")
        found[prefix + name] = _state_shape(cell, part)
        parts.append(None)
    kind = dict if isinstance(size, Mapping) else type(size) if hasattr(size, "_fields") else tuple
    return Branch(kind, tuple(items), tuple(parts))


def _state_shape(cell: Cell, size: object) -> IntShape:
    shape = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size,)
    if not all(isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in shape):
        raise TraceError(f"{cell.label}: a state's size is a positive int or a tuple of them, got {size!r}")
    return tuple(d for d in shape if isinstance(d, int))


def _expected(tree: Tree) -> str:
    if tree is None:
        return "one tensor"
    if any(p is not None for p in tree.parts):
        parts = ", ".join(("a tensor" if p is None else _expected(p)) for p in tree.parts)
        return f"a dict with {', '.join(tree.keys)} ({parts})" if tree.kind is dict else f"a tuple ({parts})"
    return f"a dict with {', '.join(tree.keys)}" if tree.kind is dict else f"{len(tree.parts)} tensors"


def describe(value: object) -> str:
    """What a step returned, for a message."""
    if isinstance(value, Tensor):
        return f"a tensor {value.type}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}: ({', '.join(describe(v) for v in value)})"
    if isinstance(value, dict):
        return f"a dict with {', '.join(map(str, value))}"
    return f"{type(value).__name__} {value!r}"
