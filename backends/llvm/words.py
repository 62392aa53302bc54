"""Argument tables as one vector of i64, and where addresses of a call's inputs and outputs go in it."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.backends.llvm.arrays import Arrays
from rnngraph.ir import Array


class Words:
    """Grows while a plan is made; ``patches`` says which words every call writes."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.words: list[int] = []
        self.patches: dict[tuple[str, int], list[tuple[int, int]]] = {}
        self.keep: list[Array] = []  # what only the words know

    def table(self, numbers: Sequence[int]) -> int:
        """A new table; returns where it begins."""
        at = len(self.words)
        self.words += numbers
        return at

    def put(self, at: int, array: Array) -> None:
        """Write the address of ``array`` at word ``at``, or remember it for every call."""
        self.keep.append(array)
        where = self.arrays.locate(array)
        if where.base is None:
            self.words[at] = where.offset
        else:
            self.patches.setdefault(where.base, []).append((at, where.offset))


__all__ = ["Words"]
