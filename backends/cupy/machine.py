"""What the backend asks of a GPU. Two answer: `gpu.CupyDevice`, and `shim.ShimDevice`, the CPU standing in for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from rnngraph.backends.cupy.caps import DeviceCaps
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.cudnn.setting import Arrays, Recurrent, Setting
from rnngraph.ir import Array

Grid = tuple[int, int, int]


class Module(Protocol):
    """Kernels that were built together."""

    def launch(self, kernel: str, grid: Grid, block: Grid, args: Sequence[np.generic | Array], shared: int = 0, *,
               cooperative: bool = False) -> None:
        """Start ``kernel``; an argument is a numpy scalar or a struct (a record of no dims), passed by value."""


class Device(Protocol):
    """Memory, kernels and products of one GPU. Work is done in the order in which it is asked for, within `building` or
    `calling` alone."""

    @property
    def caps(self) -> DeviceCaps:
        """What it can hold."""

    @property
    def xp(self) -> Any:
        """The namespace of its arrays: cupy, or numpy."""

    @property
    def place(self) -> Any:
        """Its memory as programs see it (`rnngraph.runtime.placed.Place`); None where it is the host's."""

    def build(self, source: Source) -> Module:
        """Compile; CompileError with the compiler's words when that fails."""

    def building(self) -> AbstractContextManager[None]:
        """While memory is filled that calls will use: other threads wait."""

    def calling(self) -> AbstractContextManager[None]:
        """During a call: what it does comes behind what the caller has asked for, and before what the caller asks for
        next. Other threads wait. DeviceError when the GPU fails."""

    def address(self, array: Array) -> int:
        """Of the first element."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array for the caller, before `calling`."""

    def copy(self, target: Array, source: Array) -> None:
        """Into an array of the device, from one of it or of the host; dtypes are converted."""

    def fetch(self, array: Array) -> Array:
        """A new array of the host that holds the same when `finish` has returned."""

    def finish(self) -> None:
        """Wait until all that was asked for is done; outside of `calling`."""

    def clear(self, array: Array) -> None:
        """Zero."""

    def product(self, left: Array, right: Array, out: Array, *, add: bool, precision: str = "f32") -> None:
        """out = left @ right, or out += ...: f32 matrices with lanes side by side and any row stride. Precision "tf32"
        rounds factors to 10 bits of mantissa; for "bf16" they are given as their 16 bits (uint16). Sums are f32."""

    def rnn(self, setting: Setting, arrays: Arrays, weights: Array) -> Recurrent:
        """cuDNN's network for a setting on memory of this device; weights as `WeightSpace` packs them, on the host.
        CompileError for what cuDNN does not do."""

    def record(self, work: Callable[[], None], launches: int) -> Callable[[], None]:
        """What does ``work``, of about ``launches`` launches, again: their arguments stay, and it does nothing else.
        Its text says how."""


__all__ = ["Device", "Grid", "Module"]
