"""A device whose memory holds NaN before the first call: what is read before it is written shows in the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rnngraph.backends.cupy.machine import Device


class WatchedMemory:
    """numpy or CuPy, which remembers what `zeros` and `empty` have made."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.made: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.xp, name)

    def zeros(self, *args: Any, **options: Any) -> Any:
        return self._keep(self.xp.zeros(*args, **options))

    def empty(self, *args: Any, **options: Any) -> Any:
        return self._keep(self.xp.empty(*args, **options))

    def _keep(self, array: Any) -> Any:
        self.made.append(array)
        return array


class Poisoned:
    """A device in all but its floats: when a plan is ready to run (`record`) all that was made for it becomes NaN.
    ``floats`` counts them."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.xp = WatchedMemory(device.xp)
        self.floats = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def record(self, work: Callable[[], None], launches: int) -> Callable[[], None]:
        for array in self.xp.made:
            if array.dtype.kind == "f":
                array[...] = np.nan
                self.floats += array.size
        self.xp.made.clear()
        return self._device.record(work, launches)


def poison_pool(xp: Any, megabytes: int) -> None:
    """Fill CuPy's pool with NaN: what is allocated next without being cleared (cuDNN's workspace too) holds it."""
    if xp is np:
        return
    blocks = [xp.full(n << 18, np.nan, np.float32) for n in (megabytes, megabytes // 4, 1, 1)]
    del blocks  # back to the pool, not to the driver


__all__ = ["Poisoned", "WatchedMemory", "poison_pool"]
