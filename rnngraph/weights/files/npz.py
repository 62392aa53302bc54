"""npz: a zip of .npy files, as numpy.savez writes it, read with bounds on what it may unpack to."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, BinaryIO

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.shapes import check_span
from rnngraph.weights.gates import Array

SMALL = 64 * 2**20  # a file may always unpack to so many bytes
RATIO = 100  # and to so many times its own size; weights do not compress further, bombs do
HEADER_LIMIT = 10_000
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, OverflowError,
          TypeError, SyntaxError, KeyError, MemoryError, RecursionError, OSError)  # zipfile's and numpy's


def read(file: BinaryIO) -> dict[str, Array]:
    """The arrays, in the order of the archive; ImportModelError for what is broken, pickled or unpacks to too much."""
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            members = _members(archive, size)
            return {name: _array(archive, member, name) for name, member in members.items()}
    except BROKEN as e:
        raise ImportModelError(f"not a readable .npz: {str(e)[:120] or type(e).__name__}") from None


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name in found:
            raise ImportModelError(f"the member {member.filename[:80]!r} is no .npy, or is there twice")
        if member.compress_type not in METHODS or member.flag_bits & 1:
            raise ImportModelError(f"the member {member.filename[:80]!r} is encrypted, or compressed by a method that "
                                   "numpy does not write")
        found[name] = member
    total = sum(member.file_size for member in found.values())
    if total > max(SMALL, RATIO * size):
        raise ImportModelError(f"{size} bytes would unpack to {total}, more than {RATIO} times as many; a file that is "
                               "what it says can be opened with numpy.load and given as arrays")
    return found


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> Array:
    where = f"array {name[:80]!r}"
    with archive.open(member) as stream:
        shape, fortran, dtype = _header(stream, where)
        if dtype.hasobject or dtype.kind not in "fiub":
            raise ImportModelError(f"{where}: expected numbers, got dtype {str(dtype)[:40]}; pickled objects are never "
                                   "loaded")
        count = math.prod(shape)
        if len(shape) > 32 or any(d < 0 for d in shape):
            raise ImportModelError(f"{where}: expected a shape of at most 32 sizes >= 0, got {str(shape)[:80]}")
        if count * dtype.itemsize > member.file_size:
            raise ImportModelError(f"{where}: {dtype} {str(shape)[:80]} has more bytes than the {member.file_size} of "
                                   "its member")
        check_span(where, shape, dtype.itemsize)
        data = bytearray(stream.read(count * dtype.itemsize))
        if len(data) != count * dtype.itemsize or stream.read(1):
            raise ImportModelError(f"{where}: {dtype} {str(shape)[:80]} does not fill its member")
    array = np.frombuffer(data, dtype, count) if count else np.zeros(0, dtype)
    ordered = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    return ordered.astype(dtype.newbyteorder("="), copy=False)


def _header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, order and dtype of an .npy; numpy reads the header as a literal, never as a program."""
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ImportModelError(f"{where}: .npy of version {version}, expected 1.0 or 2.0")
    with warnings.catch_warnings():  # numpy warns of headers that Python 2 wrote, and reads them
        warnings.simplefilter("ignore")
        shape, fortran, dtype = readers[version](stream, max_header_size=HEADER_LIMIT)
    return shape, fortran, dtype


def write(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write the arrays, not compressed; the same arrays give the same bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # its date is 1980, not now
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
