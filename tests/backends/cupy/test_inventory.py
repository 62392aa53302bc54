"""What a machine lacks for a GPU, and the commands that bring it: with doubles of driver, packages and libraries."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rnngraph.backends.cupy import inventory as looking
from rnngraph.backends.cupy.cudnn import abi
from rnngraph.backends.cupy.inventory import Part, inventory, major_for
from rnngraph.errors import MissingExtraError

NVIDIA = {"libcuda.so.1"}


class Driver:
    """libcuda.so.1 of a machine whose driver knows one CUDA."""

    def __init__(self, cuda: int) -> None:
        self.cuda = cuda

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = self.cuda
        return 0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """``machine(cuda, packages, libraries)`` describes one; then `inventory` is of it."""
    def describe(cuda: int | None = None, packages: Mapping[str, str] | None = None,
                 libraries: Mapping[str, str] | None = None) -> dict[str, Part]:
        def load(name: str, *_: object) -> Driver:
            if name not in NVIDIA or cuda is None:
                raise OSError(name)
            return Driver(cuda)

        def binding() -> Any:
            if "nvrtc" not in (libraries or {}):
                raise MissingExtraError("NVRTC was not found")
            return SimpleNamespace(getVersion=lambda: (13, 0))

        found = None if cuda is None else ("NVIDIA H200", {"gpu", "sm_90"}, {"sms": 132, "shared": 232448})
        monkeypatch.setattr(ctypes, "CDLL", load)
        monkeypatch.setattr(looking, "DRIVER", tmp_path / "version")
        monkeypatch.setattr(looking, "first_gpu", lambda: found or ("no NVIDIA driver was found", set(), {}))
        monkeypatch.setattr(looking, "installed", lambda name: (packages or {}).get(name, ""))
        monkeypatch.setattr(looking, "located", lambda name: (libraries or {}).get(name))
        monkeypatch.setattr(looking, "binding", binding)
        monkeypatch.setattr(abi, "path", lambda: (libraries or {}).get("cudnn"))
        monkeypatch.setattr(abi, "library", lambda: SimpleNamespace(cudnnGetVersion=lambda: 91900))
        return {p.name: p for p in inventory()}

    return describe


def test_a_machine_with_nothing(machine: Any) -> None:
    parts = machine()
    assert list(parts) == ["driver", "device", "CuPy", "NVRTC", "cuBLAS", "cuDNN", "g++"]
    assert "libcuda.so.1 cannot be loaded; install NVIDIA's driver" in str(parts["driver"])
    for name in ("CuPy", "NVRTC", "cuBLAS", "cuDNN"):
        assert str(parts[name]).startswith("missing: ")
        assert str(parts[name]).endswith("python -m pip install 'rnngraph[gpu-cuda13]'")


@pytest.mark.parametrize(("cuda", "major"), [(13000, 13), (13020, 13), (14000, 13), (12090, 12), (12000, 12),
                                             (11080, None), (None, None)])
def test_the_driver_says_which_cuda(cuda: int | None, major: int | None, machine: Any) -> None:
    assert major_for(cuda) == major
    assert f"rnngraph[gpu-cuda{major or 13}]" in str(machine(cuda)["CuPy"])


def test_a_whole_machine(machine: Any, tmp_path: Path) -> None:
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 2025\n")
    parts = machine(13000, {"cupy-cuda13x": "14.2.0", "nvidia-cublas": "13.1"},
                    {"nvrtc": "/n/libnvrtc.so.13", "cublas": "/n/libcublas.so.13", "cudnn": "/n/libcudnn.so.9"})
    assert [str(p) for name, p in parts.items() if name != "g++"] == [
        "580.65.06, CUDA 13.0", "NVIDIA H200, sm_90, 132 multiprocessors, 227 KiB of shared memory a block",
        "14.2.0 for CUDA 13", "13.0 (/n/libnvrtc.so.13)", "13.1 (/n/libcublas.so.13)", "9.19.0 (/n/libcudnn.so.9)"]


def test_a_driver_older_than_what_is_installed(machine: Any) -> None:
    parts = machine(12040, {"cupy-cuda13x": "14.2.0"})
    assert str(parts["CuPy"]) == ("14.2.0 for CUDA 13; the driver is for CUDA 12.4: python -m pip uninstall "
                                  "cupy-cuda13x, then python -m pip install 'rnngraph[gpu-cuda12]'")
    assert "too old: CuPy needs one for CUDA 12" in str(machine(11080)["driver"])


def test_two_packages_of_cupy(machine: Any) -> None:
    part = machine(13000, {"cupy-cuda13x": "14.2.0", "cupy-cuda12x": "14.2.0"})["CuPy"]
    assert "one package hides the other: python -m pip uninstall cupy-cuda13x cupy-cuda12x, then" in str(part)


def test_a_machine_without_a_compiler(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt install g++" in str(machine()["g++"])
