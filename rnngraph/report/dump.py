"""Dumps: one ``.rg`` file per stage, the large constants beside them, and what the backends emitted."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.ir import Array, Graph, parse
from rnngraph.report.report import Report

RESOURCES = "resources.npz"
SUFFIXES = {"llvm-ir": ".ll", "asm": ".s", "cuda": ".cu", "ptx": ".ptx"}
_OURS = re.compile(r"\d{3}-[a-z0-9\-]+\.rg|kernel-\d+-.*")


def dump(report: Report, directory: Path) -> list[Path]:
    """Write the report into ``directory`` (made when missing); returns the files, in order.

    ``000-trace.rg``, then ``{i:03d}-{pass}.rg`` for each pass, with what it computed beside the graph and its
    remarks as ``//`` comments behind; ``resources.npz`` with the large constants that they refer to by key;
    for each kernel ``kernel-{i}-{backend}.{ll,s,...}``; ``explain.txt``. `read` reads a stage back. Stages and
    kernels of an earlier dump in the same folder are removed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.iterdir():
        if old.is_file() and _OURS.fullmatch(old.name):
            old.unlink()
    files = {"000-trace.rg": report.trace}
    for i, p in enumerate(report.passes, 1):
        comments = [str(r) for r in p.remarks]
        for name, text in p.artifacts.items():
            comments += ["", f"{name}:", *text.splitlines()]
        behind = "".join(f"// {c}".rstrip() + "\n" for c in comments)
        files[f"{i:03d}-{_base_name(p.name)}.rg"] = p.after + behind
    for i, kernel in enumerate(report.kernels):
        for kind, text in kernel.artifacts().items():
            files[f"kernel-{i}-{kernel.backend}{_ending(kind)}"] = text
    files["explain.txt"] = report.explain()
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    with (directory / RESOURCES).open("wb") as f:
        np.savez(f, allow_pickle=False, **report.resources)
    return [*(directory / n for n in files), directory / RESOURCES]


def _ending(kind: str) -> str:
    """``llvm-ir`` -> ``.ll``; a kind that is a file's name already stays one; any other is text."""
    safe = re.sub(r"[^A-Za-z0-9_.\-]", "_", kind)
    return SUFFIXES.get(kind) or (f"-{safe}" if Path(safe).suffix in SUFFIXES.values() else f"-{safe}.txt")


def _base_name(text: str) -> str:
    """``select-implementation{fused-only=true}`` -> ``select-implementation``."""
    return re.split(r"[^a-z0-9\-]", text, maxsplit=1)[0]


def read(path: str | Path) -> Graph:
    """Read one ``.rg`` file; constants that it refers to come from the ``resources.npz`` in the same folder.

    Raises ImportModelError when a file cannot be read, ParseError (line and column) when the text is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ImportModelError(f"cannot read {str(path)!r} as IR text: {e}") from e
    return parse(text, read_resources(path.parent / RESOURCES))


def read_resources(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file; empty when there is none. Pickled content is refused."""
    if not path.exists():
        return {}
    try:
        with path.open("rb") as f, np.load(f, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, AttributeError) as e:
        raise ImportModelError(f"cannot read the constants in {str(path)!r}: {e}; "
                               "dump the report again") from e
