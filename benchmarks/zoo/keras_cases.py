"""The Keras models as cases; their goldens are what Keras itself computed (tests/data/keras_models.npz)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.zoo.case import Arrays, Case, Entry, Run
from benchmarks.zoo.keras_models import MODELS, KerasModel

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "keras_models.npz"


def _case(which: KerasModel, offline: bool) -> Case:
    model = which.model(offline=offline)
    with np.load(DATA) as data:
        x, expected = data[f"{which.name}/x"], data[f"{which.name}/y"]
    name, dtype = model.inputs[0].name, np.float32 if model.inputs[0].dtype.is_float else np.int32
    x = x.astype(dtype)

    def drive(run: Run) -> Arrays:
        return {"y": np.asarray(next(iter(run({name: x}).values())))}

    return Case(which.name, model, {name: x[:1]}, drive, {"y": expected})


ENTRIES = tuple(Entry(m.name, partial(_case, m)) for m in MODELS)
