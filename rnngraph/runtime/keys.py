"""Arrays as parts of a dict's key, by their bytes: NaN is the same as itself, and 0.0 is not -0.0."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from rnngraph.ir import Array

MAX_HASHED = 1024  # bytes of an array that are hashed


class Large:
    """An array that is hashed by a sample of its bytes; equal ones are found by comparing all of them, which takes a
    tenth of hashing them."""

    __slots__ = ("array", "hash")

    def __init__(self, array: Array) -> None:
        self.array = np.ascontiguousarray(array)
        flat = self.array.reshape(-1)
        self.hash = hash((self.array.shape, flat[:: array.nbytes // MAX_HASHED].tobytes()))

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Large) or self.hash != other.hash or self.array.shape != other.array.shape:
            return False
        first, second = (x.array.reshape(-1).view(np.uint8) for x in (self, other))
        if self.array.nbytes % 8 or first.ctypes.data % 8 or second.ctypes.data % 8:
            return np.array_equal(first, second)
        return np.array_equal(first.view(np.uint64), second.view(np.uint64))


def key_of(array: Array) -> Hashable:
    """The array as a part of a key among arrays of one dtype. A large one is not copied: see `kept`."""
    return (array.shape, array.tobytes()) if array.nbytes <= MAX_HASHED else Large(array)


def kept(key: Hashable) -> Hashable:
    """The same part, with nothing in it that its owner could change."""
    return Large(key.array.copy()) if isinstance(key, Large) else key
