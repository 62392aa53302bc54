"""The double of CuPy has CuPy's names and orders of arguments, our table of cuBLAS its header's; skipped without."""

from __future__ import annotations

import ctypes
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rnngraph.backends.cupy import blas
from tests.backends.cupy.fake_cupy import array, cuda, stream

cupy: Any = pytest.importorskip("cupy", reason="CuPy is not installed")


def arguments(function: Any) -> list[str]:
    """The names of a function's arguments in order: CuPy's are in the first line of its text."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return [n for n in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if n != "self"]
    inside = re.match(r"[\w.]+\(([^)]*)\)", function.__doc__)
    assert inside, function
    names = [part.split("=")[0].split()[-1] for part in inside[1].split(",") if part.strip()]
    return [n for n in names if n != "self"]


PAIRS: dict[str, tuple[Any, Any]] = {  # of the double, and CuPy's
    "Function": (cuda.Function.__init__, ["module", "funcname"]),
    "call": (cuda.Function.__call__, ["grid", "block", "args", "shared_mem", "stream", "enable_cooperative_groups"]),
    "load": (cuda.Module.load, lambda: cupy.cuda.function.Module.load),
    "get_function": (cuda.Module.get_function, lambda: cupy.cuda.function.Module.get_function),
    "occupancy": (cuda.occupancyMaxActiveBlocksPerMultiprocessor,
                  lambda: cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor),
    "attribute": (cuda.funcSetAttribute, lambda: cupy.cuda.driver.funcSetAttribute),
    "properties": (cuda.getDeviceProperties, lambda: cupy.cuda.runtime.getDeviceProperties),
    "version": (cuda.runtimeGetVersion, lambda: cupy.cuda.runtime.runtimeGetVersion),
    "memset_async": (array.MemoryPointer.memset_async, lambda: cupy.cuda.MemoryPointer.memset_async),
    "copy_from_device_async": (array.MemoryPointer.copy_from_device_async,
                               lambda: cupy.cuda.MemoryPointer.copy_from_device_async),
    "get": (array.ndarray.get, lambda: cupy.ndarray.get),
    "set": (array.ndarray.set, lambda: cupy.ndarray.set),
    "current": (stream.current, lambda: cupy.cuda.get_current_stream),
    "launch": (stream.Graph.launch, lambda: cupy.cuda.Graph.launch),
    "upload": (stream.Graph.upload, lambda: cupy.cuda.Graph.upload),
    "begin_capture": (stream.Stream.begin_capture, lambda: cupy.cuda.Stream.begin_capture),
    "end_capture": (stream.Stream.end_capture, lambda: cupy.cuda.Stream.end_capture),
    "record": (stream.Stream.record, lambda: cupy.cuda.Stream.record),
    "wait_event": (stream.Stream.wait_event, lambda: cupy.cuda.Stream.wait_event),
    "Event": (stream.Event.__init__, lambda: cupy.cuda.Event.__init__),
    "event.record": (stream.Event.record, lambda: cupy.cuda.Event.record),
    "event.synchronize": (stream.Event.synchronize, lambda: cupy.cuda.Event.synchronize),
    "Stream": (stream.Stream.__init__, lambda: cupy.cuda.Stream.__init__),
    "ExternalStream": (stream.ExternalStream.__init__, lambda: cupy.cuda.ExternalStream.__init__),
}


@pytest.mark.parametrize("name", PAIRS)
def test_arguments(name: str) -> None:
    ours, theirs = PAIRS[name]
    assert arguments(ours) == (theirs if isinstance(theirs, list) else arguments(theirs()))


def test_what_a_function_has() -> None:
    found = {n for n in dir(cupy.cuda.function.Function) if not n.startswith("_")}
    assert found == {"linear_launch", "module", "ptr"}, "above all no max_dynamic_shared_size_bytes"
    assert cupy.cuda.driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES == 8
    with pytest.raises(TypeError, match=r"immutable|can't set"):
        cupy.cuda.function.Function.anything = 1


def test_names() -> None:
    real = {n for n in dir(cupy) if callable(getattr(cupy, n)) and not isinstance(getattr(cupy, n), type)}
    assert array.NAMES <= real
    assert set(array.OWN) <= real
    assert all(hasattr(cupy.ndarray, n) for n in array.METHODS)
    public = {n for n in vars(array.ndarray) if not n.startswith("_")} - {"array", "of"}
    assert all(hasattr(cupy.ndarray, n) for n in public), "the double has no more than CuPy"


def test_exceptions() -> None:
    assert issubclass(cupy.cuda.runtime.CUDARuntimeError, RuntimeError)
    assert issubclass(cupy.cuda.driver.CUDADriverError, RuntimeError)
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)


# --- cuBLAS -----------------------------------------------------------------------------------------------------------


def header() -> str:
    """cublas_api.h of the wheel."""
    nvidia = find_spec("nvidia")
    for place in (nvidia.submodule_search_locations or ()) if nvidia else ():
        for found in Path(place).glob("*/include/cublas_api.h"):
            return found.read_text()
    pytest.skip("cublas_api.h is not installed")


def test_cublas() -> None:
    text = header()
    sizes = {"int": 4, "size_t": 8, "cudaDataType": 4, "cublasOperation_t": 4, "cublasComputeType_t": 4,
             "cublasGemmAlgo_t": 4, "cublasHandle_t": 8, "cudaStream_t": 8}
    for name, ours in blas.SIGNATURES.items():
        found = re.search(rf"CUBLASWINAPI {name}\(([^)]*)\)", text)
        assert found, name
        theirs = [re.sub(r"\bconst\b|/\*.*?\*/", "", part).split() for part in found[1].split(",")]
        found_sizes = [8 if "*" in "".join(part) else sizes[part[0]] for part in theirs]
        assert found_sizes == list(map(ctypes.sizeof, ours)), name
    for name, number in {"CUBLAS_OP_N": blas.OP_N, "CUBLAS_OP_T": blas.OP_T, "CUBLAS_GEMM_DEFAULT": blas.GEMM_DEFAULT,
                         "CUBLAS_COMPUTE_32F_PEDANTIC": blas.COMPUTE_32F_PEDANTIC}.items():
        assert re.search(rf"{name} = {number},", text), name


def test_the_library_loads() -> None:
    header()
    assert blas.library(cupy.cuda.runtime.runtimeGetVersion() // 1000).cublasGemmEx
