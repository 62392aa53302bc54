"""safetensors: eight bytes with the length of a JSON header, the header, the arrays; strict, see docs/adr.

The header says dtype, shape and data_offsets of each array; the arrays fill the rest of the file without a gap or an
overlap, little endian, in C order (github.com/huggingface/safetensors). BF16 is read as float32, which is exact.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from io import BufferedReader
from typing import Any, BinaryIO

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.shapes import check_span
from rnngraph.weights.gates import Array

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8",
          "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "BF16": "<u2"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
HEADER_LIMIT = 8 * 2**20  # some 80 000 arrays; a longer header is no file of recurrent weights
METADATA = "__metadata__"


def read(file: BufferedReader) -> dict[str, Array]:
    """The arrays, in the order of the header; ImportModelError where the file breaks the format."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(8)
    if len(start) < 8:
        raise ImportModelError(f"expected the length of a header in 8 bytes, the file has {len(start)}")
    (length,) = struct.unpack("<Q", start)
    if length > min(HEADER_LIMIT, size - 8):
        raise ImportModelError(f"the header is said to have {length} bytes; the file has {size}, and {HEADER_LIMIT} "
                               "are the most that is read")
    header = _parse(file.read(length))
    entries = {name: _entry(name, entry) for name, entry in header.items() if name != METADATA}
    data = bytearray(size - 8 - length)
    if file.readinto(data) != len(data):
        raise ImportModelError("the file became shorter while it was read")
    _check_cover(entries, len(data))
    return {name: _array(name, *entry, data) for name, entry in entries.items()}


def _parse(text: bytes) -> dict[str, Any]:
    def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ImportModelError(f"the header has {name[:80]!r} twice")
            found[name] = value
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as e:
        raise ImportModelError(f"the header is no JSON: {str(e)[:80]}") from None
    if not text.startswith(b"{") or not isinstance(header, dict):
        raise ImportModelError("the header is no JSON object")
    return header


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape, begin, end of an array; ImportModelError where they do not agree."""
    where = f"array {name[:80]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ImportModelError(f"{where}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ImportModelError(f"{where}: the dtype {str(dtype)[:20]!r} is none of {', '.join(DTYPES)}")
    if not _naturals(shape) or len(shape) > 32:
        raise ImportModelError(f"{where}: expected a shape of at most 32 sizes >= 0, got {str(shape)[:80]}")
    if not _naturals(offsets) or len(offsets) != 2:
        raise ImportModelError(f"{where}: expected data_offsets [begin, end], got {str(offsets)[:80]}")
    begin, end = offsets
    itemsize = np.dtype(DTYPES[dtype]).itemsize
    if end - begin != math.prod(shape) * itemsize:
        raise ImportModelError(f"{where}: {dtype} {str(shape)[:80]} does not fill the bytes {begin}..{end}")
    if 0 in shape:
        check_span(where, shape, itemsize)
    return dtype, tuple(shape), begin, end


def _naturals(values: Any) -> bool:
    """Whether it is a list of integers >= 0, of sizes that files have."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def _check_cover(entries: Mapping[str, tuple[str, tuple[int, ...], int, int]], size: int) -> None:
    """ImportModelError unless the arrays fill the data, each byte once."""
    at = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != at:
            what = "overlaps another" if begin < at else "leaves a gap before it"
            raise ImportModelError(f"array {name[:80]!r}: the bytes {begin}..{end} {what}, expected {at}")
        at = end
    if at != size:
        raise ImportModelError(f"the arrays have {at} bytes, the file has {size} behind its header")


def _array(name: str, dtype: str, shape: tuple[int, ...], begin: int, end: int, data: bytearray) -> Array:
    array: Array = np.frombuffer(data, DTYPES[dtype], math.prod(shape), begin).reshape(shape) if end > begin else \
        np.zeros(shape, DTYPES[dtype])
    if dtype == "BOOL" and np.any(array.view(np.uint8) > 1):
        raise ImportModelError(f"array {name[:80]!r}: a BOOL is 0 or 1")
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def write(file: BinaryIO, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write the arrays; wide numbers stand first, so that all are aligned."""
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    ordered = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    offsets, at = {}, 0
    for name in ordered:
        offsets[name] = [at, at + arrays[name].nbytes]
        at += arrays[name].nbytes
    for name, array in arrays.items():
        dtype = NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise ImportModelError(f"array {name!r}: safetensors has no dtype for {array.dtype}")
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets[name]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in ordered:
        array = np.ascontiguousarray(arrays[name])
        file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
