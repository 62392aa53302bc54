"""Where new-style groups and objects with many attributes keep them: fractal heaps, found by B-trees of version 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.hdf5.source import UNDEFINED, Cursor, Source

MAX_DEPTH = 16
RECORDS = {5: (4, 7), 8: (0, 8)}  # type of the tree -> where in its record the heap's ID stands, and its length


def _bytes_for(limit: int) -> int:
    return (max(1, limit).bit_length() - 1) // 8 + 1


@dataclass(frozen=True, slots=True)
class Tree:
    """A B-tree of version 2."""

    kind: int
    node_size: int
    record_size: int

    def pointer_sizes(self, depth: int) -> list[tuple[int, int]]:
        """Of nodes of each depth: the bytes of a child's number of records, and of its total."""
        most = total = (self.node_size - 10) // self.record_size
        count_size = _bytes_for(most)
        sizes, total_size = [(0, 0)], 0
        for _ in range(depth):
            sizes.append((count_size, total_size))
            pointer = 8 + count_size + total_size
            most = max(0, (self.node_size - 10 - pointer) // (self.record_size + pointer))
            total = (most + 1) * total + most
            total_size = _bytes_for(total)
        return sizes


def tree_records(source: Source, address: int) -> Iterator[memoryview]:
    """The heap IDs in a B-tree of version 2, in order."""
    head = source.signed(address, b"BTHD", "the B-tree")
    head.version(0)
    tree = Tree(head.u8(), head.u32(), head.u16())
    depth, _, root, count = head.u16(), head.u16(), head.u64(), head.u16()
    if tree.kind not in RECORDS or tree.record_size < sum(RECORDS[tree.kind]) or tree.node_size < 32:
        raise ImportModelError(f"the B-tree at byte {address}: records of type {tree.kind}, {tree.record_size} bytes "
                               f"each, in nodes of {tree.node_size} bytes are not known")
    if depth > MAX_DEPTH:
        raise ImportModelError(f"the B-tree at byte {address} has depth {depth}")
    if root != UNDEFINED and count:
        yield from _node(source, tree, root, count, depth, tree.pointer_sizes(depth))


def _node(source: Source, tree: Tree, address: int, count: int, depth: int,
          sizes: list[tuple[int, int]]) -> Iterator[memoryview]:
    at = source.signed(address, b"BTIN" if depth else b"BTLF", "a node of the B-tree")
    at.version(0)
    if at.u8() != tree.kind:
        raise ImportModelError(f"the node of the B-tree at byte {address} is of another tree")
    source.step(count)
    offset, size = RECORDS[tree.kind]
    records = [at.take(tree.record_size)[offset : offset + size] for _ in range(count)]
    for i in range(count + 1 if depth else 0):
        child, number = at.u64(), at.number(sizes[depth][0])
        at.skip(sizes[depth][1])
        yield from _node(source, tree, child, number, depth - 1, sizes)
        if i < count:
            yield records[i]
    if not depth:
        yield from records


def heap_objects(source: Source, info: Cursor) -> Iterator[Cursor]:
    """The objects of a fractal heap that a tree lists; the addresses of both stand at the cursor."""
    heap, tree = info.u64(), info.u64()
    if heap != UNDEFINED:
        objects = FractalHeap(source, heap)
        for record in tree_records(source, tree):
            yield objects.get(record)


class FractalHeap:
    """A fractal heap: objects of any size by an ID."""

    def __init__(self, source: Source, address: int) -> None:
        self.source = source
        head = source.signed(address, b"FRHP", "the fractal heap")
        head.version(0)
        head.skip(2)
        if head.u16():
            raise ImportModelError(f"the fractal heap at byte {address} is compressed, which is not read")
        head.skip(1)
        self.max_managed = head.u32()
        head.skip(12 * 8)
        self.width, self.start, self.max_direct = head.u16(), head.u64(), head.u64()
        self.bits = head.u16()
        head.skip(2)
        self.root, self.rows = head.u64(), head.u16()
        sizes = (self.width, self.start, self.max_direct)
        if not all(0 < s < 2**32 and s & (s - 1) == 0 for s in sizes) or not 8 <= self.bits <= 64 or \
                self.start > self.max_direct or self.rows > 64:
            raise ImportModelError(f"the fractal heap at byte {address}: a table of {self.width} blocks per row, from "
                                   f"{self.start} to {self.max_direct} bytes, makes no sense")

    def get(self, identifier: memoryview) -> Cursor:
        """The object of an ID."""
        self.source.step()
        at = Cursor(identifier, 0, len(identifier), "the ID of an object in a fractal heap")
        kind = at.u8()
        if kind >> 4 == 2:
            return at.within((kind & 15) + 1)
        if kind >> 4:
            raise ImportModelError("an attribute or link of more than 64 KiB in a fractal heap is not read")
        offset = at.number((self.bits + 7) // 8)
        length = at.number(min(at.left, _bytes_for(min(self.max_direct, self.max_managed))))
        block, begin, size = self._block(offset)
        if offset + length > begin + size:
            raise ImportModelError(f"the fractal heap has no object of {length} bytes at {offset}")
        return self.source.at(block + offset - begin, "an object of the fractal heap", length)

    def _block(self, offset: int) -> tuple[int, int, int]:
        """Address, first offset and size of the direct block that holds an offset."""
        if self.rows == 0:
            return self.root, 0, self.start if offset < self.start else self._nowhere(offset)
        address, begin, rows = self.root, 0, self.rows
        direct_rows = (self.max_direct // self.start).bit_length() + 1
        while True:
            row, column, begin = self._place(offset, begin, rows)
            at = self.source.signed(address, b"FHIB", "an indirect block of the fractal heap")
            direct = row < direct_rows
            at.skip(1 + 8 + (self.bits + 7) // 8 + 8 * (row * self.width + column))
            address = at.u64()
            if address == UNDEFINED:
                self._nowhere(offset)
            if direct:
                return address, begin, self._row_size(row)
            rows = self._row_size(row).bit_length() - (self.start * self.width).bit_length() + 1

    def _place(self, offset: int, begin: int, rows: int) -> tuple[int, int, int]:
        """Row, column and first offset of the block, in a table that begins at an offset."""
        for row in range(rows):
            size = self._row_size(row)
            if offset < begin + size * self.width:
                column = (offset - begin) // size
                return row, column, begin + column * size
            begin += size * self.width
        self._nowhere(offset)
        raise AssertionError

    def _row_size(self, row: int) -> int:
        return self.start << max(0, row - 1)

    def _nowhere(self, offset: int) -> int:
        raise ImportModelError(f"the fractal heap has no block at {offset}")
