"""read and save: a file of arrays, whichever of the formats it is in."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.weights.files import hdf5, mxnet, npz, safetensors, torch
from rnngraph.weights.gates import Array

SUFFIXES = (".safetensors", ".npz", ".params")


def read(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of a .safetensors, an .npz, an HDF5 file, a .params of MXNet or a checkpoint of PyTorch (.pt, .pth),
    by name; the content decides which.

    Time and memory stay in proportion to the size of the file, and no pickle is loaded. ImportModelError names the
    file and what is wrong with it (cut off, offsets out of range or overlapping, objects, unpacks to too much); OSError
    where it cannot be opened.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/w.safetensors", {"kernel": np.ones((2, 3), np.float32)})
        ...     read(f"{folder}/w.safetensors")["kernel"].shape
        (2, 3)
    """
    with Path(path).open("rb") as file:
        start = file.read(8)
        file.seek(0)
        try:
            return _reader(start)(file)
        except ImportModelError as e:
            raise ImportModelError(f"{os.fspath(path)}: {e}") from None


def _reader(start: bytes) -> Callable[[BufferedReader], dict[str, Array]]:
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip
    if start.startswith(torch.MAGIC):
        return torch.read_legacy
    if start == hdf5.SIGNATURE:
        return hdf5.read
    return mxnet.read if mxnet.is_params(start) else safetensors.read


def _zip(file: BufferedReader) -> dict[str, Array]:
    """An .npz, or a checkpoint of PyTorch."""
    try:
        with zipfile.ZipFile(file) as archive:
            read_members = torch.read_zip if torch.is_checkpoint(archive) else npz.read
    except npz.BROKEN as e:
        raise ImportModelError(f"not a readable .npz or .pt: {str(e)[:120] or type(e).__name__}") from None
    file.seek(0)
    return read_members(file)


def save(path: str | os.PathLike[str], arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays to a .safetensors, an .npz or MXNet's .params, by the name's end; it is there whole or not at all.

    ``metadata`` (text by name) goes into a .safetensors. ImportModelError for another end, for what is not numbers, or
    for metadata of another file; nothing is pickled.
    """
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise ImportModelError(f"{target}: expected a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if metadata and target.suffix != ".safetensors":
        raise ImportModelError(f"{target}: an {target.suffix} has no place for metadata; write a .safetensors")
    found = {_name(name): _numbers(name, value) for name, value in arrays.items()}
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            _write(file, target.suffix, found, metadata or {})
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _write(file: BinaryIO, suffix: str, arrays: dict[str, Array], metadata: Mapping[str, str]) -> None:
    if suffix == ".npz":
        npz.write(file, arrays)
    elif suffix == ".params":
        mxnet.write(file, arrays)
    else:
        safetensors.write(file, arrays, metadata)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _name(name: object) -> str:
    if not isinstance(name, str) or not name or "\0" in name or name == safetensors.METADATA:
        raise ImportModelError(f"an array cannot have the name {name!r}")
    return name


def _numbers(name: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise ImportModelError(f"array {name!r}: expected numbers of at most 8 bytes, got {array.dtype}")
    return array
