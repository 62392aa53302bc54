"""`rnngraph doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rnngraph.backends import BACKENDS
from rnngraph.cli import doctor_command
from tests.cli.conftest import Cli


def test_it_shows_the_machine_and_every_backend(cli: Cli) -> None:
    done = cli("doctor")
    assert done.code == 0
    assert done.err == ""
    assert "vector width" in done.out
    assert all(f"  {name} " in done.out for name in BACKENDS)


def test_json(cli: Cli) -> None:
    sections = json.loads(cli("doctor", "--json").out)
    assert sections["software"]["numpy"] == np.__version__
    assert sections["backends"]["reference"].startswith("available (cpu)")
    assert set(sections) == {"software", "cpu", "backends", "gpu", "compile cache", "optional packages"}


def test_the_cache_is_where_the_environment_says(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_CACHE", str(tmp_path / "objects"))
    assert json.loads(cli("doctor", "--json").out)["compile cache"]["location"] == str(tmp_path / "objects")
    assert not (tmp_path / "objects").exists()  # looking makes nothing
    monkeypatch.setenv("RNNGRAPH_CACHE", "off")
    assert "memory" in json.loads(cli("doctor", "--json").out)["compile cache"]["location"]


def test_objects_that_others_remove_meanwhile(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept.o").write_bytes(b"12345")
    (tmp_path / "gone.o").symlink_to(tmp_path / "nowhere")  # listed, and not there when it is looked at
    monkeypatch.setenv("RNNGRAPH_CACHE", str(tmp_path))
    assert json.loads(cli("doctor", "--json").out)["compile cache"]["content"].startswith("1 objects")


def test_a_restricted_cpu_is_said(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_CPU", "generic")
    assert "restricted by RNNGRAPH_CPU=generic" in json.loads(cli("doctor", "--json").out)["cpu"]["vector width"]


def test_the_gpu_part_by_part(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = json.loads(cli("doctor", "--json").out)["gpu"]
    assert list(rows) == ["driver", "device", "CuPy", "NVRTC", "cuBLAS", "cuDNN", "g++", 'target="gpu"']
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    rows = json.loads(cli("doctor", "--json").out)["gpu"]
    assert rows['target="gpu"'].startswith("runs on the CPU standing in for a GPU")


def test_without_llvm_the_cpu_backend_is_not_available(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_command, "_llvm", lambda: ("", "no llvmlite; python -m pip install llvmlite"))
    done = cli("doctor", "--json")
    assert done.code == 1
    assert json.loads(done.out)["backends"]["llvm"] == "not available: no llvmlite; python -m pip install llvmlite"
