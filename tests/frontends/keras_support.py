"""Live Keras models, saved in every format, beside what they become here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np

import rnngraph as rg

FORMATS = ("keras", "h5")


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with random weights, biases and moving statistics too; variances stay above 0."""
    rng = np.random.default_rng(seed)
    for w in model.weights:
        value = rng.uniform(-0.6, 0.6, w.shape).astype(np.float32)
        w.assign(np.abs(value) + 0.5 if "variance" in w.path else value)
    return model


def saved(model: Any, format: str, folder: Path) -> Path:
    """The path of a file with the model."""
    path = folder / f"model.{format}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def check(model: Any, folder: Path, seed: int = 1, tolerance: float = 1e-5) -> None:
    """The model from memory computes what Keras does; from each format of file it is the very same graph."""
    ours = rg.from_keras(model)
    compare(model, ours, arrays_for(model, np.random.default_rng(seed)), tolerance)
    text = rg.trace(ours).to_text()
    for format in FORMATS:
        assert rg.trace(rg.from_keras(saved(model, format, folder))).to_text() == text, format


def arrays_for(model: Any, rng: np.random.Generator, time: int = 6, batch: int = 3) -> list[Any]:
    """Random arrays for the inputs of a Keras model; open dims are ``batch``, then ``time``."""
    found: list[Any] = []
    for x in model.inputs:
        shape = tuple(d if d is not None else batch if i == 0 else time for i, d in enumerate(x.shape))
        if str(x.dtype).startswith("int"):
            found.append(rng.integers(0, 7, shape).astype(np.int32))
        elif x.dtype == "bool":
            found.append(rng.random(shape) < 0.7)
        else:
            found.append(rng.standard_normal(shape).astype(np.float32))
    return found


def compare(model: Any, ours: rg.nn.Layer, xs: Sequence[Any], tolerance: float) -> None:
    """Our outputs are Keras's, up to ``tolerance`` of their scale."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as Keras's of a softmax over one element
        result = model(list(xs) if len(xs) > 1 else xs[0], training=False)
    expected = [r.detach().numpy() for r in keras.tree.flatten(result)]
    found = rg.compile(ours)(*xs)
    got = list(found) if isinstance(found, tuple) else [found]
    assert len(got) == len(expected)
    for array, theirs in zip(got, expected, strict=True):
        assert array.shape == theirs.shape
        scale = max(1.0, float(np.abs(theirs).max())) if theirs.size else 1.0
        assert float(np.abs(array - theirs).max(initial=0.0)) <= tolerance * scale


__all__ = ["FORMATS", "arrays_for", "check", "compare", "keras", "randomized", "saved"]
