"""The attributes of groups and datasets."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.hdf5.datatype import dataspace, datatype, elements
from rnngraph.weights.files.hdf5.header import ATTRIBUTE, ATTRIBUTE_INFO, SHARED, Header
from rnngraph.weights.files.hdf5.heap import heap_objects
from rnngraph.weights.files.hdf5.source import Cursor, Source, text
from rnngraph.weights.gates import Array


def attributes(source: Source, header: Header) -> dict[str, Array]:
    """The values by name: numbers, or str objects; a scalar has shape (). Those of types that are not read are absent.
    """
    found: dict[str, Array] = {}
    for at in _places(source, header):
        name, value = _attribute(source, at)
        if name in found:
            raise ImportModelError(f"the object at byte {header.address} has the attribute {name[:80]!r} twice")
        if value is not None:
            found[name] = value
    return found


def _places(source: Source, header: Header) -> Iterator[Cursor]:
    yield from header.all(ATTRIBUTE)
    info = header.one(ATTRIBUTE_INFO)
    if info is not None:
        info.version(0)
        info.skip(2 if info.u8() & 1 else 0)
        yield from heap_objects(source, info)


def _attribute(source: Source, at: Cursor) -> tuple[str, Array | None]:
    version = at.version(1, 2, 3)
    flags = at.u8()
    sizes = [at.u16() for _ in range(3)]
    if version == 3:
        at.skip(1)
    name, kind, space = (_part(at, size, 8 if version == 1 else 1) for size in sizes)
    label = text(name.take(name.left), "the name of an attribute")
    if version > 1 and flags & (SHARED | 1):
        return label, None
    shape, type = dataspace(space), datatype(kind)
    if shape is None:
        return label, elements(source, type, (0,), at.take(0), label) if not type.refused else None
    if type.refused or (type.dtype is not None and type.dtype.kind == "V"):
        return label, None
    count = math.prod(shape)
    source.pay(count * 64 if type.dtype is None else count * type.size)  # a str is an object
    return label, elements(source, type, shape, at.take(count * type.size), f"attribute {label!r}")


def _part(at: Cursor, size: int, align: int) -> Cursor:
    part = at.within(size)
    at.skip(min(at.left, -size % align))
    return part
