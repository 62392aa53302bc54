"""medaka's networks as cases; the goldens are what PyTorch computed (tests/data/real/medaka.npz)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.zoo import medaka
from benchmarks.zoo.case import Arrays, Case, Entry, Run

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "real" / "medaka.npz"


def _case(name: str, offline: bool) -> Case:
    model = medaka.model(name, offline=offline)
    with np.load(DATA) as data:
        x, expected = data["x"], data[f"y_{name}"]

    def drive(run: Run) -> Arrays:
        return {"y": np.asarray(next(iter(run({"x": x}).values())))}

    return Case(f"medaka {name}", model, {"x": x}, drive, {"y": expected},
                decide=lambda outputs: outputs["y"].argmax(-1).tolist())


ENTRIES = tuple(Entry(f"medaka {n}", partial(_case, n)) for n in medaka.NAMES)
