"""The products of a persistent loop: what a block keeps of the weights, and how its threads multiply.

Of those there are `resident`, `streamed` and `tensor_cores`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from rnngraph.ir import Array
from rnngraph.phases.instances import Instance, Leaf
from rnngraph.phases.partition import Group
from rnngraph.phases.stages import Stage
from rnngraph.phases.static import static_array

WARPS = 8  # of a block
ROWS = 8  # whose left sides stand in shared memory together
Read = Callable[[Leaf, str], str]  # the text that reads a leaf's lane at ``row``, ``t`` and ``step``


class Products(Protocol):
    """Of one loop, for a grid of ``blocks``: ``lanes`` of each phase, and ``bytes`` of shared memory, are a block's.
    ``rows`` are multiplied together."""

    blocks: int
    rows: int
    lanes: list[int]
    bytes: int

    def __init__(self, stage: Stage, blocks: int) -> None: ...

    @staticmethod
    def grids(stage: Stage, sms: int) -> Sequence[int]:
        """The numbers of blocks to try on a GPU of ``sms`` multiprocessors, the best first."""

    def pack(self, group: Group) -> Array:
        """A group's weights as the kernel reads them from memory."""

    def prologue(self) -> list[str]:
        """Before the first step: the block's shared memory, ``left`` and what stays in it."""

    def sum(self, p: int, i: Instance) -> str:
        """Where the product ``i`` of phase ``p`` is found, for ``row`` of the rows from ``row0`` and ``lane``."""

    def multiply(self, p: int, read: Read) -> list[str]:
        """The sums of phase ``p`` for ``rows`` rows from ``row0`` and the block's lanes from ``lane0`` to ``lane1``;
        all threads of the block see them behind it."""


Left = tuple[tuple[int, int], ...]  # what tells the left side of groups apart


def left_of(group: Group) -> Left:
    """Equal for groups with one left side."""
    return tuple((id(piece.load), piece.k) for piece in group.pieces)


def reads(group: Group, read: Read) -> list[str]:
    """``x`` becomes the left side at ``lane``, whichever piece has it; behind the last it stays."""
    lines, at = list[str](), 0
    for q, piece in enumerate(group.pieces):
        assert piece.load.leaf is not None
        lines.append(f"{'else ' if q else ''}if (lane < {at + piece.k}) "
                     f"x = {read(piece.load.leaf, f'(lane - {at} + {piece.load.off})')};")
        at += piece.k
    return lines


def columns(group: Group, q: int) -> list[Array]:
    """What piece q of a group multiplies, for each part: [k, lanes]."""
    found = []
    for part in group.parts:
        piece = part.pieces[q]
        right = static_array(piece.right)
        found.append(right[piece.k_pos : piece.k_pos + piece.k, part.off : part.off + part.n])
    return found


__all__ = ["ROWS", "WARPS", "Left", "Products", "Read", "columns", "left_of", "reads"]
