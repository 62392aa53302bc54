"""A double of CuPy 14.2 for the names that the GPU backend uses: `installed` puts it in CuPy's place."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.backends.cupy.fake_cupy import array, cuda, nvrtc, stream
from tests.backends.cupy.fake_cupy.cuda import Cublas


class Namespace(ModuleType):
    """cupy."""

    def __getattr__(self, name: str) -> Any:
        return array.function(name)


def namespace() -> Namespace:
    """The module cupy."""
    made = Namespace("cupy")
    made.ndarray = array.ndarray  # type: ignore[attr-defined]
    made.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        Stream=stream.Stream, ExternalStream=stream.ExternalStream, Event=stream.Event, Graph=stream.Graph,
        get_current_stream=stream.current, Device=cuda.Device,
        function=SimpleNamespace(Module=cuda.Module, Function=cuda.Function),
        driver=SimpleNamespace(
            CUDADriverError=cuda.CUDADriverError, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
            funcSetAttribute=cuda.funcSetAttribute,
            occupancyMaxActiveBlocksPerMultiprocessor=cuda.occupancyMaxActiveBlocksPerMultiprocessor),
        runtime=SimpleNamespace(
            CUDARuntimeError=stream.CUDARuntimeError, getDeviceProperties=cuda.getDeviceProperties,
            runtimeGetVersion=cuda.runtimeGetVersion),
        memory=SimpleNamespace(OutOfMemoryError=cuda.OutOfMemoryError, MemoryPointer=array.MemoryPointer))
    return made


def installed(patch: pytest.MonkeyPatch) -> Namespace:
    """CuPy, its NVRTC and cuBLAS are the doubles; RNNGRAPH_GPU=cuda uses them."""
    made, blas = namespace(), Cublas()
    libs = ModuleType("cupy_backends.cuda.libs")
    libs.nvrtc = nvrtc  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "cupy", made)
    for name in ("cupy_backends", "cupy_backends.cuda"):
        patch.setitem(sys.modules, name, ModuleType(name))
    patch.setitem(sys.modules, "cupy_backends.cuda.libs", libs)
    patch.setattr("rnngraph.backends.cupy.gpu.library", lambda version: blas)
    made.blas = blas  # type: ignore[attr-defined]
    return made
