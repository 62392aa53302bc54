"""MXNet's .params: a list of NDArrays and their names, as mx.nd.save writes it (src/ndarray/ndarray.cc).

Dense arrays of the versions 1 to 3 are read, version 2 is written, to the bytes that MXNet 1.x writes. Names keep what
save_checkpoint puts in front of them, arg: and aux:.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.shapes import check_span
from rnngraph.weights.gates import Array

MAGIC = 0x112
VERSIONS = {0xF993FAC8: 1, 0xF993FAC9: 2, 0xF993FACA: 3}
WRITTEN = 0xF993FAC9
CPU = struct.pack("<ii", 1, 0)  # the device that an array was on
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "|u1", 4: "<i4", 5: "|i1", 6: "<i8", 7: "|b1"}


@dataclass(slots=True)
class Cursor:
    """Reads numbers in a row; ImportModelError at the end of the data."""

    data: bytes
    at: int = 0

    def take(self, count: int, what: str) -> bytes:
        if count > len(self.data) - self.at:
            raise ImportModelError(f"{what}: {count} bytes at {self.at}, but the file ends at {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str, what: str) -> int:
        found: int = struct.unpack(f"<{code}", self.take(struct.calcsize(code), what))[0]
        return found


def is_params(start: bytes) -> bool:
    """Whether a file starts as a list of NDArrays does."""
    return start[:8] == struct.pack("<Q", MAGIC)


def read(file: BinaryIO) -> dict[str, Array]:
    """The arrays by name; ImportModelError where the file breaks the format."""
    size = os.fstat(file.fileno()).st_size
    cursor = Cursor(file.read(size))
    if cursor.number("Q", "the magic number") != MAGIC:
        raise ImportModelError("not a list of NDArrays")
    cursor.number("Q", "the header")
    count = cursor.number("Q", "the number of arrays")
    if count > size // 16:
        raise ImportModelError(f"{count} arrays do not fit into {size} bytes")
    arrays = [_array(cursor, f"array {number}") for number in range(count)]
    names = cursor.number("Q", "the number of names")
    if names != count:
        raise ImportModelError(f"expected {count} names, one for each array, got {names}")
    found: dict[str, Array] = {}
    for number, array in enumerate(arrays):
        text = cursor.take(cursor.number("Q", f"name {number}"), f"name {number}")
        try:
            name = text.decode("utf-8")
        except UnicodeDecodeError as e:
            raise ImportModelError(f"name {number} is no text: {e.reason}") from None
        if name in found:
            raise ImportModelError(f"the name {name[:80]!r} is there twice")
        found[name] = array
    if cursor.at != size:
        raise ImportModelError(f"the file has {size - cursor.at} bytes behind its last name")
    return found


def _array(cursor: Cursor, what: str) -> Array:
    version = VERSIONS.get(cursor.number("I", what))
    if version is None:
        raise ImportModelError(f"{what}: no NDArray of a known version")
    if version >= 2 and cursor.number("i", what) != 0:
        raise ImportModelError(f"{what}: is sparse; convert it with tostype('default') before it is saved")
    rank = cursor.number("i", what)
    if not 0 <= rank <= 32:
        raise ImportModelError(f"{what}: expected at most 32 axes, got {rank}")
    shape = struct.unpack(f"<{rank}q", cursor.take(8 * rank, what))
    if any(d < 0 for d in shape):
        raise ImportModelError(f"{what}: expected sizes >= 0, got {list(shape)}")
    if rank == 0 and version < 3:
        raise ImportModelError(f"{what}: has no values")
    cursor.take(8, what)  # the device that it was on
    flag = cursor.number("i", what)
    if flag not in DTYPES:
        raise ImportModelError(f"{what}: the type {flag} is none of {', '.join(map(str, DTYPES))}")
    dtype = np.dtype(DTYPES[flag])
    data = cursor.take(math.prod(shape) * dtype.itemsize, what)
    check_span(what, shape, dtype.itemsize)
    if dtype.kind == "b" and any(byte > 1 for byte in data):
        raise ImportModelError(f"{what}: a bool is 0 or 1")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def write(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name; ImportModelError for dtypes that MXNet lacks, and for arrays without axes."""
    flags = {np.dtype(code): flag for flag, code in DTYPES.items()}
    file.write(struct.pack("<QQQ", MAGIC, 0, len(arrays)))
    for name, array in arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        flag = flags.get(little.dtype)
        if flag is None:
            raise ImportModelError(f"array {name!r}: expected one of {', '.join(sorted(d.name for d in flags))}, got "
                                   f"{array.dtype}")
        if not array.ndim:
            raise ImportModelError(f"array {name!r}: MXNet keeps arrays of one axis or more; use reshape(1)")
        file.write(struct.pack(f"<Iii{array.ndim}q", WRITTEN, 0, array.ndim, *array.shape))
        file.write(CPU + struct.pack("<i", flag))
        file.write(little.tobytes())
    file.write(struct.pack("<Q", len(arrays)))
    for name in arrays:
        text = name.encode("utf-8")
        file.write(struct.pack("<Q", len(text)) + text)
