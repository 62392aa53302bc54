"""The stand-in for a GPU: memory is numpy's, kernels are built by g++ and run by `cuda/shim.h`, fibers for threads.

For tests and for machines without a GPU; see `cuda/shim.h` for what it finds. ``order`` is that of the threads:
0 forwards, 1 backwards, anything else a random one.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rnngraph.backends.cupy.caps import SHIM_CAPS
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.machine import Grid
from rnngraph.errors import CompileError
from rnngraph.ir import Array

HEADERS = Path(__file__).resolve().parent / "cuda"
FLAGS = ("-O1", "-std=c++17", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-DRG_SHIM", "-x", "c++", "-fPIC", "-shared")


class ShimModule:
    """A library that g++ has built."""

    def __init__(self, library: ctypes.CDLL, order: int) -> None:
        self.library = library
        self.order = order

    def launch(self, kernel: str, grid: Grid, block: Grid, args: Sequence[np.generic | Array], shared: int = 0, *,
               cooperative: bool = False) -> None:
        """CompileError when the kernel hangs or diverges."""
        arrays = [np.asarray(a) for a in args]
        pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        message = ctypes.create_string_buffer(200)
        status = self.library.rg_launch(kernel.encode(), *grid, *block, ctypes.c_size_t(shared), pointers,
                                        ctypes.c_uint(self.order), message, ctypes.c_size_t(len(message)))
        if status:
            raise CompileError(f"cupy (shim): kernel {kernel}: {message.value.decode()}")


class ShimDevice:
    """See the module."""

    xp: Any = np
    caps = SHIM_CAPS

    def __init__(self, order: int = 0) -> None:
        self.order = order

    def build(self, source: Source) -> ShimModule:
        """CompileError without g++, or with what it says."""
        return ShimModule(_library(source), self.order)

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def product(self, left: Array, right: Array, out: Array, *, add: bool) -> None:
        if add:
            out += left @ right
        else:
            np.matmul(left, right, out=out)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        return work


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="rnngraph-shim-")


@cache
def _library(source: Source) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        raise CompileError("cupy (shim): g++ was not found; the stand-in for a GPU builds its kernels with it")
    table = f"RG_TABLE({', '.join(f'RG_ENTRY({k})' for k in source.kernels)})\n"
    text = f"{source.text}\n{table}"
    stem = Path(_folder().name) / hashlib.sha256(text.encode()).hexdigest()[:24]
    stem.with_suffix(".cu").write_text(text)
    command = [compiler, *FLAGS, f"-I{HEADERS}", str(stem.with_suffix(".cu")), "-o", str(stem.with_suffix(".so"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(f"cupy (shim): g++ refused a kernel:\n{done.stderr[:2000]}")
    return ctypes.CDLL(str(stem.with_suffix(".so")))


__all__ = ["ShimDevice", "ShimModule"]
