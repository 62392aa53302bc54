"""Real Keras models against what their own framework computed (tests/data/keras_models.npz, see tests/data/README.md).

The models' packages are not in this repository: python -m benchmarks.real_models fetches them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rnngraph as rg
from benchmarks.zoo.fetch import Unreachable
from benchmarks.zoo.keras_models import MODELS, KerasModel

DATA = Path(__file__).resolve().parents[1] / "data" / "keras_models.npz"


@pytest.mark.parametrize("which", MODELS, ids=lambda m: m.name)
def test_a_real_model_computes_what_it_computed(which: KerasModel) -> None:
    try:
        model = which.model(offline=True)
    except Unreachable as e:
        pytest.skip(str(e))
    with np.load(DATA) as data:
        x, expected = data[f"{which.name}/x"], data[f"{which.name}/y"]
    dtype = np.float32 if model.inputs[0].dtype.is_float else np.int32
    got = np.asarray(rg.compile(model)(x.astype(dtype)))
    assert got.shape == expected.shape
    assert float(np.abs(got - expected).max()) <= 1e-5 * float(np.abs(expected).max())
