"""HDF5 files as Keras 2 and 1 wrote them, made here by h5py in their layouts; Keras 3's layers say what is right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import ImportModelError
from rnngraph.frontends.keras import load_weights
from rnngraph.weights import convert
from tests.frontends.keras_support import compare, keras, randomized

L = keras.layers


def hard_sigmoid_2(x: Any) -> Any:
    """Keras 2's."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def old_file(path: Path, config: Any, weights: Mapping[str, Sequence[Any]], version: str = "2.1.6",
             as_bytes: bool = True, split: int = 0) -> Path:
    """A whole-model file; ``config`` None: weights alone. ``split``: names in attributes of so many each."""
    with h5py.File(path, "w") as f:
        group = f if config is None else f.create_group("model_weights")
        if config is not None:
            text = json.dumps(config)
            f.attrs["model_config"] = text.encode() if as_bytes else text
            f.attrs["keras_version"] = version.encode() if as_bytes else version
        names = [name.encode() for name in weights]
        for i in range(0, len(names), split) if split else ():
            group.attrs[f"layer_names{i // split}"] = names[i : i + split]
        if not split:
            group.attrs["layer_names"] = names
        group.attrs["keras_version"] = version.encode()
        for name, arrays in weights.items():
            layer = group.create_group(name)
            paths = [f"{name}/weight_{i}:0" for i in range(len(arrays))]
            layer.attrs["weight_names"] = [p.encode() for p in paths]
            for p, array in zip(paths, arrays, strict=True):
                layer.create_dataset(p, data=array)
    return path


def entry(kind: str, name: str, inbound: Any = None, **config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"class_name": kind, "config": {"name": name, "trainable": True, **config}}
    return found if inbound is None else {**found, "name": name, "inbound_nodes": inbound}


def arrays(layer: Any) -> list[Any]:
    return [w.numpy() if not hasattr(w, "value") else w.value.detach().numpy() for w in layer.weights]


OLD_GRU = {"units": 4, "activation": "tanh", "recurrent_activation": "hard_sigmoid", "implementation": 1,
           "use_bias": True, "return_sequences": True, "dropout": 0.2, "recurrent_dropout": 0.2, "unroll": False,
           "kernel_initializer": {"class_name": "VarianceScaling", "config": {"scale": 1.0}}, "go_backwards": False,
           "stateful": False, "return_state": False, "bias_regularizer": None}


@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_a_sequential_of_keras_2_0(bare: bool, as_bytes: bool, tmp_path: Path) -> None:
    x = keras.Input((None, 5))
    gru = L.GRU(4, recurrent_activation=hard_sigmoid_2, reset_after=False, return_sequences=True)
    norm, dense = L.BatchNormalization(), L.Dense(2, activation=hard_sigmoid_2)
    model = randomized(keras.Model(x, dense(norm(gru(x)))))
    layers = [entry("GRU", "gru_1", batch_input_shape=[None, None, 5], **OLD_GRU),
              entry("BatchNormalization", "norm", axis=-1, epsilon=1e-3, momentum=0.99, center=True, scale=True),
              entry("Dropout", "drop", rate=0.1, noise_shape=None, seed=None),
              entry("Dense", "dense", units=2, activation="hard_sigmoid", use_bias=True)]
    config = {"class_name": "Sequential", "config": layers if bare else {"name": "s", "layers": layers}}
    path = old_file(tmp_path / "m.h5", config, {"gru_1": arrays(gru), "norm": arrays(norm), "drop": [],
                                                "dense": arrays(dense)}, as_bytes=as_bytes)
    xs = [np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)]
    compare(model, rg.from_keras(path), xs, 1e-5)


def test_a_gru_with_two_biases_has_its_reset_gate_behind_the_matmul(tmp_path: Path) -> None:
    x = keras.Input((None, 5))
    gru = L.GRU(4, recurrent_activation=hard_sigmoid_2, return_sequences=True)
    model = randomized(keras.Model(x, gru(x)))
    config = {"class_name": "Sequential", "config": [entry("GRU", "g", batch_input_shape=[None, None, 5], **OLD_GRU)]}
    path = old_file(tmp_path / "m.h5", config, {"g": arrays(gru)})
    xs = [np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)]
    compare(model, rg.from_keras(path), xs, 1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("declared", [True, False])
def test_weights_of_cudnn_layers(kind: str, bidirectional: bool, declared: bool, tmp_path: Path) -> None:
    """CuDNNLSTM and CuDNNGRU, and an LSTM or GRU whose weights a CuDNN layer saved."""
    x = keras.Input((None, 5))
    layer = getattr(L, kind)(4, return_sequences=True)
    layer = L.Bidirectional(layer) if bidirectional else layer
    model = randomized(keras.Model(x, layer(x)))
    mode, stored = kind.lower(), []
    for i in range(0, len(layer.weights), 3):
        named = dict(zip(("kernel", "recurrent_kernel", "bias"), arrays(layer)[i : i + 3], strict=True))
        # one bias more than an LSTM has: two that add up to it
        converted = convert(named, "keras", "keras_cudnn", mode=mode)
        stored += [converted[n] for n in named]
    config: dict[str, Any] = {"units": 4, "return_sequences": True}
    if not declared:
        config |= {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
    inner = entry(f"CuDNN{kind}" if declared else kind, "r", **config)
    top = {**inner, "config": {**inner["config"], "batch_input_shape": [None, None, 5]}} if not bidirectional else \
        entry("Bidirectional", "r", layer=inner, merge_mode="concat", batch_input_shape=[None, None, 5])
    whole = {"class_name": "Sequential", "config": {"layers": [top]}}
    path = old_file(tmp_path / "m.h5", whole, {"r": stored}, "2.2.4")
    xs = [np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)]
    compare(model, rg.from_keras(path), xs, 1e-5)


def test_a_functional_model_of_keras_2(tmp_path: Path) -> None:
    """Initial states in a list behind the input, a model in a model (whose calls count from 1), frozen layers."""
    x, y = keras.Input((None, 5), name="x"), keras.Input((None, 3), name="y")
    lstm = L.LSTM(4, recurrent_activation=hard_sigmoid_2, return_state=True)
    decoder = L.LSTM(4, recurrent_activation=hard_sigmoid_2, return_sequences=True)
    first, norm, second = L.Dense(3), L.BatchNormalization(), L.Dense(3)
    inner = keras.Sequential([keras.Input((None, 4)), first, norm, second])
    _, h, c = lstm(x)
    out = decoder(y, initial_state=[h, c])
    model = randomized(keras.Model([x, y], [inner(out), L.Concatenate()([out, y])]))
    rnn = {"units": 4, "activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": True}
    head = {"class_name": "Model", "name": "head", "inbound_nodes": [[["decoder", 0, 0, {}]]], "config": {
        "name": "head", "input_layers": [["input_1", 0, 0]], "output_layers": [["second", 0, 0]], "layers": [
            entry("InputLayer", "input_1", [], batch_input_shape=[None, None, 4], dtype="float32", sparse=False),
            {**entry("Dense", "first", [[["input_1", 0, 0, {}]]], units=3, activation="linear"),
             "config": {"name": "first", "trainable": False, "units": 3, "activation": "linear"}},
            entry("BatchNormalization", "norm", [[["first", 0, 0, {}]]], axis=[2], epsilon=1e-3),
            entry("Dense", "second", [[["norm", 0, 0, {}]]], units=3, activation="linear")]}}
    config = {"class_name": "Model", "config": {"name": "m", "layers": [
        entry("InputLayer", "x", [], batch_input_shape=[None, None, 5], dtype="float32", sparse=False),
        entry("InputLayer", "y", [], batch_input_shape=[None, None, 3], dtype="float32", sparse=False),
        entry("LSTM", "encoder", [[["x", 0, 0, {}]]], return_state=True, **rnn),
        entry("LSTM", "decoder", [[["y", 0, 0, {}], ["encoder", 0, 1, {}], ["encoder", 0, 2, {}]]],
              return_sequences=True, **rnn),
        head, entry("Concatenate", "join", [[["decoder", 0, 0, {}], ["y", 0, 0, {}]]], axis=-1)],
        "input_layers": [["x", 0, 0], ["y", 0, 0]], "output_layers": [["head", 1, 0], ["join", 0, 0]]}}
    gamma, beta, mean, variance = arrays(norm)
    stored = [gamma, beta, *arrays(second), *arrays(first), mean, variance]  # trained ones first, in order
    path = old_file(tmp_path / "m.hdf5", config, {"x": [], "y": [], "encoder": arrays(lstm), "decoder": arrays(decoder),
                                                  "head": stored, "join": []}, "2.2.4-tf")
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((2, n, f)).astype(np.float32) for n, f in ((6, 5), (4, 3))]
    compare(model, rg.from_keras(path), xs, 1e-5)


def test_long_lists_of_names_are_split_over_attributes(tmp_path: Path) -> None:
    x = keras.Input((4,))
    layers = [L.Dense(4, name=f"dense_{i}", activation="tanh") for i in range(7)]
    model = keras.Sequential([x, *layers])
    randomized(model)
    entries = [entry("Dense", f"dense_{i}", units=4, activation="tanh", use_bias=True) for i in range(7)]
    entries[0]["config"]["batch_input_shape"] = [None, 4]
    path = old_file(tmp_path / "m.h5", {"class_name": "Sequential", "config": {"layers": entries}},
                    {f"dense_{i}": arrays(layer) for i, layer in enumerate(layers)}, split=3)
    compare(model, rg.from_keras(path), [np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)], 1e-5)


def test_weights_go_into_a_model_of_ours_by_name_or_order(tmp_path: Path) -> None:
    x = keras.Input((None, 5))
    lstm, norm, dense = L.Bidirectional(L.LSTM(4)), L.BatchNormalization(), L.Dense(2)
    theirs = randomized(keras.Model(x, dense(norm(lstm(x)))))
    xs = [np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)]
    for names in (("lstm", "norm", "dense"), ("a", "b", "c")):
        path = old_file(tmp_path / "w.h5", None, dict(zip(names, map(arrays, (lstm, norm, dense)), strict=True)))
        ours = nn.Sequential([nn.Input(("batch", "time", 5)), nn.Bidirectional(nn.LSTM(4), name="lstm"),
                              nn.BatchNormalization(name="norm"), nn.Dense(2, name="dense")])
        load_weights(ours, path)
        compare(theirs, ours, xs, 1e-5)
    with pytest.raises(ImportModelError, match=r"w\.h5: the model has 1 layers with weights \(dense\), the file 3"):
        load_weights(nn.Sequential([nn.Input(("batch", 5)), nn.Dense(2)]), path)
    with pytest.raises(ImportModelError, match=r"layer 'a': its weight 'forward/kernel' has shape \[5, 20\]"):
        load_weights(nn.Sequential([nn.Input(("batch", "time", 5)), nn.Bidirectional(nn.LSTM(5), name="a"),
                                    nn.BatchNormalization(name="b"), nn.Dense(2, name="c")]), path)
