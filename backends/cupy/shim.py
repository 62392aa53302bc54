"""The stand-in for a GPU: memory is numpy's, kernels are built by g++ and run by `cuda/shim.cpp`, fibers for threads.

For tests and for machines without a GPU; see `cuda/shim.h` for what it finds. ``order`` is that of the threads:
0 forwards, 1 backwards, anything else a random one. Libraries are kept in the cache of compiled objects, so that the
next process does not build them again.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from rnngraph.backends.cache import ObjectCache, default_directory, digest_of
from rnngraph.backends.cupy.caps import SHIM_CAPS
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.cudnn.model import ModelNetwork
from rnngraph.backends.cupy.cudnn.setting import Arrays, Recurrent, Setting
from rnngraph.backends.cupy.machine import Grid
from rnngraph.errors import CompileError
from rnngraph.ir import Array

LIMIT = 64 << 20  # bytes of libraries on disk
HEADERS = Path(__file__).resolve().parent / "cuda"
FLAGS = ("-std=c++17", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-DRG_SHIM", "-x", "c++", "-fPIC", "-shared", "-s")
_RUNNING = threading.Lock()  # the library of the fibers runs one launch at a time


def _from_bf16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _to_tf32(x: Array) -> Array:
    """To the nearest with 10 bits of mantissa, ties to even."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + 0xFFF + (bits >> 13 & 1)) & 0xFFFFE000).view(np.float32)


# what tensor cores make of factors
FACTORS: dict[str, Callable[[Array], Array]] = {"f32": np.asarray, "tf32": _to_tf32, "bf16": _from_bf16}


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
        with _RUNNING:
            status = self.library.rg_launch(kernel.encode(), *grid, *block, ctypes.c_size_t(shared), pointers,
                                            ctypes.c_uint(self.order), message, ctypes.c_size_t(len(message)))
        if status:
            raise CompileError(f"cupy (shim): kernel {kernel}: {message.value.decode()}")


class ShimDevice:
    """See the module."""

    xp: Any = np
    caps = SHIM_CAPS
    place = None  # its memory is the host's

    def __init__(self, order: int = 0) -> None:
        self.order = order

    def build(self, source: Source) -> ShimModule:
        """CompileError without g++, or with what it says."""
        return ShimModule(_library(source), self.order)

    def building(self) -> AbstractContextManager[None]:
        return nullcontext()

    def calling(self) -> AbstractContextManager[None]:
        return nullcontext()

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return np.empty(shape, dtype)

    def copy(self, target: Array, source: Array) -> None:
        target[...] = source

    def fetch(self, array: Array) -> Array:
        return array.copy()

    def finish(self) -> None:
        """All is done at once."""

    def clear(self, array: Array) -> None:
        array[...] = 0

    def product(self, left: Array, right: Array, out: Array, *, add: bool, precision: str = "f32") -> None:
        if len(left) > 1 and left.strides[0] < left.shape[1] * left.itemsize:  # as cuBLAS, which takes no such rows
            raise CompileError(f"cupy (shim): rows of a product's left side overlap: {left.strides[0]} bytes apart")
        left, right = FACTORS[precision](left), FACTORS[precision](right)
        if add:
            out += left @ right
        else:
            np.matmul(left, right, out=out)

    def rnn(self, setting: Setting, arrays: Arrays, weights: Array) -> Recurrent:
        return ModelNetwork(setting, arrays, weights)

    def record(self, work: Callable[[], None], launches: int) -> Callable[[], None]:
        return work


# --- building --------------------------------------------------------------------------------------------------------


@cache
def _library(source: Source) -> ctypes.CDLL:
    """A module's library, which finds the fibers' in the process."""
    _fibers()
    table = f"RG_TABLE({', '.join(f'RG_ENTRY({k})' for k in source.kernels)})\n"
    return _loaded(f"{source.text}\n{table}", ("-O1", *FLAGS))


@cache
def _fibers() -> ctypes.CDLL:
    return _loaded((HEADERS / "shim.cpp").read_text(), ("-O2", *FLAGS), ctypes.RTLD_GLOBAL)


def _loaded(text: str, flags: Sequence[str], mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL:
    """The library of a file of C++: from the cache of compiled objects, or built now and kept there."""
    compiler, version = _compiler()
    headers = [(HEADERS / name).read_text() for name in ("port.h", "shim.h")]
    key = digest_of(text, *headers, *flags, version, platform.machine())
    kept = _kept(default_directory())
    cached = kept.get(key)
    path = Path(tempfile.mkdtemp(dir=_folder().name)) / "kernels.so"  # never one that is loaded
    if cached is None:
        command = [compiler, *flags, f"-I{HEADERS}", "-", "-o", str(path)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompileError(f"cupy (shim): g++ refused a kernel:\n{done.stderr[:2000]}")
        kept.put(key, path.read_bytes())
    else:
        path.write_bytes(cached)
    return ctypes.CDLL(str(path), mode)


@cache
def _kept(directory: Path | None) -> ObjectCache:
    return ObjectCache(directory, LIMIT, ".so")


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where this process loads its libraries from."""
    return tempfile.TemporaryDirectory(prefix="rnngraph-shim-")


@cache
def _compiler() -> tuple[str, str]:
    """Its path, and what it says that it is."""
    path = shutil.which("g++")
    if path is None:
        raise CompileError("cupy (shim): g++ was not found; the stand-in for a GPU builds its kernels with it")
    return path, subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout


__all__ = ["FACTORS", "ShimDevice", "ShimModule"]
