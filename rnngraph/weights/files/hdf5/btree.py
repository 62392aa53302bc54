"""B-trees of version 1: the chunks of datasets and the members of old-style groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.hdf5.source import Cursor, Source

MAX_LEVEL = 16
Entry = TypeVar("Entry")


def leaf_entries(source: Source, address: int, kind: int, what: str, read: Callable[[Cursor, int], list[Entry]],
                 child: Callable[[Entry], int]) -> Iterator[Entry]:
    """The entries of a tree's leaves, in order. ``read`` gives the entries of a node, whose keys begin at the cursor,
    ``child`` the address that an entry points to."""
    stack, seen = [(address, MAX_LEVEL)], set()
    while stack:
        address, most = stack.pop()
        if address in seen:
            raise ImportModelError(f"the B-tree of a {what} contains its node at byte {address} twice")
        seen.add(address)
        at = source.signed(address, b"TREE", f"the B-tree of a {what}")
        found, level, used = at.u8(), at.u8(), at.u16()
        if found != kind or level > most:
            raise ImportModelError(f"the B-tree of a {what}: a node of type {found}, level {level} at byte {address}")
        at.skip(16)  # siblings
        entries = read(at, used)
        if level == 0:
            yield from entries
        else:
            stack += [(child(e), level - 1) for e in reversed(entries)]
