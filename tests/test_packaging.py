"""The wheel holds every package, and nothing generic: passes/ and backends/ arrive inside rnngraph."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import rnngraph

ROOT = Path(__file__).resolve().parent.parent
LINKS = ("passes", "backends")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk() -> set[str]:
    """Every folder that holds Python files, under its import name."""
    found: set[str] = set()
    for top in ("rnngraph", *LINKS):
        prefix = top if top == "rnngraph" else f"rnngraph.{top}"
        for file in (ROOT / top).rglob("*.py"):
            parts = file.parent.relative_to(ROOT / top).parts
            if top == "rnngraph" and parts[:1] and parts[0] in LINKS:
                continue
            found.add(".".join((prefix, *parts)))
    return found


def test_every_folder_is_a_listed_package() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == packages_on_disk(), "edit [tool.setuptools] packages in pyproject.toml"


def test_every_package_has_an_init() -> None:
    mapping = PROJECT["tool"]["setuptools"]["package-dir"]
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        base = max((p for p in mapping if package == p or package.startswith(p + ".")), key=len)
        folder = ROOT / mapping[base] / Path(*package[len(base):].strip(".").split("."))
        assert (folder / "__init__.py").is_file(), f"{folder.relative_to(ROOT)} needs an __init__.py"


@pytest.mark.parametrize("name", LINKS)
def test_links_lead_to_the_top_level_folders(name: str) -> None:
    assert (ROOT / "rnngraph" / name).resolve() == ROOT / name, f"run: ln -s ../{name} rnngraph/{name}"


def test_one_version() -> None:
    version = PROJECT["project"]["version"]
    assert rnngraph.__version__ == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def declared() -> set[str]:
    """Import names that the dependencies and extras bring, and the standard library."""
    lines = list(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        lines += extra
    names = {re.split(r"[^A-Za-z0-9_.\-]", line)[0].lower().replace("_", "-") for line in lines}
    brought = {module for module, dists in packages_distributions().items()
               if any(d.lower().replace("_", "-") in names for d in dists)}
    return brought | names | set(sys.stdlib_module_names) | {"cuda", "cupy", "cupy_backends", "rnngraph"}


def test_third_party_imports_are_declared() -> None:
    known = declared()
    for top in ("rnngraph", *LINKS):
        for file in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                modules = [a.name for a in node.names] if isinstance(node, ast.Import) else \
                    [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
                for module in modules:
                    assert module.split(".")[0] in known, f"{file.relative_to(ROOT)}: declare {module}"


@pytest.mark.parametrize("cuda", [12, 13])
def test_the_extras_for_a_gpu_bring_one_cuda(cuda: int) -> None:
    """Packages of different CUDAs hide or break each other."""
    lines = PROJECT["project"]["optional-dependencies"][f"gpu-cuda{cuda}"]
    parts = {re.split(r"[^a-z0-9\-]", line)[0]: line for line in lines}
    assert {f"cupy-cuda{cuda}x", f"nvidia-cudnn-cu{cuda}", "cuda-toolkit", "cuda-pathfinder"} == set(parts)
    assert parts["cuda-toolkit"] == f"cuda-toolkit[cublas,cudart,nvrtc]=={cuda}.*"


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_wheel_and_sdist_from_a_fresh_environment(tmp_path: Path) -> None:
    """Build both, compare their contents with the checkout, install the wheel, import it from elsewhere."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    files = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    source = tmp_path / "source"
    for name in filter(None, files):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    run(python, "-m", "pip", "install", "-q", "build", cwd=tmp_path)
    run(python, "-m", "build", "-o", tmp_path / "dist", source, cwd=tmp_path)  # sdist, and from it the wheel
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")

    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    version = PROJECT["project"]["version"]
    assert {n.split("/")[0] for n in inside} == {"rnngraph", f"rnngraph-{version}.dist-info"}
    wanted = {f"rnngraph/{n}" if n.startswith(LINKS) else n for n in files
              if n.endswith(".py") and n.startswith(("rnngraph/", *(f"{link}/" for link in LINKS)))}
    assert wanted <= inside
    assert "rnngraph/py.typed" in inside
    with tarfile.open(sdist) as tar:
        held = {n.partition("/")[2] for n in tar.getnames()}
    assert {"passes/__init__.py", "backends/__init__.py", "tests/test_packaging.py", ".ci/run"} <= held

    run(python, "-m", "pip", "install", "-q", wheel, cwd=tmp_path)
    program = ("import rnngraph, rnngraph.passes, rnngraph.backends, importlib.util as u; "
               "assert 'site-packages' in rnngraph.passes.__file__; "
               "assert u.find_spec('passes') is None and u.find_spec('backends') is None; print('ok')")
    assert run(python, "-I", "-c", program, cwd=tmp_path).strip() == "ok"
    assert "rnngraph" in run(tmp_path / "venv" / "bin" / "rnngraph", "--help", cwd=tmp_path)
