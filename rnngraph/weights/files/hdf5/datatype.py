"""Datatypes and dataspaces: what elements are, and how many there are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.hdf5.source import Cursor, Source, text
from rnngraph.weights.files.shapes import check_span
from rnngraph.weights.gates import Array

MAX_RANK = 32
CLASSES = ("integers", "floats", "times", "strings", "bit fields", "opaque", "compound", "references", "enumerations",
           "variable-length", "arrays")
FLOATS = {(2, 15, 10, 5, 0, 10, 15): "f2", (4, 31, 23, 8, 0, 23, 127): "f4", (8, 63, 52, 11, 0, 52, 1023): "f8"}


@dataclass(frozen=True, slots=True)
class Datatype:
    """``dtype``: numbers as numpy has them, or raw bytes (void; h5py has bfloat16 so); None: text, of ``size`` bytes
    each, or of any length (``variable``).

    ``refused`` says why elements of this type are not read.
    """

    size: int
    dtype: np.dtype[np.generic] | None = None
    variable: bool = False
    refused: str = ""


def datatype(at: Cursor) -> Datatype:
    """A datatype message."""
    head = at.u8()
    if head >> 4 not in (1, 2, 3, 4, 5):
        raise ImportModelError(f"{at.what}: a datatype has version 1 to 5, got {head >> 4}")
    bits, size = at.number(3), at.u32()
    kind = head & 15
    if size == 0:
        raise ImportModelError(f"{at.what}: elements of no bytes")
    if kind == 0:
        return _integer(at, bits, size)
    if kind == 1:
        return _float(at, bits, size)
    if kind == 3:
        return Datatype(size)
    if kind == 5:
        return Datatype(size, np.dtype(f"V{size}"))
    if kind == 8:
        base = datatype(at)
        return base if base.size == size else Datatype(size, refused="an enumeration of another size than its numbers")
    if kind == 9 and bits & 15 == 1 and size == 16:
        return Datatype(size, variable=True)
    return Datatype(size, refused=f"elements are {CLASSES[kind] if kind < len(CLASSES) else 'of an unknown class'}")


def _integer(at: Cursor, bits: int, size: int) -> Datatype:
    offset, precision = at.u16(), at.u16()
    if size not in (1, 2, 4, 8) or offset or precision != 8 * size:
        return Datatype(size, refused=f"integers of {precision} bits in {size} bytes")
    return Datatype(size, np.dtype(f"{'>' if bits & 1 else '<'}{'i' if bits & 8 else 'u'}{size}"))


def _float(at: Cursor, bits: int, size: int) -> Datatype:
    offset, precision = at.u16(), at.u16()
    place, width, start, mantissa, bias = at.u8(), at.u8(), at.u8(), at.u8(), at.u32()
    known = FLOATS.get((size, (bits >> 8) & 255, place, width, start, mantissa, bias))
    if known is None or offset or precision != 8 * size or bits & 0x40:
        return Datatype(size, refused=f"floats of {precision} bits that are none of IEEE's")
    return Datatype(size, np.dtype(f"{'>' if bits & 1 else '<'}{known}"))


def dataspace(at: Cursor) -> tuple[int, ...] | None:
    """The shape that a dataspace message says; None where there are no elements at all."""
    version = at.version(1, 2)
    rank, _, kind = at.u8(), at.u8(), at.u8()
    if version == 1:
        at.skip(4)
        kind = 1 if rank else 0
    if kind == 2:
        return None
    if rank > MAX_RANK:
        raise ImportModelError(f"{at.what}: an array of {rank} dims")
    shape = tuple(at.u64() for _ in range(rank))
    check_span(at.what, shape, 1)
    return shape


def elements(source: Source, kind: Datatype, shape: tuple[int, ...], raw: memoryview, what: str) -> Array:
    """The elements in ``raw``, which holds them all and is paid for: numbers, or str objects."""
    count = math.prod(shape)
    if kind.refused:
        raise ImportModelError(f"{what}: {kind.refused}, which is not read")
    if kind.dtype is not None:
        found: Array = np.frombuffer(raw, kind.dtype, count).reshape(shape)
        return found.astype(kind.dtype.newbyteorder("="), copy=False)
    source.step(count)
    cursor = Cursor(raw, 0, len(raw), what)
    strings = np.empty(count, object)
    for i in range(count):
        strings[i] = _variable(source, cursor, what) if kind.variable else text(cursor.take(kind.size), what)
    return strings.reshape(shape)


def _variable(source: Source, at: Cursor, what: str) -> str:
    """A string of any length, which stands in a global heap."""
    length, address, index = at.u32(), at.u64(), at.u32()
    if length == 0:
        return ""
    source.pay(length)
    if address not in source.heaps:
        source.heaps[address] = dict(_heap_objects(source, address))
    if index not in source.heaps[address]:
        raise ImportModelError(f"{what}: the global heap at byte {address} has no object {index}")
    start, size = source.heaps[address][index]
    if size < length:
        raise ImportModelError(f"{what}: a string of {length} bytes in a place of {size}")
    return text(source.data[start : start + length], what)


def _heap_objects(source: Source, address: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """The objects of a global heap: number, and the place of its bytes."""
    heap = source.signed(address, b"GCOL", "the global heap")
    heap.version(1)
    heap.skip(3)
    objects = source.at(address, f"the global heap at byte {address}", heap.u64())
    objects.skip(16)
    while objects.left >= 16:
        source.step()
        number = objects.u16()
        objects.skip(6)
        size = objects.u64()
        if number == 0:
            return
        yield number, (objects.pos, size)
        objects.skip(size)
        objects.skip(min(objects.left, -size % 8))
