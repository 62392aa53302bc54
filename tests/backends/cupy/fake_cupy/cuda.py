"""CuPy's modules of CUDA: kernels run through the stand-in's library, with the limits that CUDA checks."""

from __future__ import annotations

import ctypes
import re
import warnings
from collections.abc import Sequence
from math import prod
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np

from rnngraph.backends.cupy.caps import SHIM_CAPS
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.shim import FACTORS, ShimDevice
from tests.backends.cupy.fake_cupy.array import ndarray
from tests.backends.cupy.fake_cupy.stream import CUDARuntimeError, Stream, current

STATIC_SHARED = 48 << 10
THREADS = 2048  # of a multiprocessor
functions: dict[int, Function] = {}


class CUDADriverError(RuntimeError):
    """As CuPy raises it."""


class OutOfMemoryError(MemoryError):
    """As CuPy raises it."""


class NVRTCError(RuntimeError):
    """As CuPy raises it."""


class Module:
    """Its "cubin" is the source."""

    order = 0  # of the threads

    def __init__(self) -> None:
        self.built: Any = None

    def load(self, cubin: bytes) -> None:
        current().no_capture("the loading of a module")
        text = cubin.decode()
        self.built = ShimDevice(self.order).build(Source(text, tuple(re.findall(r"RG_KERNEL (\w+)\(", text))))

    def get_function(self, name: str) -> Function:
        return Function(self, name)


class Function:
    """A kernel."""

    def __init__(self, module: Module, funcname: str) -> None:
        self.module = module
        self.name = funcname
        self.ptr = 0x1000 + len(functions)
        self.shared = STATIC_SHARED
        functions[self.ptr] = self

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("module", "name", "ptr", "shared"):
            raise AttributeError(f"'cupy.cuda.function.Function' object has no attribute {name!r}")
        super().__setattr__(name, value)

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0,
                 stream: Stream | None = None, enable_cooperative_groups: bool = False) -> None:
        grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        if shared_mem > self.shared:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: dynamic shared memory was not asked for")
        if enable_cooperative_groups:
            most = occupancyMaxActiveBlocksPerMultiprocessor(self.ptr, prod(block), shared_mem) * SHIM_CAPS.sms
            if prod(grid) > most:
                warnings.warn(f"The grid size will be reduced from {grid[0]} to {most}", stacklevel=2)
                grid = (most, *grid[1:])
        packed = [_packed(a) for a in args]

        def work() -> None:
            self.module.built.launch(self.name, grid, block, packed, shared_mem, cooperative=enable_cooperative_groups)
        (stream or current()).put(work)


def _packed(x: Any) -> Any:
    if isinstance(x, ndarray):
        return np.int64(x.data.ptr)
    if isinstance(x, np.ndarray):
        if x.size != 1:
            raise TypeError(f"You are trying to pass a numpy.ndarray of shape {x.shape} as a kernel parameter.")
        return x.copy()  # a launch takes the value of now
    if not isinstance(x, np.generic):
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def occupancyMaxActiveBlocksPerMultiprocessor(func: int, blockSize: int, dynamicSMemSize: int) -> int:
    assert functions[func]
    return min(THREADS // blockSize, SHIM_CAPS.shared // (dynamicSMemSize + 1024))


def funcSetAttribute(f: int, attribute: int, value: int) -> None:
    assert attribute == 8
    if value > SHIM_CAPS.shared:
        raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
    current().no_capture("an attribute of a function")
    functions[f].shared = value


class Device:
    """The only one."""

    id = 0
    compute_capability = "90"
    attributes = MappingProxyType({"MultiProcessorCount": SHIM_CAPS.sms, "MaxRegistersPerMultiprocessor": 65536,
                                   "MaxSharedMemoryPerBlockOptin": SHIM_CAPS.shared, "L2CacheSize": 50 << 20})

    def __init__(self, number: int = 0) -> None:
        assert number == 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        """It stays."""


def getDeviceProperties(device: int) -> dict[str, Any]:
    return {"name": b"a double of a GPU"}


def runtimeGetVersion() -> int:
    return 13000


# --- cuBLAS by ctypes -------------------------------------------------------------------------------------------------


class Cublas:
    """What `rnngraph.backends.cupy.blas.library` returns."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.workspaces: dict[int, int] = {}
        self.calls = 0

    def cublasCreate_v2(self, handle: Any) -> int:
        current().no_capture("cublasCreate")
        handle._obj.value = 0x77 + len(self.streams)
        self.streams[handle._obj.value] = Stream.null
        return 0

    def cublasSetStream_v2(self, handle: Any, stream: int) -> int:
        self.streams[handle.value] = Stream.known[stream]
        self.workspaces.pop(handle.value, None)
        return 0

    def cublasSetWorkspace_v2(self, handle: Any, address: int, size: int) -> int:
        assert address % 256 == 0 or size
        self.workspaces[handle.value] = address
        return 0

    def cublasGemmEx(self, handle: Any, opa: int, opb: int, m: int, n: int, k: int, alpha: int, a: int, atype: int,
                     lda: int, b: int, btype: int, ldb: int, beta: int, c: int, ctype: int, ldc: int, compute: int,
                     algorithm: int) -> int:
        kinds = {(0, 69): "f32", (0, 77): "tf32", (14, 68): "bf16"}
        known = (opa, opb, atype, ctype) == (0, 0, btype, 0) and (atype, compute) in kinds
        if not known or lda < m or ldb < k or ldc < m:
            return 7  # CUBLAS_STATUS_INVALID_VALUE
        stream = self.streams[handle.value]
        one, add = (ctypes.c_float.from_address(p).value for p in (alpha, beta))
        if handle.value not in self.workspaces:
            stream.no_capture("an allocation of cuBLAS")
        number = ctypes.c_uint16 if atype == 14 else ctypes.c_float
        left, right = _columns(b, ldb, n, k, number), _columns(a, lda, k, m, number)
        out, factor = _columns(c, ldc, n, m), FACTORS[kinds[atype, compute]]

        def work() -> None:
            product = one * (factor(left) @ factor(right))
            out[...] = product + add * out if add else product
        self.calls += 1
        stream.put(work)
        return 0


def _columns(address: int, stride: int, count: int, rows: int, number: Any = ctypes.c_float) -> np.ndarray[Any, Any]:
    """A matrix in cuBLAS's order, transposed: ``count`` columns of ``rows`` numbers, ``stride`` numbers apart."""
    whole = np.ctypeslib.as_array((number * ((count - 1) * stride + rows)).from_address(address))
    size = ctypes.sizeof(number)
    return np.lib.stride_tricks.as_strided(whole, (count, rows), (size * stride, size))


__all__ = ["CUDADriverError", "CUDARuntimeError", "Cublas", "Device", "Function", "Module", "NVRTCError"]
