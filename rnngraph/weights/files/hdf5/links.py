"""The names in a group: old-style symbol tables, and new-style links in the header or in a fractal heap."""

from __future__ import annotations

from collections.abc import Iterator

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.hdf5.btree import leaf_entries
from rnngraph.weights.files.hdf5.header import LINK, LINK_INFO, SYMBOL_TABLE, Header
from rnngraph.weights.files.hdf5.heap import heap_objects
from rnngraph.weights.files.hdf5.source import Cursor, Source, text


def links(source: Source, header: Header) -> dict[str, int]:
    """The addresses of a group's members by name; soft and external links are left out."""
    found: dict[str, int] = {}
    table = header.one(SYMBOL_TABLE)
    if table is not None:
        tree, heap = table.u64(), table.u64()
        _add(found, _symbols(source, tree, heap))
    _add(found, (pair for at in header.all(LINK) for pair in _link(at)))
    info = header.one(LINK_INFO)
    if info is not None:
        _add(found, _dense(source, info))
    return found


def _add(found: dict[str, int], pairs: Iterator[tuple[str, int]]) -> None:
    for name, address in pairs:
        if name in found:
            raise ImportModelError(f"a group has the name {name[:80]!r} twice")
        found[name] = address


def _symbols(source: Source, tree: int, heap: int) -> Iterator[tuple[str, int]]:
    at = source.signed(heap, b"HEAP", "the local heap")
    at.version(0)
    at.skip(3)
    size = at.u64()
    at.skip(8)
    names = source.at(at.u64(), "the names of a group", size)
    for address in group_leaves(source, tree):
        node = source.signed(address, b"SNOD", "a node of a symbol table")
        node.version(1)
        node.skip(1)
        for _ in range(node.u16()):
            source.step()
            offset, target, kind = node.u64(), node.u64(), node.u32()
            node.skip(20)
            if kind == 2:  # a soft link
                continue
            name = Cursor(source.data, names.pos, names.end, names.what)
            name.skip(offset)
            yield _name(name), target


def _name(at: Cursor) -> str:
    """A name that ends with a zero."""
    end = bytes(at.data[at.pos : min(at.end, at.pos + 4096)]).find(b"\0")
    if end < 0:
        raise ImportModelError(f"{at.what}: a name does not end")
    return text(at.take(end), at.what)


def group_leaves(source: Source, address: int) -> Iterator[int]:
    """The addresses of the symbol tables' nodes in a B-tree of version 1."""
    def read(at: Cursor, used: int) -> list[int]:
        at.skip(8)  # the first key
        found = []
        for _ in range(used):
            found.append(at.u64())
            at.skip(8)
        return found

    return leaf_entries(source, address, 0, "group", read, lambda child: child)


def _link(at: Cursor) -> Iterator[tuple[str, int]]:
    """A link message; nothing for a soft or external link."""
    at.version(1)
    flags = at.u8()
    kind = at.u8() if flags & 8 else 0
    at.skip((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = text(at.take(at.number(1 << (flags & 3))), "the name of a link")
    if kind == 0:
        yield name, at.u64()


def _dense(source: Source, info: Cursor) -> Iterator[tuple[str, int]]:
    """The links that are kept in a fractal heap."""
    info.version(0)
    info.skip(8 if info.u8() & 1 else 0)
    for at in heap_objects(source, info):
        yield from _link(at)
