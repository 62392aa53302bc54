"""What there is of a GPU: the driver's devices by ctypes; CuPy and cuDNN are looked for, never imported."""

from __future__ import annotations

import ctypes
import glob
import os
from functools import cache
from importlib.util import find_spec

from rnngraph.backends.registry import Device

_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76  # CUdevice_attribute values of cuda.h


@cache
def discover() -> Device:
    """The first CUDA device, with the features "gpu", "cupy", "cudnn" and "sm_XY" as far as they are there.

    A machine without a driver costs one failed library lookup; CuPy itself is not imported.
    """
    features, missing = set[str](), dict[str, str]()
    name, found = _first_gpu()
    (features.update(found) if found else missing.update(gpu=name))
    if find_spec("cupy") is not None:
        features.add("cupy")
    else:
        missing["cupy"] = "CuPy is not installed; the extras gpu-cuda13 and gpu-cuda12 of rnngraph bring it"
    if _has_cudnn():
        features.add("cudnn")
    else:
        missing["cudnn"] = "libcudnn.so.9 was not found; the extras gpu-cuda12 and gpu-cuda13 bring it"
    return Device("gpu", name if found else "none", bool(found), frozenset(features), missing)


def _first_gpu() -> tuple[str, set[str]]:
    """(name, features) of device 0, or (why there is none, empty)."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver was found (libcuda.so.1 cannot be loaded)", set()
    status = cuda.cuInit(0)
    count, handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    status = status or cuda.cuDeviceGetCount(ctypes.byref(count))
    if status or count.value == 0:
        return f"the NVIDIA driver reports no usable device (status {status})", set()
    label = ctypes.create_string_buffer(128)
    cuda.cuDeviceGet(ctypes.byref(handle), 0)
    cuda.cuDeviceGetName(label, len(label), handle)
    cuda.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_MAJOR, handle)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_MINOR, handle)
    return label.value.decode(errors="replace"), {"gpu", f"sm_{major.value}{minor.value}"}


def _has_cudnn() -> bool:
    """In the wheel nvidia-cudnn-cu*, in CUDNN_PATH, or where the loader finds it."""
    nvidia = find_spec("nvidia")
    places = [os.path.join(p, "cudnn") for p in (nvidia.submodule_search_locations or ())] if nvidia else []
    places += [p] if (p := os.environ.get("CUDNN_PATH")) else []
    if any(glob.glob(os.path.join(glob.escape(p), "lib*", "libcudnn.so.9*")) for p in places):
        return True
    try:
        ctypes.CDLL("libcudnn.so.9")
    except OSError:
        return False
    return True
