"""cuBLAS by ctypes: products on one stream, with a workspace of our own, so that CUDA graphs can hold them.

CuPy's binding has no cublasSetWorkspace, and its gemmEx sets CuPy's current stream every time, which takes a workspace
away again; cuBLAS would then allocate while a graph is captured. Signatures are those of ``cublas_api.h``; the tests
compare them with that file where it is installed.
"""

from __future__ import annotations

import ctypes
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from rnngraph.errors import CompileError, MissingExtraError

P, INT, SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
OP_N, OP_T, R_32F, R_16BF, GEMM_DEFAULT = 0, 1, 0, 14, -1
COMPUTE_32F, COMPUTE_32F_PEDANTIC, COMPUTE_32F_FAST_TF32 = 68, 69, 77
KINDS = {"f32": (R_32F, COMPUTE_32F_PEDANTIC), "tf32": (R_32F, COMPUTE_32F_FAST_TF32), "bf16": (R_16BF, COMPUTE_32F)}
WORKSPACE = 32 << 20  # bytes, as NVIDIA recommends for Hopper

SIGNATURES: MappingProxyType[str, tuple[Any, ...]] = MappingProxyType({
    "cublasCreate_v2": (ctypes.POINTER(P),), "cublasDestroy_v2": (P,), "cublasSetStream_v2": (P, P),
    "cublasSetWorkspace_v2": (P, P, SIZE),
    # ops of A and B, m, n, k, alpha; address, type and columns' distance of A and B; beta; of C; compute, algorithm
    "cublasGemmEx": (P, INT, INT, INT, INT, INT, P, P, INT, INT, P, INT, INT, P, P, INT, INT, INT, INT),
})


def paths(cuda: int) -> list[str]:
    """Where cuBLAS of CUDA ``cuda`` (12, 13) may be: where CUDA's own finder says, or where the loader looks."""
    found = [f"libcublas.so.{cuda}"]
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        found.insert(0, str(load_nvidia_dynamic_lib("cublas").abs_path))
    except (ImportError, RuntimeError, OSError):
        pass  # an older CuPy comes without the finder, and the finder raises a RuntimeError for what it does not find
    return found


@cache
def library(cuda: int) -> Any:
    """The library with its signatures; MissingExtraError when there is none."""
    for path in paths(cuda):
        try:
            loaded = ctypes.CDLL(path)
        except OSError:
            continue
        for name, arguments in SIGNATURES.items():
            function = getattr(loaded, name)
            function.argtypes, function.restype = arguments, INT
        return loaded
    raise MissingExtraError(f"the GPU backend needs cuBLAS, and libcublas.so.{cuda} was not found; the extras "
                            f"gpu-cuda13 and gpu-cuda12 of rnngraph bring it: pip install rnngraph[gpu-cuda{cuda}]")


class Blas:
    """Products on the stream at ``stream``; ``workspace``: the address of `WORKSPACE` bytes that nothing else uses."""

    def __init__(self, loaded: Any, stream: int, workspace: int) -> None:
        self.loaded = loaded
        handle = P()
        _checked("cublasCreate", loaded.cublasCreate_v2(ctypes.byref(handle)))
        self.handle = handle
        _checked("cublasSetStream", loaded.cublasSetStream_v2(handle, stream))  # first: it takes a workspace away
        _checked("cublasSetWorkspace", loaded.cublasSetWorkspace_v2(handle, workspace, WORKSPACE))
        self.one, self.zero = np.ones((), np.float32), np.zeros((), np.float32)
        self.factors = {True: int(self.one.ctypes.data), False: int(self.zero.ctypes.data)}

    def product(self, left: int, left_stride: int, right: int, out: int, sizes: tuple[int, int, int], *,
                add: bool, precision: str = "f32") -> None:
        """out[rows, lanes] = left[rows, k] @ right[k, lanes], or += with ``add``, in true f32, in TF32, or of factors
        that are bf16; ``sizes`` are rows, k and lanes, ``left_stride`` the numbers from row to row. cuBLAS has columns
        first: out' = right' left'."""
        kind, compute = KINDS[precision]
        rows, k, lanes = sizes
        if rows > 1 and left_stride < k:
            raise CompileError(f"cupy: rows of a product's left side overlap: they are {left_stride} numbers apart and "
                               f"{k} long")
        _checked("cublasGemmEx", self.loaded.cublasGemmEx(
            self.handle, OP_N, OP_N, lanes, rows, k, self.factors[True], right, kind, lanes, left, kind,
            max(left_stride, k), self.factors[add], out, R_32F, lanes, compute, GEMM_DEFAULT))


def _checked(what: str, status: int) -> None:
    if status:
        raise CompileError(f"cupy: {what} failed with status {status}")


__all__ = ["SIGNATURES", "WORKSPACE", "Blas", "library", "paths"]
