"""A double of CuPy 14.2 for the names that the GPU backend uses: `installed` puts it in CuPy's place."""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rnngraph.backends.cupy.caps import SHIM_CAPS
from rnngraph.backends.cupy.gpu import CupyDevice
from rnngraph.backends.cupy.nvrtc import build
from rnngraph.backends.registry import Device
from tests.backends.cupy.fake_cupy import array, cuda, nvrtc, stream
from tests.backends.cupy.fake_cupy.cuda import Cublas

FOUND = Device("gpu", "a double of a GPU", True, frozenset({"gpu", "cupy", "sm_90"}), {"cudnn": "the double has none"},
               {"sms": SHIM_CAPS.sms, "shared": SHIM_CAPS.shared, "l2": SHIM_CAPS.l2})


class Namespace(ModuleType):
    """cupy."""

    def __getattr__(self, name: str) -> Any:
        return array.function(name)


def namespace() -> Namespace:
    """The module cupy."""
    made: Any = Namespace("cupy")
    made.ndarray = array.ndarray
    made.cuda = SimpleNamespace(
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
    space: Namespace = made
    return space


def installed(patch: pytest.MonkeyPatch) -> Namespace:
    """CuPy, its NVRTC and cuBLAS are the doubles, and a GPU is found; kernels are kept in no cache."""
    stream.reset()
    made, blas = namespace(), Cublas()
    patch.delenv("RNNGRAPH_GPU", raising=False)
    patch.setattr("rnngraph.backends.cupy.device._found", lambda: FOUND)
    patch.setattr("rnngraph.backends.cupy.gpu.cupy_device", cache(CupyDevice))
    patch.setattr("rnngraph.backends.cupy.gpu.cubin", lambda text, arch: build(text, arch).image)
    libs = ModuleType("cupy_backends.cuda.libs")
    libs.nvrtc = nvrtc  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "cupy", made)
    for name in ("cupy_backends", "cupy_backends.cuda"):
        patch.setitem(sys.modules, name, ModuleType(name))
    patch.setitem(sys.modules, "cupy_backends.cuda.libs", libs)
    patch.setattr("rnngraph.backends.cupy.gpu.library", lambda version: blas)
    return made
