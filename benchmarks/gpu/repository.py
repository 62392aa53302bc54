"""rnngraph importable from a bare copy of its tree: without the links in rnngraph/, without llvmlite, uninstalled."""

from __future__ import annotations

import sys
import tempfile
import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def make_importable(wheels: list[Path]) -> None:
    """Put the tree in front of ``sys.path``, then ``wheels``: files .whl (unpacked beside the program's other temporary
    files, for they hold libraries), folders of such files, or folders of packages. Nothing is written into the tree."""
    sys.path[:0] = [str(ROOT), *(str(p) for wheel in wheels for p in _unpacked(wheel))]
    package = import_module("rnngraph")
    for name in ("passes", "backends"):
        if find_spec(f"rnngraph.{name}") is None:  # the link is gone: its folder stands at the top of the tree
            package.__path__.append(str(ROOT))
            break


def _unpacked(wheel: Path) -> list[Path]:
    if wheel.is_dir():
        inside = sorted(wheel.glob("*.whl"))
        return [p for w in inside for p in _unpacked(w)] if inside else [wheel]
    folder = Path(tempfile.gettempdir()) / f"rnngraph-{wheel.stem}"
    if not folder.exists():
        with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
            archive.extractall(fresh)
            Path(fresh).rename(folder)
            Path(fresh).mkdir()  # for the context to remove
    return [folder]


__all__ = ["ROOT", "make_importable"]
