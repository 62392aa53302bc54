"""Broken and malicious Keras files: an ImportModelError with a sentence, soon and in little memory; nothing is run."""

from __future__ import annotations

import copy
import io
import json
import random
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import ImportModelError
from tests.frontends.keras_support import keras, randomized, saved
from tests.frontends.test_keras_graphs import encoder_decoder, masked, nested
from tests.weights.hdf5_files import mutant

L = keras.layers
SEQUENTIAL = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [
    {"module": "keras.layers", "class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 4]}},
    {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 2, "activation": "linear"}}]}}


def weights_file() -> bytes:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f["layers/dense/vars/0"], f["layers/dense/vars/1"] = np.zeros((4, 2), "f4"), np.zeros(2, "f4")
    return memory.getvalue()


def archive(path: Path, config: Any = SEQUENTIAL, weights: bytes | None = None, **files: bytes) -> Path:
    """A .keras file."""
    text = config if isinstance(config, str | bytes) else json.dumps(config)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as f:
        f.writestr("config.json", text)
        f.writestr("model.weights.h5", weights_file() if weights is None else weights)
        for name, data in files.items():
            f.writestr(name, data)
    return path


def with_layer(index: int = 1, **config: Any) -> dict[str, Any]:
    """The model with other options of a layer."""
    changed = copy.deepcopy(SEQUENTIAL)
    layers: Any = changed["config"]
    layers["layers"][index]["config"].update(config)
    return changed


def with_class(name: str, **more: Any) -> dict[str, Any]:
    changed = copy.deepcopy(SEQUENTIAL)
    layers: Any = changed["config"]
    layers["layers"][1].update(class_name=name, **more)
    return changed


def test_the_model_itself_is_read(tmp_path: Path) -> None:
    assert [x.name for x in rg.from_keras(archive(tmp_path / "m.keras")).layers] == ["d"]


@pytest.mark.parametrize(("config", "says"), [
    (with_class("Lambda"), r"layer 'd' \(Lambda\) holds code of its own, which is not run"),
    (with_class("TFOpLambda"), "layer 'd'"),
    (with_class("Mine", registered_name="package>Mine"), r"layer 'd' \(Mine\): this class of layer is not supported"),
    (with_layer(activation={"class_name": "function", "config": "evil", "registered_name": "evil"}), "'evil' is not"),
    (with_layer(activation={"module": "builtins", "class_name": "Evil", "config": {}}), "'Evil' is code that the file"),
    (with_layer(units=2**40), "units must be a whole number >= 1"),
    (with_layer(units=-1), "units must be a whole number >= 1, got -1"),
    (with_layer(units=True), "units must be a whole number"),
    (with_layer(units=2**30), r"layer 'd': its weight 'kernel' has shape \[4, 1073741824\], the values have \[4, 2\]"),
    (with_layer(use_bias="yes"), "use_bias must be true or false"),
    (with_layer(quantization_config={"class_name": "X"}), "its option quantization_config=.* is not supported"),
    (with_layer(dtype={"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_from_float32"}}), "quantized"),
    (with_layer(0, batch_shape=[None, -4]), "the shape of the input must be sizes and nulls"),
    (with_layer(0, batch_shape="abc"), "the shape of the input must be sizes and nulls"),
    (with_layer(0, batch_shape=[None, 2**31]), "the shape of the input"),
    (with_layer(0, dtype="string"), "inputs of dtype 'string' are not supported"),
    (with_class("GroupNormalization"), "layer 'd'"),
    ({"class_name": "Sequential", "config": {"layers": []}}, "a Sequential without layers"),
    ({"class_name": "Sequential", "config": {"layers": [3]}}, "expected a layer with its class_name and config, got 3"),
    ({"class_name": "Evil", "config": {}}, "a model of a class of its own is code"),
    ({}, "expected a layer with its class_name"), ([], "a Sequential without layers"), ("3", "no configuration"),
    ("{", "config.json is no JSON"), ('{"a":' * 5000 + "1" + "}" * 5000, "config.json is no JSON|nested|class_name"),
    ("[" * 100000, "config.json is no JSON"),
])
def test_configurations_that_cannot_be(config: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ImportModelError, match=says):
        rg.from_keras(archive(tmp_path / "m.keras", config))


def wrapped(depth: int) -> dict[str, Any]:
    layer: Any = {"class_name": "Dense", "config": {"name": "d", "units": 2}}
    for _ in range(depth):
        layer = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": layer}}
    changed = copy.deepcopy(SEQUENTIAL)
    layers: Any = changed["config"]
    layers["layers"][1] = layer
    return changed


def test_layers_in_layers_without_end(tmp_path: Path) -> None:
    with pytest.raises(ImportModelError, match="layers within layers without end"):
        rg.from_keras(archive(tmp_path / "m.keras", wrapped(100)))


def test_steps_without_end_are_no_loop_here(tmp_path: Path) -> None:
    config = wrapped(1)
    inner = {"class_name": "LSTM", "config": {"name": "d", "units": 2}}
    config["config"]["layers"][1]["config"]["layer"] = inner
    config["config"]["layers"][0]["config"]["batch_shape"] = [None, 2**31 - 1, 3, 4]
    start = time.process_time()
    with pytest.raises(ImportModelError, match="no 'layers/time_distributed/layer/cell/vars'"):
        rg.from_keras(archive(tmp_path / "m.keras", config))
    assert time.process_time() - start < 5


def functional(calls: dict[str, list[str]], inputs: Any = (("x", 0, 0),), outputs: Any = (("a", 0, 0),)) -> Any:
    """Dense layers whose calls take the output of others."""
    layers: list[Any] = [{"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
                          "config": {"name": "x", "batch_shape": [None, 4]}}]
    for name, given in calls.items():
        layers.append({"class_name": "Dense", "name": name, "config": {"name": name, "units": 4, "activation": "relu"},
                       "inbound_nodes": [[[[g, 0, 0, {}] for g in given]]][0]})
    return {"class_name": "Functional", "config": {"name": "f", "layers": layers, "input_layers": inputs,
                                                   "output_layers": outputs}}


@pytest.mark.parametrize(("config", "says"), [
    (functional({"a": ["b"], "b": ["a"]}), "the calls of 'a', 'b' wait for each other"),
    (functional({"a": ["a"]}), "the calls of 'a' wait"),
    (functional({"a": ["nobody"]}), "the calls of 'a' wait"),
    (functional({"a": ["x"]}, outputs=[["a", 0, 7]]), "layer 'a' has no output 7 of call 0"),
    (functional({"a": ["x"]}, outputs=[["z", 0, 0]]), "layer 'z' has no output 0"),
    (functional({"a": ["x"]}, outputs=7), "expected a layer's name"),
    (functional({"a": ["x"]}, outputs=[["a", -1, 0]]), "expected a layer's name, a call and an output"),
    (functional({"a": ["x"]}, inputs=[]), "inputs"),
    (functional({"x": ["x"]}), "two layers have this name"),
    (functional({"a": ["x", "x"]}), "layer 'a' takes one input, but is called with a list of 2"),
])
def test_graphs_that_cannot_be(config: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ImportModelError, match=says):
        rg.from_keras(archive(tmp_path / "m.keras", config))


def test_archives_that_unpack_to_too_much(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as f:
        f.writestr("config.json", json.dumps(SEQUENTIAL))
        with f.open("model.weights.h5", "w", force_zip64=True) as member:
            for _ in range(120):
                member.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(ImportModelError, match=r"model\.weights\.h5 unpacks to more than the archive can hold"):
        rg.from_keras(tmp_path / "bomb.keras")
    assert tracemalloc.get_traced_memory()[1] < 2**28
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_archives_with_a_part_missing(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive(tmp_path / "whole.keras")) as whole, \
            zipfile.ZipFile(tmp_path / "m.keras", "w") as part:
        for member in whole.namelist():
            part.writestr(f"../{member}" if member == name else member, whole.read(member))
    with pytest.raises(ImportModelError, match=name.replace(".", r"\.")):
        rg.from_keras(tmp_path / "m.keras")


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f["layers/dense/vars/0"] = np.zeros((4, 2), "f4")
    with pytest.raises(ImportModelError, match="layer 'd': expected 2 arrays in 'layers/dense/vars', got 1"):
        rg.from_keras(archive(tmp_path / "m.keras", weights=memory.getvalue()))
    memory = io.BytesIO()
    with h5py.File(memory, "w") as f:
        f["layers/dense/vars/0"], f["layers/dense/vars/1"] = np.zeros((4, 2), "f4"), ["a", "b"]
    with pytest.raises(ImportModelError, match=r"weight 'bias' (has shape|is given as object)"):
        rg.from_keras(archive(tmp_path / "m.keras", weights=memory.getvalue()))


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.h5").write_bytes(b"no model")
    with pytest.raises(ImportModelError, match=r"m\.h5: this is no HDF5 file"):
        rg.compile(tmp_path / "m.h5")
    with pytest.raises(ImportModelError, match="expected a Keras model or the path"):
        rg.from_keras(3)
    with h5py.File(tmp_path / "m.h5", "w") as f:
        f["x"] = 3
    with pytest.raises(ImportModelError, match=r"m\.h5: the group '/' has no attribute 'layer_names'"):
        rg.from_keras(tmp_path / "m.h5")
    with pytest.raises(ImportModelError, match=r"nothing\.keras: No such file"):
        rg.from_keras(tmp_path / "nothing.keras")


# --- fuzzing --------------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (None, True, False, -1, 0, 1, 2, 7, 2**31, 2**63, 10**400, 1e308, float("nan"), 0.5, "", "x",
                        "relu", "valid", "../x", [], [0], [None], [[]], {}, {"class_name": "Dense"}, [1, 2, 3],
                        {"class_name": "LSTM", "config": {"units": 3}}, ["x", 0, 0], "channels_first", "\0",
                        [2**40] * 3)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from places(item)


def changed(config: Any, rng: random.Random) -> Any:
    """The configuration with some of its values replaced, removed, doubled or moved."""
    config = copy.deepcopy(config)
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = list(places(config))
        container, key = rng.choice(found)
        other, at = rng.choice(found)
        match rng.randrange(5):
            case 0:
                del container[key]
            case 1:
                container[key] = copy.deepcopy(other[at]) if not isinstance(other, list) or at < len(other) else None
            case 2 if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case _:
                container[key] = rng.choice(ODD)
    return config


def attempt(path: Path) -> bool:
    """Whether the file is read; anything but an ImportModelError is a failure."""
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rg.from_keras(path)
    except ImportModelError:
        return False
    finally:
        assert time.process_time() - start < 10
    return True


def parts(path: Path) -> tuple[Any, bytes]:
    with zipfile.ZipFile(path) as f:
        return json.loads(f.read("config.json")), f.read("model.weights.h5")


MODELS: dict[str, Callable[[], Any]] = {
    "graph": encoder_decoder, "nested": nested, "masks": masked,
    "layers": lambda: keras.Sequential([keras.Input((6, 4)), L.Conv1D(3, 2), L.MaxPooling1D(2), L.Flatten(),
                                        L.RepeatVector(3), L.Bidirectional(L.GRU(2)), L.Dense(2)])}


def fuzz(model: Any, folder: Path, count: int, seed: int) -> int:
    """How many of the mutants of its files are read."""
    rng, read = random.Random(seed), 0
    config, weights = parts(saved(randomized(model), "keras", folder))
    whole, old = (folder / "model.keras").read_bytes(), saved(model, "h5", folder).read_bytes()
    for i in range(count):
        kind = i % 4
        path = folder / ("m.h5" if kind == 3 else "m.keras")
        if kind == 0:
            archive(path, json.dumps(changed(config, rng)), weights)
        elif kind == 1:
            archive(path, json.dumps(config), mutant(weights, rng))
        else:
            path.write_bytes(mutant(whole if kind == 2 else old, rng))
        read += attempt(path)
    return read


@pytest.mark.parametrize("name", MODELS)
def test_broken_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    assert fuzz(MODELS[name](), tmp_path, 60, 1) < 60


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_many_broken_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    assert fuzz(MODELS[name](), tmp_path, 4000, 2) < 4000


def test_all_layers_that_are_not_supported_are_listed(tmp_path: Path) -> None:
    config = functional({"a": ["x"], "b": ["a"], "c": ["b"]}, outputs=[["c", 0, 0]])
    layers = config["config"]["layers"]
    layers[1]["class_name"], layers[3]["class_name"] = "Lambda", "Mine"
    layers[2] = {"class_name": "TimeDistributed", "name": "b", "inbound_nodes": layers[2]["inbound_nodes"],
                 "config": {"name": "b", "layer": {"class_name": "Theirs", "config": {"name": "inner"}}}}
    with pytest.raises(ImportModelError, match=r"'a' \(Lambda\) holds .*'inner' \(Theirs\): this.*'c' \(Mine\): this"):
        rg.from_keras(archive(tmp_path / "m.keras", config))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_path_that_is_no_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    for name in ("missing", "folder"):
        with pytest.raises(ImportModelError, match=name):
            rg.compile(tmp_path / f"{name}{suffix}")
