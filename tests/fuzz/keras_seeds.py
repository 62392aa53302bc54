"""Sound Keras files for the mutator: a .h5 of Keras 2 and a .keras archive."""

from __future__ import annotations

import io
import json
import random
import zipfile
from typing import Any

import h5py
import numpy as np

from tests.fuzz.mutate import mutated, mutated_json

_RNG = np.random.default_rng(0)


def _w(*shape: int) -> Any:
    return _RNG.standard_normal(shape).astype(np.float32)


def h5(*, compressed: bool = False) -> bytes:
    """A Sequential of an LSTM and a Dense, as Keras 2 wrote it."""
    layers = [
        {"class_name": "LSTM", "config": {"name": "lstm", "units": 3, "batch_input_shape": [None, None, 2],
                                          "activation": "tanh", "recurrent_activation": "hard_sigmoid"}},
        {"class_name": "Dense", "config": {"name": "dense", "units": 2, "activation": "softmax"}}]
    weights = {"lstm": {"kernel:0": _w(2, 12), "recurrent_kernel:0": _w(3, 12), "bias:0": _w(12)},
               "dense": {"kernel:0": _w(3, 2), "bias:0": _w(2)}}
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers}).encode()
        f.attrs["keras_version"] = b"2.2.4"
        root = f.create_group("model_weights")
        root.attrs["layer_names"] = [n.encode() for n in weights]
        for name, arrays in weights.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{n}".encode() for n in arrays]
            for n, array in arrays.items():
                group.create_dataset(f"{name}/{n}", data=array, **({"compression": 4} if compressed else {}))
    return memory.getvalue()


def archive(config: Any = None, weights: bytes | None = None) -> bytes:
    """A .keras file of a Dense layer."""
    if config is None:
        config = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [
            {"module": "keras.layers", "class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 4]}},
            {"module": "keras.layers", "class_name": "Dense",
             "config": {"name": "d", "units": 2, "activation": "linear"}}]}}
    if weights is None:
        inner = io.BytesIO()
        with h5py.File(inner, "w") as f:
            f["layers/dense/vars/0"], f["layers/dense/vars/1"] = _w(4, 2), _w(2)
        weights = inner.getvalue()
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as z:
        z.writestr("config.json", json.dumps(config))
        z.writestr("model.weights.h5", weights)
    return memory.getvalue()


def mutated_archive(data: bytes, rng: random.Random, pool: list[bytes]) -> bytes:
    """A .keras file with its config or its weights changed; the archive around them is sound."""
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        config, weights = z.read("config.json"), z.read("model.weights.h5")
    if rng.random() < 0.6:
        config = mutated_json(config, rng, pool)
    else:
        weights = mutated(weights, rng, pool)
    return archive(json.loads(config), weights)
