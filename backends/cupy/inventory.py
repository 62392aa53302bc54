"""What a GPU needs on this machine, line by line: what is there, and for what is missing the command that brings it.

`rnngraph doctor` shows it. Nothing here opens a device; CuPy is imported, for its NVRTC, where it is installed.
"""

from __future__ import annotations

import ctypes
import re
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

from rnngraph.backends.cupy.cudnn import abi
from rnngraph.backends.cupy.device import first_gpu
from rnngraph.backends.cupy.nvrtc import binding
from rnngraph.errors import RnngraphError

MAJORS = (13, 12)  # of CUDA, for which there are extras
NEWEST = MAJORS[0]
CUPY = MappingProxyType({m: f"cupy-cuda{m}x" for m in MAJORS})
DRIVER = Path("/proc/driver/nvidia/version")
GET_DRIVER = "install NVIDIA's driver for Linux (Debian: apt install nvidia-driver; Ubuntu: ubuntu-drivers install)"


@dataclass(frozen=True, slots=True)
class Part:
    """``found``: what is there; empty where it is missing, and then ``remedy`` says why and what to do."""

    name: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"missing: {self.remedy}" if not self.found else "; ".join(filter(None, (self.found, self.remedy)))


def inventory() -> list[Part]:
    """Every part, in the order in which they need each other."""
    cuda = driver_cuda()
    return [_driver(cuda), _device(), _cupy(cuda), _nvrtc(cuda), _cublas(cuda), _cudnn(cuda), _compiler()]


def get(cuda: int | None) -> str:
    """The command that brings all of CUDA's parts: for the driver that is there, else for the newest."""
    return f"python -m pip install 'rnngraph[gpu-cuda{major_for(cuda) or NEWEST}]'"


def major_for(cuda: int | None) -> int | None:
    """The newest CUDA for which a driver (13000: CUDA 13.0) is new enough; None when there is none."""
    return next((m for m in MAJORS if cuda is not None and cuda >= 1000 * m), None)


# --- the parts ------------------------------------------------------------------------------------------------------


def driver_cuda() -> int | None:
    """The newest CUDA that the driver knows, 13000 for 13.0; None without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    number = ctypes.c_int()
    return number.value if driver.cuDriverGetVersion(ctypes.byref(number)) == 0 else None


def _driver(cuda: int | None) -> Part:
    if cuda is None:
        return Part("driver", "", f"libcuda.so.1 cannot be loaded; {GET_DRIVER}")
    kernel = re.search(r"\s(\d+\.\d[\d.]*)\s", DRIVER.read_text()) if DRIVER.exists() else None
    found = f"{kernel[1] if kernel else 'found'}, CUDA {_dotted(cuda)}"
    if major_for(cuda) is None:
        return Part("driver", found, f"it is too old: CuPy needs one for CUDA {MAJORS[-1]} or newer; {GET_DRIVER}")
    return Part("driver", found)


def _device() -> Part:
    name, features, limits = first_gpu()
    if not features:
        return Part("device", "", name)
    arch = next(iter(features - {"gpu"}), "")
    return Part("device", f"{name}, {arch}, {limits.get('sms', 0)} multiprocessors, "
                          f"{limits.get('shared', 0) >> 10} KiB of shared memory a block")


def _cupy(cuda: int | None) -> Part:
    there = {m: v for m, name in CUPY.items() if (v := installed(name))}
    if not there:
        return Part("CuPy", "", get(cuda))
    found = ", ".join(f"{v} for CUDA {m}" for m, v in there.items())
    names = " ".join(CUPY[m] for m in there)
    if len(there) > 1:
        return Part("CuPy", found, f"one package hides the other: python -m pip uninstall {names}, then {get(cuda)}")
    if cuda is not None and max(there) > (major_for(cuda) or 0):
        return Part("CuPy", found, f"the driver is for CUDA {_dotted(cuda)}: python -m pip uninstall {names}, then "
                                   f"{get(cuda)}")
    return Part("CuPy", found)


def _nvrtc(cuda: int | None) -> Part:
    try:
        number = ".".join(map(str, binding().getVersion()))
    except RnngraphError:
        return Part("NVRTC", "", f"the compiler of kernels; {get(cuda)}")
    return Part("NVRTC", _at(number, "nvrtc"))


def _cublas(cuda: int | None) -> Part:
    where = located("cublas")
    if where is None:
        return Part("cuBLAS", "", f"products of matrices; {get(cuda)}")
    package = next((v for n in ("nvidia-cublas", "nvidia-cublas-cu12") if (v := installed(n))), "found")
    return Part("cuBLAS", f"{package} ({where})")


def _cudnn(cuda: int | None) -> Part:
    where = abi.path()
    if where is None:
        return Part("cuDNN", "", f"recurrent layers whole; without it kernels of our own run them; {get(cuda)}")
    try:
        number = int(abi.library().cudnnGetVersion())
    except (RnngraphError, OSError) as e:
        return Part("cuDNN", "", f"{where} cannot be used: {e}; {get(cuda)}")
    return Part("cuDNN", f"{number // 10000}.{number // 100 % 100}.{number % 100} ({where})")


def _compiler() -> Part:
    where = shutil.which("g++")
    if where is None:
        return Part("g++", "", "only the stand-in for a GPU needs it, RNNGRAPH_GPU=shim; apt install g++")
    return Part("g++", f"{where} (for the stand-in for a GPU alone, RNNGRAPH_GPU=shim)")


# --- looking ---------------------------------------------------------------------------------------------------------


def located(name: str) -> str | None:
    """The path of one of CUDA's libraries, as CuPy finds it; None where it is not."""
    try:
        from cuda import pathfinder
    except ImportError:
        return _loadable(name)
    try:
        return str(pathfinder.load_nvidia_dynamic_lib(name).abs_path)
    except (RuntimeError, OSError):  # DynamicLibNotFoundError is a RuntimeError
        return None


def _loadable(name: str) -> str | None:
    for major in MAJORS:
        try:
            ctypes.CDLL(file := f"lib{name}.so.{major}")
        except OSError:
            continue
        return file
    return None


def installed(package: str) -> str:
    """A distribution's version; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _at(number: str, name: str) -> str:
    where = located(name)
    return f"{number} ({where})" if where else number


def _dotted(cuda: int) -> str:
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


__all__ = ["MAJORS", "Part", "driver_cuda", "get", "installed", "inventory", "located", "major_for"]
