"""Instances: a body's values seen through windows of lanes, and walks over them.

An `Instance` is a base value over lanes ``[off, off + n)``, with its operands, and where it comes from when it is
memory (a `Leaf`). `rnngraph.phases.lanes` builds them, `rnngraph.phases.partition` cuts them into phases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from rnngraph.ir import Op, Value

ROW = 0  # the extent of a row scalar


class Kind(Enum):
    LOAD = "load"  # memory: a carry, a sequence's step, a capture, a stored temporary
    SPLAT = "splat"  # one number for all rows and lanes
    ELEMENTWISE = "elementwise"
    MATMUL = "matmul"
    REDUCE = "reduce"  # over the lanes of its argument; a row scalar
    ROW_SPLAT = "row_splat"  # a row scalar seen as lanes


class Source(Enum):
    """Where a leaf lives: decides which strides it has and whether another thread may write it."""

    CARRY = "carry"
    SEQUENCE = "sequence"  # this step's rows of a sequence
    CAPTURE = "capture"  # [B, n] the same at every step
    ROW = "row"  # [B] the same at every step
    VECTOR = "vector"  # [n] the same for every row
    SCALAR = "scalar"  # [] from memory
    TEMPORARY = "temporary"  # stored by an earlier phase of the same step


@dataclass(frozen=True, slots=True)
class Leaf:
    """A memory operand of a body: its source and its name in the stage's argument table."""

    source: Source
    name: str


@dataclass(frozen=True, slots=True)
class Piece:
    """``load`` lanes times rows [k_pos, k_pos + k) of ``right``, which add to a matmul's sum."""

    load: Instance
    right: Value
    k_pos: int
    k: int


@dataclass(eq=False, slots=True)
class Instance:
    """One value over lanes [off, off + n) (or a row scalar). ``level``: the earliest phase level it can run at."""

    kind: Kind
    value: Value
    off: int
    n: int
    args: tuple[Instance, ...] = ()
    leaf: Leaf | None = None
    number: float = 0.0
    pieces: tuple[Piece, ...] = ()  # a matmul's left side
    shift: int = 0  # rows further that memory is read
    image: int = 1  # rows between which work may be cut although memory is read at other rows; 0: nowhere
    level: int = 0
    index: int = 0  # creation order: every iteration is deterministic

    @property
    def op(self) -> Op:
        op = self.value.op
        assert op is not None
        return op

    @property
    def is_free(self) -> bool:
        """Readable at any level without storing it: memory, numbers and row scalars."""
        return self.kind in (Kind.LOAD, Kind.SPLAT, Kind.ROW_SPLAT) or self.n == ROW


def postorder(roots: Iterable[Instance], children: Callable[[Instance], Sequence[Instance]]) -> list[Instance]:
    """Every instance reachable through ``children``, each once, children first. Bodies may be thousands of ops deep."""
    order: dict[Instance, None] = {}
    for root in roots:
        stack: list[tuple[Instance, bool]] = [(root, False)]
        while stack:
            i, ready = stack.pop()
            if i in order:
                continue
            if ready:
                order[i] = None
            else:
                stack.append((i, True))
                stack += [(c, False) for c in reversed(children(i)) if c not in order]
    return list(order)


def walk(roots: Iterable[Instance]) -> list[Instance]:
    """Every instance reachable through arguments (not through a matmul's stored left side), operands first."""
    return postorder(roots, lambda i: i.args)


def leaves_of(roots: Sequence[Instance]) -> dict[Leaf, Value]:
    """Every memory operand that the instances read, as lanes, rows, or left sides."""
    found: dict[Leaf, Value] = {}
    for i in walk(roots):
        for load in (i, *(q.load for q in i.pieces)):
            if load.leaf is not None:
                found.setdefault(load.leaf, load.value)
    return found
