"""An NVIDIA GPU through CuPy: memory, streams, kernels as our own cubins; cuBLAS and CUDA graphs. f32 is f32, not TF32.

All work is on one stream of the device's own. A call waits there for what CuPy's current stream has been given, and
that stream waits for the call, so that arrays may be written just before and read just after it; results are allocated
on the caller's stream, which alone decides when their memory is used again. The memory of plans belongs to the
device's stream.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any

import numpy as np

from rnngraph.backends.cupy.blas import WORKSPACE, Blas, library
from rnngraph.backends.cupy.caps import DeviceCaps
from rnngraph.backends.cupy.codegen.stage import Source
from rnngraph.backends.cupy.cudnn.network import Network
from rnngraph.backends.cupy.cudnn.setting import Arrays, Recurrent, Setting
from rnngraph.backends.cupy.graphs import Captured
from rnngraph.backends.cupy.machine import Grid
from rnngraph.backends.cupy.nvrtc import cubin
from rnngraph.backends.cupy.place import CupyPlace
from rnngraph.errors import CompileError, DeviceError, DeviceMemoryError, MissingExtraError
from rnngraph.ir import Array

STATIC_SHARED = 48 << 10  # bytes of dynamic shared memory that a kernel has without asking
NO_DRIVER = ("check that `nvidia-smi` lists the GPU and that its driver is new enough for CuPy's CUDA, or compile with "
             "target='cpu'")


class CupyModule:
    """A loaded cubin."""

    def __init__(self, image: bytes, device: CupyDevice) -> None:
        self.module = device.xp.cuda.function.Module()
        self.module.load(image)
        self.device = device
        self.functions: dict[str, Any] = {}
        self.shared: dict[str, int] = {}
        self.room: dict[tuple[str, int, int], int] = {}

    def launch(self, kernel: str, grid: Grid, block: Grid, args: Sequence[np.generic | Array], shared: int = 0, *,
               cooperative: bool = False) -> None:
        """CompileError when a cooperative grid does not fit: it would wait for blocks that cannot start."""
        function = self.functions.get(kernel)
        if function is None:
            function = self.functions[kernel] = self.module.get_function(kernel)
        driver = self.device.xp.cuda.driver
        if shared > self.shared.get(kernel, STATIC_SHARED):
            driver.funcSetAttribute(function.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared)
            self.shared[kernel] = shared
        if cooperative:
            key = (kernel, prod(block), shared)
            if key not in self.room:
                each = driver.occupancyMaxActiveBlocksPerMultiprocessor(function.ptr, prod(block), shared)
                self.room[key] = each * self.device.caps.sms
            if self.room[key] < prod(grid):
                raise CompileError(f"cupy: kernel {kernel} needs {prod(grid)} blocks at the same time, the GPU holds "
                                   f"{self.room[key]}")
        function(grid, block, tuple(args), shared, self.device.stream, cooperative)


class CupyDevice:
    """CuPy's current device when it is opened. Threads take turns to ask it for work."""

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as e:
            raise MissingExtraError("the GPU backend needs CuPy, which cannot be imported; the extras gpu-cuda13 and "
                                    f"gpu-cuda12 of rnngraph bring it: {e}") from None
        self.xp: Any = cupy
        cuda = cupy.cuda
        self.errors: tuple[type[Exception], ...] = (
            cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError, cuda.memory.OutOfMemoryError)
        try:
            device = cuda.Device()
            attributes, number = device.attributes, device.compute_capability
            name = cuda.runtime.getDeviceProperties(device.id)["name"]
            self.stream = cuda.Stream(non_blocking=True)
            self.begun, self.ended = cuda.Event(disable_timing=True), cuda.Event(disable_timing=True)
        except self.errors as e:
            raise DeviceError(f"the GPU cannot be used: {e}; {NO_DRIVER}") from None
        self.device = device
        self.caps = DeviceCaps(name.decode() if isinstance(name, bytes) else name,
                               f"sm_{number}" + ("a" if number == "90" else ""), attributes["MultiProcessorCount"],
                               attributes["MaxSharedMemoryPerBlockOptin"], attributes["L2CacheSize"],
                               attributes["MaxRegistersPerMultiprocessor"])
        self.lock = threading.RLock()
        self.place = CupyPlace(cupy, device.id)
        self._blas: Blas | None = None

    def build(self, source: Source) -> CupyModule:
        image = cubin(source.text, self.caps.arch)
        with self.building():
            return CupyModule(image, self)

    @contextmanager
    def building(self) -> Iterator[None]:
        with self.lock, self.device, self.stream, self._failing():
            yield

    @contextmanager
    def calling(self) -> Iterator[None]:
        with self.lock, self.device, self._failing():
            caller = self.xp.cuda.get_current_stream()
            self.stream.wait_event(caller.record(self.begun))
            try:
                with self.stream:
                    yield
            finally:
                caller.wait_event(self.stream.record(self.ended))

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """What CUDA's failures are to the user."""
        try:
            yield
        except self.xp.cuda.memory.OutOfMemoryError as e:
            raise DeviceMemoryError(f"cupy: the GPU's memory does not suffice: {e}; use a smaller batch or shorter "
                              "sequences, or give memory back: cupy.get_default_memory_pool().free_all_blocks()") from e
        except self.errors as e:
            raise DeviceError(f"cupy: the GPU has failed: {e}; after an illegal address or a failed launch the process "
                              "must be started anew. `compute-sanitizer python ...` shows the place; target='cpu' does "
                              "without a GPU") from e

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        with self.lock, self.device, self._failing():
            made: Array = self.xp.empty(shape, dtype)
            return made

    def copy(self, target: Any, source: Any) -> None:
        if isinstance(source, np.ndarray):
            given = np.ascontiguousarray(source, target.dtype).reshape(target.shape)
            target.set(given, self.stream)
        elif (source.dtype == target.dtype and source.shape == target.shape and source.flags.c_contiguous
              and target.flags.c_contiguous):
            target.data.copy_from_device_async(source.data, source.nbytes, self.stream)
        elif target.dtype == np.bool_ != source.dtype:
            self.xp.not_equal(source, 0, out=target)
        else:
            target[...] = source

    def fetch(self, array: Any) -> Array:
        found: Array = array.get(stream=self.stream, blocking=False)
        return found

    def finish(self) -> None:
        with self._failing():
            self.ended.synchronize()

    def clear(self, array: Any) -> None:
        array.data.memset_async(0, array.nbytes, self.stream)

    def product(self, left: Array, right: Array, out: Array, *, add: bool, precision: str = "f32") -> None:
        if self._blas is None:
            self._blas = self._opened()
        (rows, k), lanes = left.shape, right.shape[1]
        self._blas.product(self.address(left), left.strides[0] // left.itemsize, self.address(right),
                           self.address(out), (rows, k, lanes), add=add, precision=precision)

    def rnn(self, setting: Setting, arrays: Arrays, weights: Array) -> Recurrent:
        return Network(setting, arrays, weights, self, self.stream.ptr)

    def _opened(self) -> Blas:
        loaded = library(self.xp.cuda.runtime.runtimeGetVersion() // 1000)
        self.workspace = self.xp.empty(WORKSPACE, np.uint8)
        return Blas(loaded, self.stream.ptr, self.address(self.workspace))

    def record(self, work: Callable[[], None], launches: int) -> Captured:
        return Captured(work, launches, self.stream, (*self.errors, RuntimeError))


@cache
def cupy_device() -> CupyDevice:
    """The device, opened once."""
    return CupyDevice()


__all__ = ["CupyDevice", "CupyModule", "cupy_device"]
