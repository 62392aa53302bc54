"""The arrays of a segment on the device."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

import numpy as np

from rnngraph.backends.cupy.machine import Device
from rnngraph.errors import CompileError
from rnngraph.ir import BOOL, F32, Array, Dims, Value, resolve
from rnngraph.ir.ops import ConstAttrs


class Constants:
    """What all plans of a segment read and none writes, on the device: constants and packed weights, by a key."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.found: dict[Hashable, Array] = {}

    def get(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """The array of ``key``; ``make`` makes it on the host when it is first asked for."""
        if key not in self.found:
            self.found[key] = self.device.xp.asarray(make())
        return self.found[key]


class Values:
    """The array of every value of a segment on the device. Bools are the f32 numbers 0 and 1, as kernels have them."""

    def __init__(self, device: Device, dims: Dims, constants: Constants) -> None:
        self.device = device
        self.dims = dims
        self.constants = constants
        self.found: dict[Value, Array] = {}

    def get(self, v: Value) -> Array:
        """The array of a value; constants are brought to the device when they are first asked for."""
        if v not in self.found:
            if v.op is None or not isinstance(v.op.attrs, ConstAttrs):
                raise CompileError(f"cupy: no array for value %{v.hint} of type {v.type}")
            self.found[v] = self.constants.get(v, partial(held, v.op.attrs.value.array))
        return self.found[v]

    def make(self, v: Value) -> Array:
        """A new array for a value, which a call writes before it reads it."""
        dtype = F32 if v.type.dtype is BOOL else v.type.dtype
        made = self.device.xp.empty if dtype.is_float else self.device.xp.zeros  # it may be indices
        self.found[v] = made(resolve(v.shape, self.dims), dtype.numpy)
        return self.found[v]


def held(array: Array) -> Array:
    """An array as the device holds it."""
    return array.astype(np.float32) if array.dtype == np.bool_ else np.array(array, order="C")


def host(device: Device, array: Array) -> Array:
    """A value's array where Python can look at it."""
    return array if device.place is None else device.place.host(array)


__all__ = ["Constants", "Values", "held", "host"]
