"""A device whose new memory holds NaN: what is read before it is written shows in the result."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnngraph.backends.cupy.machine import Device

LARGE = 0x7F7F7F7F  # what integers begin with: no index, no length


class PoisonedMemory:
    """numpy or CuPy, whose `empty` gives NaN, or large integers. ``floats`` counts the NaN. `zeros` is what it says."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.floats = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def empty(self, *args: Any, **options: Any) -> Any:
        array = self.xp.empty(*args, **options)
        if array.dtype.kind == "f":
            array[...] = np.nan
            self.floats += array.size
        elif array.dtype.kind in "iu":
            array[...] = LARGE & np.iinfo(array.dtype).max
        return array


class Poisoned:
    """A device in all but its memory."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.xp = PoisonedMemory(device.xp)

    @property
    def floats(self) -> int:
        return self.xp.floats

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)


def poison_pool(xp: Any, megabytes: int) -> None:
    """Fill CuPy's pool with NaN: what is allocated next without being cleared (cuDNN's workspace too) holds it."""
    if xp is np:
        return
    blocks = [xp.full(n << 18, np.nan, np.float32) for n in (megabytes, megabytes // 4, 1, 1)]
    del blocks  # back to the pool, not to the driver


__all__ = ["Poisoned", "PoisonedMemory", "poison_pool"]
