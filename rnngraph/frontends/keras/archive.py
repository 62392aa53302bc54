"""The files of Keras: what is in them, read without running or unpickling anything."""

from __future__ import annotations

import json
import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.keras.stores import Store, Tree, old_file
from rnngraph.weights.files.hdf5 import Group, open_hdf5

MAX_JSON = 64 * 2**20
ROOM = 64 * 2**20  # bytes that any archive may unpack to
RATIO = 100  # and beside them, bytes per byte of the archive
# what the readers of the standard library raise for a broken archive
BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError, KeyError,
          OverflowError)


@dataclass(frozen=True, slots=True)
class Saved:
    """A model's configuration (None: only weights), the major version of Keras that wrote it, and its arrays."""

    config: Mapping[str, Any] | None
    keras: int
    store: Store


def read_json(text: str | bytes, what: str) -> Any:
    """JSON; ImportModelError where it is none, or too much."""
    if len(text) > MAX_JSON:
        raise ImportModelError(f"{what} has {len(text)} bytes; {MAX_JSON} are the most that is read")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ImportModelError(f"{what} is no JSON: {str(e)[:80]}") from None


def model_config(text: str | bytes, what: str) -> Mapping[str, Any]:
    """The configuration of a model; a bare list of layers, as of Keras 1, is a Sequential."""
    found = read_json(text, what)
    if isinstance(found, list):
        return {"class_name": "Sequential", "config": {"layers": found}}
    if not isinstance(found, dict):
        raise ImportModelError(f"{what} is no configuration of a model")
    return found


def major(version: object, otherwise: int) -> int:
    """2 of "2.13.1", 3 of "3.15.1"."""
    head = str(version).split(".", 1)[0]
    return int(head) if head.isdigit() and len(head) < 3 else otherwise


def read_file(path: Path) -> Saved:
    """A .keras archive or an HDF5 file; the content decides which."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ImportModelError(e.strerror or str(e)) from None
    if data[:2] == b"PK":
        return _archive(path, len(data))
    return _hdf5(open_hdf5(data))


def _hdf5(root: Group) -> Saved:
    attrs = root.attrs
    if "layer_names" not in attrs and "layer_names0" not in attrs and "model_weights" not in root:
        if "layers" in root or "_layer_checkpoint_dependencies" in root or "vars" in root:
            return Saved(None, 3, Tree(root))
    weights = root.group("model_weights") if "model_weights" in root else root
    version = attrs.get("keras_version", weights.attrs.get("keras_version", "1"))
    config = attrs.get("model_config")
    if config is not None and (config.shape != () or not isinstance(config[()], str)):
        raise ImportModelError("the attribute model_config is no text")
    return Saved(None if config is None else model_config(config[()], "the attribute model_config"),
                 major(version, 2), old_file(root))


def _archive(path: Path, size: int) -> Saved:
    try:
        with zipfile.ZipFile(path) as archive:
            return _members(archive, size)
    except BROKEN as e:
        raise ImportModelError(f"a broken archive: {str(e)[:100]}") from None


def _members(archive: zipfile.ZipFile, size: int) -> Saved:
    names = set(archive.namelist())
    if "config.json" not in names:
        raise ImportModelError("an archive without config.json is no model of Keras")
    if "model.weights.h5" not in names:
        raise ImportModelError("the archive has no model.weights.h5; weights in several files (shards) or as .npz are "
                               "not read")
    room = [ROOM + RATIO * size]
    metadata = read_json(_member(archive, "metadata.json", room), "metadata.json") if "metadata.json" in names else {}
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    config = model_config(_member(archive, "config.json", room), "config.json")
    return Saved(config, major(version, 3), Tree(open_hdf5(_member(archive, "model.weights.h5", room))))


def _member(archive: zipfile.ZipFile, name: str, room: list[int]) -> bytes:
    """A file of the archive; no more is unpacked than there is room for."""
    with archive.open(name) as file:
        data = file.read(room[0] + 1)
    room[0] -= len(data)
    if room[0] < 0:
        raise ImportModelError(f"{name} unpacks to more than the archive can hold")
    return data
