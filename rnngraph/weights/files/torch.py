"""PyTorch's checkpoints, .pt and .pth: what torch.save writes, its older form and TorchScript archives, read as data.

A checkpoint is a pickle that names tensors, and the storages that these are views of. The pickle is read by
`pickles.read_pickle`, which runs nothing. Tensors in nested dicts, lists and modules get their path as name:
``state_dict.encoder.weight_ih_l0``; what is no tensor is left out.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.weights.files.npz import BROKEN
from rnngraph.weights.files.pickles import MAX_BYTES, MAX_DEPTH, Made, Name, Persistent, read_pickle
from rnngraph.weights.files.shapes import check_span
from rnngraph.weights.gates import Array

MAGIC = struct.pack("<BBB", 0x80, 2, 0x8A)  # an older file begins with a pickled number
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
MAX_TENSORS = 2**20
MAX_REPEATED = 2**20  # elements of a tensor that repeats its storage's, as expand makes it
_STORAGES = {"Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "bf16", "Long": "i8", "Int": "i4", "Short": "i2",
             "Char": "i1", "Byte": "u1", "Bool": "b1"}
_DTYPES = {"float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "bf16", "int64": "i8", "int32": "i4",
           "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "b1", "double": "f8", "float": "f4", "half": "f2",
           "long": "i8", "int": "i4"}


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage: its element type ("" where the tensor says it), the bytes, and their order."""

    dtype: str
    data: bytes
    order: str = "<"


Find = Callable[[Any], Storage]


def is_checkpoint(archive: zipfile.ZipFile) -> bool:
    """Whether a zip is one of torch.save's, or of TorchScript's."""
    return any(name == "data.pkl" or name.endswith("/data.pkl") for name in archive.namelist())


def read_zip(file: BinaryIO) -> dict[str, Array]:
    """The tensors of a zip; ImportModelError where it is broken, or says more than it has."""
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            return _from_zip(archive, size)
    except BROKEN as e:
        raise ImportModelError(f"not a readable checkpoint of PyTorch: {str(e)[:120] or type(e).__name__}") from None


def _from_zip(archive: zipfile.ZipFile, size: int) -> dict[str, Array]:
    members = {m.filename: m for m in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise ImportModelError("a member of the archive is there twice")
    index = min((n for n in members if n == "data.pkl" or n.endswith("/data.pkl")), key=len)
    folder = index.removesuffix("data.pkl")

    def content(name: str) -> bytes:
        member = members[name]
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 or member.file_size > size:
            raise ImportModelError(f"the member {name[:80]!r} is compressed or encrypted, which PyTorch's are not")
        return archive.read(member)

    order = ">" if f"{folder}byteorder" in members and content(f"{folder}byteorder") == b"big" else "<"
    stored: dict[str, Storage] = {}

    def find(id: Any) -> Storage:
        kind, key = _storage_id(id)
        if key not in stored:
            place = next((p for p in (f"{folder}data/{key}", f"{folder}tensors/{key}") if p in members), None)
            if place is None:
                raise ImportModelError(f"storage {key[:40]!r} is not in the archive")
            stored[key] = Storage(kind, content(place), order)
        return stored[key]

    return _named_tensors(read_pickle(content(index)), find)


def read_legacy(file: BinaryIO) -> dict[str, Array]:
    """The tensors of a file of torch.save before version 1.6: pickles, then the storages one after the other."""
    size = os.fstat(file.fileno()).st_size
    stream = BytesIO(file.read(size))
    if read_pickle(stream) != _MAGIC_NUMBER or read_pickle(stream) != 1001:
        raise ImportModelError("a pickle, but none that torch.save wrote; other pickles are not read")
    system = read_pickle(stream)
    order = ">" if isinstance(system, dict) and system.get("little_endian") is False else "<"
    described = read_pickle(stream)
    keys = read_pickle(stream)
    if stream.tell() > MAX_BYTES or not isinstance(keys, list):
        raise ImportModelError("a broken checkpoint: no list of storages behind the pickles")
    kinds = {key: kind for id in _persistent(described) for kind, key in [_storage_id(id)]}
    stored: dict[str, Storage] = {}
    for key in map(str, keys):
        start = stream.read(8)
        width = _itemsize(kinds.get(key, "f4"))
        count = struct.unpack(f"{order}q", start)[0] if len(start) == 8 else -1
        data = stream.read(count * width) if 0 <= count * width <= size else b""
        if count < 0 or len(data) != count * width:
            raise ImportModelError(f"storage {key[:40]!r} is cut off")
        stored[key] = Storage(kinds.get(key, "f4"), data, order)

    def find(id: Any) -> Storage:
        _, key = _storage_id(id)
        if key not in stored:
            raise ImportModelError(f"storage {key[:40]!r} is not in the file")
        return stored[key]

    return _named_tensors(described, find)


def _storage_id(id: Any) -> tuple[str, str]:
    """The element type and the key of ('storage', type, key, place, count)."""
    if not isinstance(id, tuple) or len(id) < 5 or id[0] != "storage" or not isinstance(id[1], Name):
        raise ImportModelError(f"a tensor's storage is {str(id)[:60]}, expected what torch.save writes")
    kind = id[1].name.removesuffix("Storage")
    if kind != "Untyped" and kind not in _STORAGES:
        raise ImportModelError(f"a storage of type {id[1].name[:40]}; expected one of {', '.join(_STORAGES)}")
    return _STORAGES.get(kind, ""), str(id[2])


def _persistent(value: Any) -> Iterator[Any]:
    """What a described value says of the storages outside of the pickle."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        at = stack.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        if isinstance(at, Persistent):
            yield at.id
        stack.extend(_inside(at))


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Made):
        return [*value.args, value.state, *value.items, *(v for _, v in value.pairs)]
    return []


# --- tensors ------------------------------------------------------------------------------------------------------


def _named_tensors(value: Any, find: Find) -> dict[str, Array]:
    found: dict[str, Array] = {}
    _collect(value, "", find, found, [])
    return found


def _collect(value: Any, name: str, find: Find, found: dict[str, Array], path: list[int]) -> None:
    """Tensors by their dotted names. What contains itself is entered once."""
    if len(path) > MAX_DEPTH or id(value) in path:
        return
    tensor = _tensor(value, name, find)
    if tensor is not None:
        if name in found or len(found) >= MAX_TENSORS:
            raise ImportModelError(f"tensor {name[:80]!r} is there twice, or there are more than {MAX_TENSORS}")
        found[name] = tensor
        return
    for key, inner in _children(value):
        if isinstance(key, str | int):
            _collect(inner, f"{name}.{key}" if name else str(key), find, found, [*path, id(value)])


def _children(value: Any) -> list[tuple[Any, Any]]:
    """The parts of a value by name: of dicts, lists, and of the states of objects."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if not isinstance(value, Made):
        return []
    if str(value.function) in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return []
    pairs = list(value.pairs)
    if str(value.function) == "collections.OrderedDict" and value.args and isinstance(value.args[0], list):
        pairs += [tuple(p) for p in value.args[0] if isinstance(p, list | tuple) and len(p) == 2]
    elif isinstance(value.state, dict):
        pairs += _module_state(value.state)
    return pairs


def _module_state(state: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """An object's attributes; of a torch.nn.Module its parameters, buffers and children, as state_dict names them."""
    inner = [state.get(n) for n in ("_parameters", "_buffers", "_modules")]
    if all(v is None for v in inner):
        return list(state.items())
    return [pair for v in inner if v is not None for pair in _children(v)]


def _tensor(value: Any, name: str, find: Find) -> Array | None:
    """The array of a described tensor; None for everything else."""
    for _ in range(4):  # parameters and subclasses around a tensor
        if not isinstance(value, Made):
            return None
        function = str(value.function)
        if function in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state") and value.args:
            value = value.args[0]
        elif function == "torch._tensor._rebuild_from_type_v2" and len(value.args) >= 3:
            value = Made(value.args[0], value.args[2] if isinstance(value.args[2], tuple) else ())
        else:
            break
    where = f"tensor {name[:80]!r}"
    known = {"_rebuild_tensor": 4, "_rebuild_tensor_v2": 4, "_rebuild_tensor_v3": 7}
    short = function.removeprefix("torch._utils.")
    if short not in known:
        if short.startswith("_rebuild_") and short != "_rebuild_qtensor_v0":
            raise ImportModelError(f"{where} is made by {function[:60]}: quantized, sparse and nested tensors are not "
                                   "read")
        return None
    if len(value.args) < known[short] or not isinstance(value.args[0], Persistent):
        raise ImportModelError(f"{where} is broken")
    storage = find(value.args[0].id)
    dtype = storage.dtype
    if short == "_rebuild_tensor_v3":
        named = value.args[6]
        dtype = _DTYPES.get(named.name, "") if isinstance(named, Name) else ""
    if not dtype:
        raise ImportModelError(f"{where} has an unknown dtype")
    return _view(storage, dtype, value.args[1:4], where)


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bf16" else np.dtype(dtype).itemsize


def _view(storage: Storage, dtype: str, place: tuple[Any, ...], where: str) -> Array:
    """The array at (offset, size, stride) of a storage; read-only, and no copy unless it must be converted."""
    offset, size, stride = place
    shapes = all(isinstance(s, tuple) and all(type(d) is int and d >= 0 for d in s) for s in (size, stride))
    if type(offset) is not int or offset < 0 or not shapes or len(size) != len(stride) or len(size) > 32:
        raise ImportModelError(f"{where} has no place in its storage: {str(place)[:80]}")
    width = _itemsize(dtype)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if 0 not in size else 0
    count = 1
    for n in size:
        count *= n
    have = len(storage.data) // width
    if (last >= have and 0 not in size) or count > max(have, MAX_REPEATED):
        raise ImportModelError(f"{where} of shape {str(list(size))[:80]} reaches beyond its storage of {have} elements")
    kind = "u2" if dtype == "bf16" else dtype
    flat = np.frombuffer(storage.data, f"{storage.order}{kind}", have)
    if 0 in size:
        check_span(where, size, width)
        array: Array = np.zeros(size, flat.dtype)
    else:
        array = np.lib.stride_tricks.as_strided(flat[offset:], size, tuple(s * width for s in stride), writeable=False)
    if dtype == "bf16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
