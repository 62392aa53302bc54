"""compute-sanitizer on small cases of the correctness section: accesses out of bounds, races, barriers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from glob import glob
from pathlib import Path

from benchmarks.gpu.forced import paths
from benchmarks.gpu.parent import program
from benchmarks.gpu.section import Case, Setting
from benchmarks.gpu.table import ABSENT, FAIL, OK, Row

TOOLS = ("memcheck", "racecheck", "synccheck")
FOUND = 86  # the exit code that says that the tool found something
SECONDS = 50
MODELS = ("GRU, reset before, 37", "LSTM, lengths, 37")


def tool() -> str | None:
    """Where compute-sanitizer is: on the path, in a CUDA toolkit, in a wheel."""
    places = [shutil.which("compute-sanitizer"), *sorted(glob("/usr/local/cuda*/bin/compute-sanitizer")),
              *sorted(glob("/usr/local/cuda*/compute-sanitizer/compute-sanitizer"))]
    return next((p for p in places if p), None)


def cases(setting: Setting) -> Iterator[Case]:
    """A case for each tool, model and path of our own."""
    found = tool()
    if found is None:
        yield Case("all", _absent)
        return
    for model in MODELS:
        for path in paths():
            for name in TOOLS if "cudnn" not in path and path != "cupy.op" else TOOLS[:0]:
                yield Case(f"{model} under {name} on {path}", partial(_checked, found, name, model, path))


def _absent() -> Iterator[Row]:
    yield Row("all", "", ABSENT, note="compute-sanitizer was not found: it comes with NVIDIA's CUDA toolkit")


def _checked(found: str, name: str, model: str, path: str) -> Iterator[Row]:
    case = f"{model} under {name}"
    with tempfile.TemporaryDirectory() as folder:
        command = [found, "--tool", name, "--error-exitcode", str(FOUND), "--target-processes", "all", *program(),
                   "--only", "correctness", "--case", f"{model} on {path}", "--out", folder, "--minutes", "5"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            yield Row(case, path, ABSENT, note=f"it took more than {SECONDS} s")
            return
        log = Path(folder) / "gpu_check.log"
        words = [line for line in (done.stdout + done.stderr + (log.read_text() if log.exists() else "")).splitlines()
                 if "=========" in line]
    summary = next((line for line in reversed(words) if "SUMMARY" in line), "")
    if not summary:
        yield Row(case, path, ABSENT, note=f"it says nothing (exit code {done.returncode}): "
                                           f"{' '.join(words[:3]) or done.stderr[-200:]}")
        return
    clean = " 0 errors" in summary or " 0 hazards" in summary
    yield Row(case, path, OK if clean else FAIL, note="" if clean else "\n".join(words[:30]))


__all__ = ["cases", "tool"]
