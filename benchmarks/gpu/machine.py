"""What there is: the GPU, the libraries, what `rnngraph doctor` says."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from benchmarks.gpu.section import Case, Setting
from benchmarks.gpu.table import INFO, Row
from rnngraph.backends.cupy.device import discover, open_device
from rnngraph.backends.cupy.inventory import inventory

PACKAGES = ("rnngraph", "numpy", "cupy-cuda13x", "cupy-cuda12x", "torch", "networkx", "llvmlite", "nvidia-cudnn-cu13",
            "nvidia-cudnn-cu12")


def cases(setting: Setting) -> Iterator[Case]:
    yield Case("machine", _machine)
    yield Case("parts", _parts)
    yield Case("device", _device)


def _machine() -> Iterator[Row]:
    yield Row("python", "", INFO, note=f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        try:
            yield Row(name, "", INFO, note=version(name))
        except PackageNotFoundError:
            yield Row(name, "", INFO, note="not installed")


def _parts() -> Iterator[Row]:
    for part in inventory():
        yield Row(part.name, "doctor", INFO, note=str(part))


def _device() -> Iterator[Row]:
    found = discover()
    for name, why in found.missing.items():
        yield Row(name, "discovery", INFO, note=why)
    caps = open_device().caps
    yield Row("device", "", INFO, {"multiprocessors": caps.sms, "shared KiB": caps.shared >> 10,
                                   "registers": caps.registers}, f"{caps.name}, {caps.arch}")


__all__ = ["cases"]
