"""What there is of a GPU: the driver's devices by ctypes; CuPy and cuDNN are looked for, never imported."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from rnngraph.backends.cupy.caps import SHIM_CAPS
from rnngraph.backends.cupy.cudnn import abi
from rnngraph.backends.cupy.machine import Device as Opened
from rnngraph.backends.registry import Device
from rnngraph.errors import CompileError

SHIM, TRIED = "shim", "shim-tried"  # values of RNNGRAPH_GPU: the CPU stands in for a GPU; trials as on a real one

_ATTRIBUTES = {"major": 75, "minor": 76, "sms": 16, "shared": 97, "l2": 38}  # CUdevice_attribute values of cuda.h


def discover() -> Device:
    """The first CUDA device, with the features "gpu", "cupy", "cudnn" and "sm_XY" as far as they are there; with
    RNNGRAPH_GPU=shim the stand-in that tests use.

    A machine without a driver costs one failed library lookup; CuPy itself is not imported.
    """
    if stands_in():
        return Device("gpu", "the CPU standing in for a GPU (RNNGRAPH_GPU=shim)", True,
                      frozenset({"gpu", "cupy", "cudnn"}), {},
                      {"sms": SHIM_CAPS.sms, "shared": SHIM_CAPS.shared, "l2": SHIM_CAPS.l2},
                      unproven=os.environ["RNNGRAPH_GPU"] == TRIED)
    return _found()


def stands_in() -> bool:
    """Whether the CPU stands in for a GPU."""
    return os.environ.get("RNNGRAPH_GPU") in (SHIM, TRIED)


def open_device() -> Opened:
    """What `discover` has found, ready to run."""
    if stands_in():
        from rnngraph.backends.cupy.shim import ShimDevice

        return ShimDevice()
    from rnngraph.backends.cupy.gpu import cupy_device

    return cupy_device()


@cache
def _found() -> Device:
    features, missing = set[str](), dict[str, str]()
    name, found, limits = first_gpu()
    (features.update(found) if found else missing.update(gpu=name))
    if find_spec("cupy") is not None:
        features.add("cupy")
    else:
        missing["cupy"] = "CuPy is not installed; the extras gpu-cuda13 and gpu-cuda12 of rnngraph bring it"
    if abi.path() is not None:
        features.add("cudnn")
    else:
        missing["cudnn"] = "libcudnn.so.9 was not found; the extras gpu-cuda12 and gpu-cuda13 bring it"
    return Device("gpu", name if found else "none", bool(found), frozenset(features), missing, limits,
                  _versions(cudnn={"gpu", "cudnn"} <= features), unproven=True)


def _versions(*, cudnn: bool) -> dict[str, str]:
    """Of what is installed under CuPy's names, and of cuDNN, which is loaded to ask it."""
    found = dict[str, str]()
    if cudnn:
        with suppress(OSError, CompileError):
            found["cudnn"] = str(abi.library().cudnnGetVersion())
    for name in ("cupy-cuda13x", "cupy-cuda12x", "cupy"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def first_gpu() -> tuple[str, set[str], dict[str, int]]:
    """(name, features, limits) of device 0, or (why there is none, empty, empty)."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver was found (libcuda.so.1 cannot be loaded)", set(), {}
    status = cuda.cuInit(0)
    count, handle, value = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    status = status or cuda.cuDeviceGetCount(ctypes.byref(count))
    if status or count.value == 0:
        return f"the NVIDIA driver reports no usable device (status {status})", set(), {}
    label = ctypes.create_string_buffer(128)
    cuda.cuDeviceGet(ctypes.byref(handle), 0)
    cuda.cuDeviceGetName(label, len(label), handle)
    numbers = {}
    for attribute, code in _ATTRIBUTES.items():
        cuda.cuDeviceGetAttribute(ctypes.byref(value), code, handle)
        numbers[attribute] = value.value
    arch = f"sm_{numbers.pop('major')}{numbers.pop('minor')}"
    return label.value.decode(errors="replace"), {"gpu", arch}, numbers
