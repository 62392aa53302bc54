"""What the tests of the LLVM backend share: the targets that run here, and calling a library's function."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnngraph.backends.llvm import cpu
from rnngraph.backends.llvm.jit import Library

F32 = NDArray[np.float32]


def targets() -> dict[str, cpu.CpuTarget]:
    """Every way of making code that this machine can execute, by name."""
    found = {level: cpu.target(level) for level in ("generic", "avx2", "avx512")
             if cpu.native_target().is_x86 or level == "generic"}
    found = {name: target for name, target in found.items() if cpu.runs_here(target)}
    # 16 lanes on narrower registers: LLVM splits the vectors, the numbers are those of AVX-512
    if "avx2" in found:
        found["avx2-w16"] = dataclasses.replace(found["avx2"], width=16)
    return found


TARGETS = targets()


def callable_at(library: Library, symbol: str, *kinds: Any) -> Callable[..., None]:
    """The void function at the symbol; arrays are passed as pointers to their data."""
    function = ctypes.CFUNCTYPE(None, *kinds)(library.address(symbol))

    def call(*args: Any) -> None:
        function(*(a.ctypes.data if isinstance(a, np.ndarray) else a for a in args))

    call.library = library  # type: ignore[attr-defined]  # the code lives as long as the library
    return call


def aligned(shape: tuple[int, ...]) -> F32:
    """A float32 array whose data starts on a 64-byte line, filled with NaN."""
    size = int(np.prod(shape))
    raw = np.empty(size * 4 + 64, np.uint8)
    start = -raw.ctypes.data % 64
    out = raw[start:start + size * 4].view(np.float32).reshape(shape)
    out[...] = np.nan
    return out
