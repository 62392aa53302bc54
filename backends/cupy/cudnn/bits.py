"""bf16 as its bits, for arrays of numpy or CuPy: converted in place of memory made before, so that a call allocates
nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnngraph.ir import Array


class Bf16:
    """Converts arrays of one shape."""

    def __init__(self, xp: Any, shape: tuple[int, ...]) -> None:
        self.xp = xp
        self.wide: Array = xp.zeros(shape, np.float32)
        self.sums: Array = xp.zeros(shape, np.uint32)
        self.flags: Array = xp.zeros(shape, np.bool_)

    def narrow(self, source: Array, target: Array) -> None:
        """The bits of f32 numbers rounded to nearest even; NaN stays NaN."""
        xp, sums = self.xp, self.sums
        self.wide[...] = source
        bits = self.wide.view(np.uint32)
        xp.right_shift(bits, 16, out=sums)
        xp.bitwise_and(sums, 1, out=sums)
        xp.add(sums, 0x7FFF, out=sums)
        xp.add(sums, bits, out=sums)
        xp.right_shift(sums, 16, out=sums)
        xp.isnan(self.wide, out=self.flags)
        bits[...] = self.flags
        xp.multiply(bits, 0x7FFF, out=bits)
        xp.bitwise_or(sums, bits, out=sums)
        target[...] = sums

    def widen(self, source: Array, target: Array) -> None:
        """f32 numbers from bits."""
        self.sums[...] = source
        self.xp.left_shift(self.sums, 16, out=self.sums)
        target[...] = self.sums.view(np.float32)


__all__ = ["Bf16"]
