"""Where the elements of a dataset stand: in its header, in one piece, or in chunks, which filters may have packed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.hdf5.btree import leaf_entries
from rnngraph.weights.files.hdf5.source import UNDEFINED, Cursor, Source
from rnngraph.weights.gates import Array

DEFLATE, SHUFFLE, FLETCHER = 1, 2, 3
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2
SINGLE, IMPLICIT, FIXED = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stored chunk: the indices of its first element, its bytes, and the filters that it did without."""

    offset: tuple[int, ...]
    address: int
    size: int
    mask: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """What a layout message says. ``index``: how chunks are found, 0 being a B-tree of version 1."""

    kind: int
    address: int
    size: int = 0  # of what is stored, where the message says it
    chunk: tuple[int, ...] = ()
    index: int = 0
    mask: int = 0


def layout(at: Cursor) -> Layout:
    """A layout message of version 1 to 5."""
    version = at.version(1, 2, 3, 4, 5)
    if version < 3:
        return _old(at)
    kind = at.u8()
    if kind == COMPACT:
        size = at.u16()
        return Layout(COMPACT, at.pos, size) if size <= at.left else Layout(COMPACT, UNDEFINED)
    if kind == CONTIGUOUS:
        return Layout(CONTIGUOUS, at.u64(), at.u64())
    if kind != CHUNKED:
        raise ImportModelError(f"{at.what}: layout class {kind} (such as a virtual dataset) is not read")
    if version == 3:
        rank, address = at.u8(), at.u64()
        return Layout(CHUNKED, address, chunk=_chunk(at, [at.u32() for _ in range(rank)]))
    flags, rank, width = at.u8(), at.u8(), at.u8()
    chunk = _chunk(at, [at.number(width) for _ in range(rank)])
    index = at.u8()
    if index == SINGLE:
        size, mask = (at.u64(), at.u32()) if flags & 2 else (0, 0)
        return Layout(CHUNKED, at.u64(), size, chunk, index, mask)
    if index == FIXED:
        at.skip(1)
    elif index != IMPLICIT:
        raise ImportModelError(f"{at.what}: chunks of a dataset that can grow (index type {index}) are not read")
    return Layout(CHUNKED, at.u64(), chunk=chunk, index=index)


def _old(at: Cursor) -> Layout:
    rank, kind = at.u8(), at.u8()
    at.skip(5)
    if kind not in (COMPACT, CONTIGUOUS, CHUNKED):
        raise ImportModelError(f"{at.what}: layout class {kind} is not known")
    address = UNDEFINED if kind == COMPACT else at.u64()
    sizes = [at.u32() for _ in range(rank)]
    if kind == CHUNKED:
        return Layout(CHUNKED, address, chunk=_chunk(at, [*sizes, *([at.u32()] if at.left >= 4 else [])][:rank]))
    if kind == COMPACT:
        size = at.u32()
        return Layout(COMPACT, at.pos, size) if size <= at.left else Layout(COMPACT, UNDEFINED)
    return Layout(CONTIGUOUS, address)


def _chunk(at: Cursor, sizes: Sequence[int]) -> tuple[int, ...]:
    """The dims of a chunk; the last of the sizes is that of an element."""
    if len(sizes) < 2 or not all(0 < s < 2**32 for s in sizes):
        raise ImportModelError(f"{at.what}: chunks of size {list(sizes)}")
    return tuple(sizes[:-1])


def filters(at: Cursor) -> list[tuple[int, int]]:
    """The filters of a dataset in the order of writing: number, first parameter."""
    version = at.version(1, 2)
    count = at.u8()
    at.skip(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        number = at.u16()
        length = at.u16() if version == 1 or number >= 256 else 0
        at.skip(2)
        values = at.u16()
        at.skip(length + (-length % 8 if version == 1 else 0))
        given = [at.u32() for _ in range(values)]
        at.skip(4 if version == 1 and values % 2 else 0)
        if number not in (DEFLATE, SHUFFLE, FLETCHER):
            raise ImportModelError(f"{at.what}: the filter {number} (such as szip, lzf) is not read; known are "
                                   "deflate, shuffle and fletcher32")
        found.append((number, given[0] if given else 0))
    return found


def unpacked(source: Source, raw: memoryview, pipeline: Sequence[tuple[int, int]], mask: int, size: int) -> bytes:
    """A chunk of ``size`` bytes, its filters undone."""
    data = bytes(raw)
    for i, (number, width) in reversed(list(enumerate(pipeline))):
        if mask >> i & 1:
            continue
        if number == DEFLATE:
            data = _inflated(data, size + 4)
        elif number == FLETCHER:
            data = data[:-4]
        elif number == SHUFFLE and width > 1:
            whole = len(data) // width * width
            planes = np.frombuffer(data[:whole], np.uint8).reshape(width, -1)
            data = planes.T.tobytes() + data[whole:]
    if len(data) != size:
        raise ImportModelError(f"a chunk of {size} bytes unpacks to {len(data)}")
    return data


def _inflated(data: bytes, most: int) -> bytes:
    machine = zlib.decompressobj()
    try:
        return machine.decompress(data, most)
    except zlib.error as e:
        raise ImportModelError(f"a chunk is no deflated data: {e}") from None


def chunks(source: Source, found: Layout, shape: tuple[int, ...], itemsize: int, packed: bool) -> Iterator[Chunk]:
    """The chunks of a dataset that are stored."""
    if len(found.chunk) != len(shape):
        raise ImportModelError(f"chunks {list(found.chunk)} of an array of shape {list(shape)}")
    size = math.prod(found.chunk) * itemsize
    if found.address == UNDEFINED or 0 in shape:
        return
    if found.index == 0:
        yield from _tree(source, found.address, len(shape))
    elif found.index == SINGLE:
        yield Chunk((0,) * len(shape), found.address, found.size if packed else size, found.mask)
    else:
        counts = [-(-d // c) for d, c in zip(shape, found.chunk, strict=True)]
        places = _places(counts, found.chunk)
        if found.index == IMPLICIT:
            yield from (Chunk(place, found.address + i * size, size) for i, place in enumerate(places))
        else:
            yield from _fixed_array(source, found.address, math.prod(counts), places, size)


def _places(counts: Sequence[int], chunk: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The first elements of all chunks, the last dim first; as they are asked for (itertools.product makes lists)."""
    for number in range(math.prod(counts)):
        place = []
        for count, step in zip(reversed(counts), reversed(chunk), strict=True):
            number, at = divmod(number, count)
            place.append(at * step)
        yield tuple(reversed(place))


def _tree(source: Source, address: int, rank: int) -> Iterator[Chunk]:
    """The chunks in a B-tree of version 1."""
    def read(at: Cursor, used: int) -> list[Chunk]:
        found = []
        for _ in range(used):
            source.step()
            size, mask = at.u32(), at.u32()
            offset = tuple(at.u64() for _ in range(rank))
            at.skip(8)
            found.append(Chunk(offset, at.u64(), size, mask))
        return found

    return leaf_entries(source, address, 1, "dataset", read, lambda chunk: chunk.address)


def _fixed_array(source: Source, address: int, count: int, places: Iterator[tuple[int, ...]], size: int
                 ) -> Iterator[Chunk]:
    """The chunks that a fixed array lists."""
    head = source.signed(address, b"FAHD", "the array of chunks")
    head.version(0)
    packed, width, page_bits, entries, block = head.u8(), head.u8(), head.u8(), head.u64(), head.u64()
    if entries != count or width < (13 if packed else 8):
        raise ImportModelError(f"the array of chunks at byte {address} has {entries} entries, expected {count}")
    if page_bits < 63 and entries > 1 << page_bits:
        raise ImportModelError("an array of chunks in pages is not read")
    at = source.signed(block, b"FADB", "the block of an array of chunks")
    at.skip(10)
    for place in places:
        source.step()
        start, length, mask = at.u64(), at.number(width - 12) if packed else size, at.u32() if packed else 0
        if start != UNDEFINED:
            yield Chunk(place, start, length, mask)


def put(target: Array, chunk: tuple[int, ...], offset: tuple[int, ...], data: Array) -> None:
    """Write a chunk into the array, without what of it lies beyond."""
    if any(o % c or o >= n for o, c, n in zip(offset, chunk, target.shape, strict=True)):
        raise ImportModelError(f"a chunk at {list(offset)} of an array of shape {list(target.shape)} in chunks of "
                               f"{list(chunk)}")
    room = tuple(min(c, n - o) for o, c, n in zip(offset, chunk, target.shape, strict=True))
    target[tuple(slice(o, o + r) for o, r in zip(offset, room, strict=True))] = data[tuple(map(slice, room))]
