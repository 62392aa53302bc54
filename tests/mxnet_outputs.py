"""What MXNet itself gave for its layers, as tests/data/mxnet has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rnngraph.ir import Array

DATA = Path(__file__).resolve().parent / "data" / "mxnet"
CASES = {p.stem: p for p in sorted(DATA.rglob("*_l?_*.npz"))}  # of single layers, by name: lstm_l2_bi
TOLERANCE = 2e-6  # both sides are float32


def recorded(name: str) -> dict[str, Array]:
    """The arrays of a case or of another file there."""
    with np.load(CASES.get(name, DATA / f"{name}.npz"), allow_pickle=False) as data:
        return dict(data)
