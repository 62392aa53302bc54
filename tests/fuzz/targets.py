"""The readers that are fuzzed, by name."""

from __future__ import annotations

from pathlib import Path

import rnngraph as rg
from tests.fuzz.harness import Target
from tests.fuzz.mutate import mutated, mutated_onnx
from tests.fuzz.onnx_seeds import seeds as onnx_seeds


def read_onnx(path: Path) -> None:
    rg.trace(rg.from_onnx(path))


def targets() -> dict[str, Target]:
    """Made when asked for: the seeds take time."""
    found = [Target("onnx", ".onnx", onnx_seeds(), read_onnx, (mutated, mutated_onnx, mutated_onnx))]
    return {t.name: t for t in found}
