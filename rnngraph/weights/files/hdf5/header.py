"""Object headers: the messages that say what a group or dataset is (HDF5 file format 3.0, IV.A)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.hdf5.source import Cursor, Source

DATASPACE, LINK_INFO, DATATYPE, OLD_FILL, FILL, LINK, EXTERNAL, LAYOUT = 1, 2, 3, 4, 5, 6, 7, 8
FILTERS, ATTRIBUTE, CONTINUATION, SYMBOL_TABLE, ATTRIBUTE_INFO = 11, 12, 16, 17, 21
SHARED = 2  # flag of a message that stands elsewhere


@dataclass(frozen=True, slots=True)
class Message:
    kind: int
    flags: int
    start: int
    size: int


class Header:
    """The messages of one object, in order."""

    def __init__(self, source: Source, address: int) -> None:
        self.source = source
        self.address = address
        self.messages = list(_messages(source, address))

    def all(self, kind: int) -> Iterator[Cursor]:
        """The messages of a kind."""
        for message in self.messages:
            if message.kind != kind:
                continue
            if message.flags & SHARED:
                raise ImportModelError(f"the object at byte {self.address} shares a message (kind {kind}) with others "
                                       "(such as a named datatype), which is not read")
            yield self.source.at(message.start, f"message {kind} of the object at byte {self.address}", message.size)

    def one(self, kind: int) -> Cursor | None:
        """The first message of a kind."""
        return next(self.all(kind), None)

    def has(self, kind: int) -> bool:
        return any(message.kind == kind for message in self.messages)


def _messages(source: Source, address: int) -> Iterator[Message]:
    start = source.at(address, "the object header")
    what = f"the object header at byte {address}"
    start.what = what
    if start.left >= 4 and bytes(start.data[address : address + 4]) == b"OHDR":
        start.skip(4)
        yield from _version_2(source, start, what)
        return
    start.version(1)
    start.skip(7)
    size = start.u32()
    start.skip(4)
    yield from _blocks(source, start.within(size), what, 1, 0)


def _version_2(source: Source, start: Cursor, what: str) -> Iterator[Message]:
    start.version(2)
    flags = start.u8()
    start.skip((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
    size = start.number(1 << (flags & 3))
    yield from _blocks(source, start.within(size), what, 2, flags)


def _blocks(source: Source, first: Cursor, what: str, version: int, flags: int) -> Iterator[Message]:
    """The messages of a header's first block, and of those that continue it."""
    blocks, seen = [first], {first.pos}
    while blocks:
        block = blocks.pop(0)
        head = 8 if version == 1 else 6 if flags & 4 else 4
        while block.left >= head:
            source.step()
            kind, size, bits = ((block.u16(), block.u16(), block.u8()) if version == 1
                                else (block.u8(), block.u16(), block.u8()))
            block.skip(head - (5 if version == 1 else 4))
            at = block.within(size)
            if kind == CONTINUATION:
                address, length = at.u64(), at.u64()
                if address in seen:
                    raise ImportModelError(f"{what} continues itself at byte {address}")
                seen.add(address)
                blocks.append(_continued(source, address, length, what, version))
            else:
                yield Message(kind, bits, at.pos, size)


def _continued(source: Source, address: int, length: int, what: str, version: int) -> Cursor:
    block = source.at(address, f"the continuation of {what}", length)
    if version == 2:
        if bytes(block.take(4)) != b"OCHK":
            raise ImportModelError(f"{what}: no continuation at byte {address}")
        return block.within(max(0, block.left - 4))
    return block
