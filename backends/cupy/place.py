"""The memory of a GPU as programs see it: CuPy's arrays, and those of other libraries through DLPack."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import Array

CUDA, CUDA_MANAGED = 2, 13  # device types of DLPack


class CupyPlace:
    """Of the GPU ``number``; arrays are used in the order of CuPy's current stream."""

    def __init__(self, xp: Any, number: int) -> None:
        self.xp = xp
        self.number = number

    def holds(self, value: object) -> bool:
        """Whether it is an array on a GPU: CuPy's, or one that DLPack or __cuda_array_interface__ hands over."""
        if isinstance(value, np.ndarray):
            return False
        if isinstance(value, self.xp.ndarray):
            return True
        where = getattr(value, "__dlpack_device__", None)
        if where is not None:
            try:
                return where()[0] in (CUDA, CUDA_MANAGED)
            except (BufferError, RuntimeError, TypeError, ValueError):
                return False  # it lies where no other library can read it
        return getattr(value, "__cuda_array_interface__", None) is not None

    def adopt(self, value: Any) -> Array:
        """What `holds` as an array of CuPy's, without a copy but for PyTorch's bf16, which become f32. InputError for
        an array of another GPU."""
        torch: Any = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            value = value.detach().to_dense() if value.is_sparse else value.detach().resolve_conj().resolve_neg()
            value = value.float() if value.dtype is torch.bfloat16 else value
        if not isinstance(value, self.xp.ndarray):
            dlpack = hasattr(value, "__dlpack__")
            value = self.xp.from_dlpack(value) if dlpack else self.xp.asarray(value)
        if value.device.id != self.number:
            raise InputError(f"expected arrays on GPU {self.number}, where the model runs, got one on GPU "
                             f"{value.device.id}")
        found: Array = value
        return found

    def bring(self, array: Array) -> Array:
        """A copy of a host array."""
        with self.xp.cuda.Device(self.number):
            found: Array = self.xp.array(array)
        return found

    def host(self, array: Any) -> Array:
        """A copy on the host."""
        found: Array = array.get()
        return found

    def settle(self, values: Iterable[object]) -> None:
        """Let those who own ``values`` overwrite them: nothing that was asked for will read them later. CuPy's own
        stream has been told; PyTorch's is told here; for others we wait, as no protocol tells theirs."""
        torch: Any = sys.modules.get("torch")
        done = None
        for value in values:
            if isinstance(value, self.xp.ndarray) or not self.holds(value):
                continue
            done = done or self.xp.cuda.get_current_stream().record()
            if torch is not None and isinstance(value, torch.Tensor):
                pointer = torch.cuda.current_stream(value.device).cuda_stream
                self.xp.cuda.ExternalStream(pointer).wait_event(done)
            else:
                done.synchronize()


__all__ = ["CupyPlace"]
