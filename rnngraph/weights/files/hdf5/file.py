"""Groups and datasets of an HDF5 file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cached_property
from io import BufferedReader
from pathlib import Path

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.hdf5 import layout as layouts
from rnngraph.weights.files.hdf5.attributes import attributes
from rnngraph.weights.files.hdf5.datatype import Datatype, dataspace, datatype, elements
from rnngraph.weights.files.hdf5.header import DATASPACE, DATATYPE, EXTERNAL, FILL, FILTERS, LAYOUT, OLD_FILL, Header
from rnngraph.weights.files.hdf5.links import links
from rnngraph.weights.files.hdf5.source import UNDEFINED, Cursor, Source
from rnngraph.weights.gates import Array

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_DEPTH = 64


class Node:
    """A group or a dataset; ``attrs`` holds its attributes, numbers or str objects by name, a scalar with shape ()."""

    def __init__(self, source: Source, header: Header, path: str) -> None:
        self.source = source
        self.header = header
        self.path = path

    @cached_property
    def attrs(self) -> dict[str, Array]:
        return attributes(self.source, self.header)


class Group(Node):
    """A group: its members by name, or by path ("a/b").

    Example:
        >>> import io, h5py
        >>> with h5py.File(memory := io.BytesIO(), "w") as made:
        ...     made["layer/kernel"] = [[1.0, 2.0]]
        >>> group = open_hdf5(memory.getvalue())
        >>> group.names, group["layer/kernel"].read()
        (['layer'], array([[1., 2.]]))
    """

    def __init__(self, source: Source, header: Header, path: str, above: tuple[int, ...] = ()) -> None:
        super().__init__(source, header, path)
        self.above = (*above, header.address)

    @cached_property
    def _links(self) -> dict[str, int]:
        return links(self.source, self.header)

    @cached_property
    def _members(self) -> dict[str, Group | Dataset]:
        return {}

    @property
    def names(self) -> list[str]:
        """The names of the members, in the order of the file."""
        return list(self._links)

    def __contains__(self, path: str) -> bool:
        name, _, rest = path.partition("/")
        if name not in self._links:
            return False
        if not rest:
            return True
        inner = self[name]
        return isinstance(inner, Group) and rest in inner

    def __getitem__(self, path: str) -> Group | Dataset:
        """A member; ImportModelError where there is none."""
        name, _, rest = path.partition("/")
        if name not in self._links:
            raise ImportModelError(f"the group {self.path!r} has no {name!r}; it has {', '.join(self._links)[:200]}")
        if name not in self._members:
            self._members[name] = self._open(name)
        found = self._members[name]
        if not rest:
            return found
        if isinstance(found, Group):
            return found[rest]
        raise ImportModelError(f"{found.path!r} is a dataset and has no {rest!r}")

    def group(self, path: str) -> Group:
        """A member that must be a group."""
        found = self[path]
        if not isinstance(found, Group):
            raise ImportModelError(f"{found.path!r} is a dataset, expected a group")
        return found

    def dataset(self, path: str) -> Dataset:
        """A member that must be a dataset."""
        found = self[path]
        if not isinstance(found, Dataset):
            raise ImportModelError(f"{found.path!r} is a group, expected a dataset")
        return found

    def _open(self, name: str) -> Group | Dataset:
        address, path = self._links[name], f"{self.path.rstrip('/')}/{name}"
        if address in self.above or len(self.above) > MAX_DEPTH:
            raise ImportModelError(f"the group {path[:200]!r} contains itself")
        header = Header(self.source, address)
        if header.has(LAYOUT) and header.has(DATATYPE):
            return Dataset(self.source, header, path)
        return Group(self.source, header, path, self.above)

    def datasets(self) -> Iterator[Dataset]:
        """All datasets below, in order."""
        for name in self.names:
            self.source.step()
            found = self[name]
            if isinstance(found, Group):
                yield from found.datasets()
            else:
                yield found


class Dataset(Node):
    """An array in the file; `read` gives it."""

    @cached_property
    def _type(self) -> Datatype:
        return datatype(self._message(DATATYPE, "datatype"))

    @property
    def numbers(self) -> bool:
        """Whether the elements are numbers that are read, not text or what is refused."""
        return self._type.dtype is not None and self._type.dtype.kind != "V"

    @cached_property
    def shape(self) -> tuple[int, ...]:
        shape = dataspace(self._message(DATASPACE, "dataspace"))
        return (0,) if shape is None else shape

    def _message(self, kind: int, what: str) -> Cursor:
        found = self.header.one(kind)
        if found is None:
            raise ImportModelError(f"dataset {self.path!r} has no {what}")
        return found

    def read(self) -> Array:
        """The elements, numbers or str objects; ImportModelError, naming the dataset, where they cannot be read."""
        try:
            return self._read()
        except ImportModelError as e:
            message = str(e)
            raise ImportModelError(message if message.startswith("dataset ") else
                                   f"dataset {self.path!r}: {message}") from None

    def _read(self) -> Array:
        if self.header.has(EXTERNAL):
            raise ImportModelError("its elements are in other files, which are not read")
        kind, shape = self._type, self.shape
        count = math.prod(shape)
        size = count * kind.size
        self.source.pay(size if kind.dtype is not None else size + 64 * count)
        found = layouts.layout(self._message(LAYOUT, "layout"))
        if found.kind == layouts.CHUNKED:
            return self._chunked(found, kind, shape)
        if found.address == UNDEFINED:
            return self._filled(kind, shape)
        if found.size and found.size < size:
            raise ImportModelError(f"{list(shape)} elements of {kind.size} bytes in {found.size} bytes")
        raw = self.source.at(found.address, f"the elements of {self.path!r}", size).take(size)
        return elements(self.source, kind, shape, raw, f"dataset {self.path!r}")

    def _filled(self, kind: Datatype, shape: tuple[int, ...]) -> Array:
        """What stands where nothing was written."""
        raw = bytes(kind.size)
        fill, old = self.header.one(FILL), self.header.one(OLD_FILL)
        if fill is not None:
            if fill.version(1, 2, 3) == 3:
                has = bool(fill.u8() & 0x20)
            else:
                fill.skip(2)
                has = bool(fill.u8())
            if has and (length := fill.u32()) == kind.size:
                raw = bytes(fill.take(length))
        elif old is not None and (length := old.u32()) == kind.size:
            raw = bytes(old.take(length))
        one = elements(self.source, kind, (), memoryview(raw), f"dataset {self.path!r}")
        return np.full(shape, one[()])

    def _chunked(self, found: layouts.Layout, kind: Datatype, shape: tuple[int, ...]) -> Array:
        out = self._filled(kind, shape)
        pipeline = self.header.one(FILTERS)
        steps = [] if pipeline is None else layouts.filters(pipeline)
        for chunk in layouts.chunks(self.source, found, shape, kind.size, bool(steps)):
            self.source.step()
            size = math.prod(found.chunk) * kind.size
            self.source.pay(size)
            raw = self.source.at(chunk.address, f"a chunk of {self.path!r}", chunk.size).take(chunk.size)
            data = layouts.unpacked(self.source, raw, steps, chunk.mask, size)
            layouts.put(out, found.chunk, chunk.offset,
                        elements(self.source, kind, found.chunk, memoryview(data), f"dataset {self.path!r}"))
        return out


def open_hdf5(source: bytes | str | os.PathLike[str]) -> Group:
    """The root group of an HDF5 file, given by its path or its bytes.

    Read are the parts of the format that Keras and h5py write: superblocks 0 to 3, old and new groups, attributes, and
    datasets of numbers and strings, in one piece or in chunks (deflate, shuffle, fletcher32). Time and memory stay in
    proportion to the size of the file. ImportModelError for what is no such file, is cut off, points outside of itself,
    contains itself or claims more than it can hold; OSError where it cannot be opened.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    start = next((at for at in _starts(len(data)) if data[at : at + 8] == SIGNATURE), None)
    if start is None:
        raise ImportModelError("this is no HDF5 file: it does not begin with the signature \\x89HDF")
    at = Source(memoryview(data)).at(start + 8, "the superblock")
    version = at.version(0, 1, 2, 3)
    if version < 2:
        at.skip(4)
        sizes = at.u8(), at.u8()
        at.skip(9 if version == 0 else 13)
    else:
        sizes = at.u8(), at.u8()
        at.skip(1)
    if sizes != (8, 8):
        raise ImportModelError(f"the superblock: addresses and lengths of {sizes} bytes, expected 8 and 8")
    base = at.u64()
    at.skip(24)  # free space, end of file, driver; of versions 2 and 3: extension, end of file
    if version < 2:
        root = (at.u64(), at.u64())[1]
    else:
        at.pos -= 8
        root = at.u64()
    if base > len(data):
        raise ImportModelError(f"the superblock: the file begins at byte {base} of {len(data)}")
    # an address counts from the superblock, wherever a user block has moved it
    inner = Source(memoryview(data)[start:] if base == start else memoryview(data)[base:])
    return Group(inner, Header(inner, root), "/")


def _starts(size: int) -> Iterator[int]:
    at = 0
    while at < size:
        yield at
        at = 512 if at == 0 else 2 * at


def read(file: BufferedReader) -> dict[str, Array]:
    """All arrays of numbers in an HDF5 file by path ("model_weights/lstm/kernel:0"); see `open_hdf5`."""
    return {d.path.lstrip("/"): d.read() for d in open_hdf5(file.read()).datasets() if d.numbers}
