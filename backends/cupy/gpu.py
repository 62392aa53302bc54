"""An NVIDIA GPU through CuPy: memory, cuBLAS in true f32, kernels as our own cubins, CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from rnngraph.backends.cupy.caps import DeviceCaps
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.cudnn.network import Network
from rnngraph.backends.cupy.cudnn.setting import Arrays, Recurrent, Setting
from rnngraph.backends.cupy.machine import Grid
from rnngraph.backends.cupy.nvrtc import cubin
from rnngraph.errors import CompileError, MissingExtraError
from rnngraph.ir import Array


class CupyModule:
    """A loaded cubin."""

    def __init__(self, image: bytes, stream: Any) -> None:
        from cupy.cuda.function import Module

        self.module = Module()
        self.module.load(image)
        self.stream = stream
        self.kernels: dict[str, Any] = {}

    def launch(self, kernel: str, grid: Grid, block: Grid, args: Sequence[np.generic | Array], shared: int = 0, *,
               cooperative: bool = False) -> None:
        """CompileError when a cooperative grid does not fit: it would wait for blocks that cannot start."""
        if kernel not in self.kernels:
            self.kernels[kernel] = self.module.get_function(kernel)
            self.kernels[kernel].max_dynamic_shared_size_bytes = max(shared, 48 << 10)
        function = self.kernels[kernel]
        if cooperative:
            from cupy.cuda import Device, driver

            each = driver.occupancyMaxActiveBlocksPerMultiprocessor(function.ptr, prod(block), shared)
            room = each * Device().attributes["MultiProcessorCount"]
            if room < prod(grid):
                raise CompileError(f"cupy: kernel {kernel} needs {prod(grid)} blocks at the same time, the GPU holds "
                                   f"{room}")
        function(grid, block, tuple(args), shared_mem=shared, stream=self.stream,
                 enable_cooperative_groups=cooperative)


class CupyDevice:
    """The current device of CuPy."""

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as e:
            raise MissingExtraError(f"the GPU backend needs CuPy (extra gpu-cuda13 or gpu-cuda12): {e}") from None
        self.xp: Any = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        device = cupy.cuda.Device()
        attributes, number = device.attributes, device.compute_capability
        self.caps = DeviceCaps(cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode(),
                               f"sm_{number}" + ("a" if number == "90" else ""), attributes["MultiProcessorCount"],
                               attributes["MaxSharedMemoryPerBlockOptin"], attributes["L2CacheSize"],
                               attributes["MaxRegistersPerMultiprocessor"])

    def build(self, source: Source) -> CupyModule:
        return CupyModule(cubin(source.text, self.caps.arch), self.stream)

    def address(self, array: Array) -> int:
        return int(array.data.ptr)  # type: ignore[attr-defined]

    def product(self, left: Array, right: Array, out: Array, *, add: bool) -> None:
        """cuBLAS has columns first: out' = right' left'."""
        from cupy.cuda import cublas, device

        (rows, k), lanes = left.shape, right.shape[1]
        handle = device.get_cublas_handle()
        cublas.setStream(handle, self.stream.ptr)
        one, beta = np.ones((), np.float32), np.full((), float(add), np.float32)
        f32 = 0  # CUDA_R_32F
        cublas.gemmEx(handle, cublas.CUBLAS_OP_N, cublas.CUBLAS_OP_N, lanes, rows, k, one.ctypes.data,
                      self.address(right), f32, lanes, self.address(left), f32, left.strides[0] // 4,
                      beta.ctypes.data, self.address(out), f32, lanes, cublas.CUBLAS_COMPUTE_32F_PEDANTIC,
                      cublas.CUBLAS_GEMM_DEFAULT)

    def rnn(self, setting: Setting, arrays: Arrays, weights: Array) -> Recurrent:
        return Network(setting, arrays, weights, self, self.stream.ptr)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Runs it on this device's stream each time."""
        def again() -> None:
            with self.stream:
                work()

        return again


@cache
def cupy_device() -> CupyDevice:
    """The device, opened once."""
    return CupyDevice()


__all__ = ["CupyDevice", "CupyModule", "cupy_device"]
