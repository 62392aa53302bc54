"""Which parts of a call are CUDA graphs: the correctness section compares their numbers, launched and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.gpu.correctness import given, random_input
from benchmarks.gpu.forced import NotUsed, compiled, paths
from benchmarks.gpu.models import MODELS, Model
from benchmarks.gpu.section import Case, Setting
from benchmarks.gpu.table import ABSENT, FAIL, INFO, OK, Row
from rnngraph.errors import SelectionError

NAMES = ("LSTM", "GRU, reset before")
REFUSED = "could not be captured"


def cases(setting: Setting) -> Iterator[Case]:
    """A case for each of some models and path."""
    units = 10 if setting.shim else 64
    for model in MODELS:
        if model.name in NAMES[: 1 if setting.shim and not setting.full else None]:
            for path in paths():
                yield Case(f"{model.name}, {units} on {path}", partial(_parts, model, units, path))


def _parts(model: Model, units: int, path: str) -> Iterator[Row]:
    case = f"{model.name}, {units}"
    try:
        made = compiled(path, model.make(units), given(model))
    except (SelectionError, NotUsed) as e:
        yield Row(case, path, ABSENT, note=str(e).partition(f"{path}: ")[2] or str(e))
        return
    for seed in range(3):  # launched, captured, replayed
        made(random_input(model, 2, 6, seed))
    texts = [k.artifacts().get("launches.txt", "") for k in made.report.kernels]
    lines = [line for text in texts for line in text.splitlines() if line and not line.startswith("{")]
    graphs = sum("a CUDA graph" in line for line in lines)
    wrong = any(REFUSED in line for line in lines)
    yield Row(case, path, FAIL if wrong else OK if graphs else INFO,
              {"graphs": graphs, "other parts": len(lines) - graphs}, "; ".join(lines))


__all__ = ["cases"]
