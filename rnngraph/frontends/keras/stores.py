"""Where the arrays of a model are: in a live Keras model, in an HDF5 file of Keras 2, in one of Keras 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.keras.variables import Variables, old_order
from rnngraph.ir import Array
from rnngraph.weights.files.hdf5 import Dataset, Group


class Store(Protocol):
    """The arrays of the layers of a model."""

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """The shapes of a layer's arrays in order, where they are in one list; else nothing."""

    def groups(self, name: str, place: str, variables: Sequence[Variables]) -> list[list[Array]]:
        """The arrays of a layer (its name, and its place in a file of Keras 3), one list for each of ``variables``."""


class Lists:
    """Arrays in one list a layer: of a live model, in the order of ``layer.weights``; of an HDF5 file of Keras 2, those
    that are trained first (``old``)."""

    def __init__(self, arrays: Mapping[str, Sequence[Array]], old: bool) -> None:
        self.arrays = arrays
        self.old = old

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        return [a.shape for a in self.arrays.get(name, ())]

    def groups(self, name: str, place: str, variables: Sequence[Variables]) -> list[list[Array]]:
        given = list(self.arrays.get(name, ()))
        order = old_order(variables) if self.old else [(g, i) for g, v in enumerate(variables)
                                                       for i in range(len(v.targets))]
        if len(given) != len(order):
            raise ImportModelError(f"layer {name!r}: expected {len(order)} arrays of weights, got {len(given)}, of "
                                   f"shapes {[list(a.shape) for a in given]}")
        found: list[list[Array]] = [[np.zeros(())] * len(v.targets) for v in variables]
        for (g, i), array in zip(order, given, strict=True):
            found[g][i] = array
        return found


    def named(self, names: Sequence[str]) -> Lists:
        """The same for layers of these names, those with weights in order: as they are, where the file has them all,
        else taken by order."""
        stored = [name for name, arrays in self.arrays.items() if arrays]
        if set(names) <= set(stored):
            return self
        if len(stored) != len(names):
            raise ImportModelError(f"the model has {len(names)} layers with weights ({', '.join(names)[:200]}), the "
                                   f"file {len(stored)} ({', '.join(stored)[:200]})")
        return Lists({name: self.arrays[other] for name, other in zip(names, stored, strict=True)}, self.old)


class Tree:
    """The file model.weights.h5 of Keras 3: a group for each object, in which ``vars`` holds its arrays by number."""

    def __init__(self, root: Group) -> None:
        self.root = root
        self.layers = next((n for n in ("layers", "_layer_checkpoint_dependencies") if n in root), "layers")

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        return []

    def groups(self, name: str, place: str, variables: Sequence[Variables]) -> list[list[Array]]:
        return [self._group(name, f"{place}/{v.place}" if v.place else place, len(v.targets)) for v in variables]

    def _group(self, name: str, place: str, count: int) -> list[Array]:
        path = f"{place.replace('layers', self.layers)}/vars"
        if count == 0:
            return []
        if path not in self.root:
            raise ImportModelError(f"layer {name!r}: the file of weights has no {path!r}")
        group = self.root.group(path)
        if len(group.names) != count:
            raise ImportModelError(f"layer {name!r}: expected {count} arrays in {path!r}, got {len(group.names)}")
        return [_array(group.dataset(str(i))) for i in range(count)]


def _array(dataset: Dataset) -> Array:
    """The numbers; bfloat16, which stands as raw 16 bits, as float32."""
    array = dataset.read()
    kind = dataset.attrs.get("dtype")
    if kind is not None and kind.shape == () and kind[()] == "bfloat16":
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array


def old_file(root: Group) -> Lists:
    """The arrays of an HDF5 file of Keras 2, or in its manner: by layer_names and weight_names."""
    weights = root.group("model_weights") if "model_weights" in root and "layer_names" not in root.attrs else root
    found: dict[str, list[Array]] = {}
    for name in texts(weights, "layer_names"):
        if name in found:
            raise ImportModelError(f"layer_names has {name[:80]!r} twice")
        group = weights.group(name)
        found[name] = [group.dataset(path).read() for path in texts(group, "weight_names")]
    return Lists(found, old=True)


def texts(group: Group, name: str) -> list[str]:
    """An attribute that is a list of names; a long one is split: name0, name1, ..."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
        if not parts:
            raise ImportModelError(f"the group {group.path!r} has no attribute {name!r}: these are no weights of Keras")
    found = [v for part in parts for v in np.ravel(part).tolist()]
    if not all(isinstance(v, str) for v in found):
        raise ImportModelError(f"the attribute {name!r} of {group.path!r} is no list of names")
    return found
