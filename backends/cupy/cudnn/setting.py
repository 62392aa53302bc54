"""What a device is asked for: a recurrent network of given sizes, and the memory that it works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rnngraph.backends.cupy.cudnn.abi import Algorithm
from rnngraph.backends.cupy.cudnn.weight_space import WeightSpace
from rnngraph.ir import BF16, Array, DType

BITS = np.dtype(np.uint16)  # numpy and CuPy have no bf16: arrays hold its bits


@dataclass(frozen=True, slots=True)
class Setting:
    """dtype         what x, y, states and weights are stored in
    tf32          whether f32 numbers may be multiplied as TF32
    batch_major   x and y are [B, T, features] in memory, else [T, B, features]
    """

    space: WeightSpace
    dtype: DType
    algorithm: Algorithm
    steps: int
    batch: int
    tf32: bool = False
    batch_major: bool = False

    @property
    def held(self) -> np.dtype[np.generic]:
        """The dtype of the arrays."""
        return BITS if self.dtype is BF16 else self.dtype.numpy

    def sequence(self, features: int) -> tuple[int, int, int]:
        """The shape of x or y in memory."""
        return (self.batch, self.steps, features) if self.batch_major else (self.steps, self.batch, features)


@dataclass(frozen=True, slots=True)
class Arrays:
    """The memory of a network, without gaps: x and y as the setting lays them out, states [layers * directions, B,
    features]; no cell states but those of an LSTM."""

    x: Array
    y: Array
    h0: Array
    h_n: Array
    c0: Array | None = None
    c_n: Array | None = None


class Recurrent(Protocol):
    """A network on its memory."""

    def run(self, lengths: Sequence[int] | None) -> None:
        """Start it. ``lengths``: of every row, 1 or more; None: all steps of all rows."""


__all__ = ["BITS", "Arrays", "Recurrent", "Setting"]
