"""Calls of models from elsewhere, and what is said of wrong ones: by the names and in the terms of their files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import ImportModelError, InputError
from tests.frontends.onnx_graphs import info, model, runtime
from tests.frontends.torch_support import close, draw


def raises(error: type[Exception], message: str) -> Any:
    return pytest.raises(error, match=re.escape(message))


RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 2, 3), np.float32)


def recurrent(lengths: bool = False) -> onnx.ModelProto:
    """A GRU over x:0 [time, batch, 3], with sequence lengths or without."""
    weights = {"W": RNG.standard_normal((1, 12, 3), np.float32), "R": RNG.standard_normal((1, 12, 4), np.float32)}
    inputs = ["x:0", "W", "R", "", "seq lens"] if lengths else ["x:0", "W", "R"]
    return model([helper.make_node("GRU", inputs, ["y", ""], hidden_size=4)],
                 [info("x:0", ("time", "batch", 3)), *([info("seq lens", ("batch",), "i32")] if lengths else [])],
                 [info("y", (None, None, None, None))], weights)


def open_model() -> onnx.ModelProto:
    """A model that does not tell the rank of its input."""
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in "xy")
    return model([helper.make_node("Softmax", ["x"], ["y"])], [x], [y])


def test_lengths_are_an_input_of_the_file() -> None:
    made = recurrent(lengths=True)
    compiled = rg.compile(made)
    with raises(InputError, "a model from elsewhere takes them as inputs of its own: give 'seq lens' (i32[batch])"):
        compiled(X, np.array([5, 3], np.int32), lengths=[5, 3])
    feed = {"x:0": X, "seq lens": np.array([5, 3], np.int32)}
    np.testing.assert_allclose(compiled.run(feed)["y"], runtime(made, feed)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("what", ["lengths", "mask"])
def test_without_such_an_input(what: str) -> None:
    compiled = rg.compile(recurrent())
    given: dict[str, Any] = {"lengths": [5, 3], "mask": np.ones((2, 5), bool)}
    with raises(InputError, f"{what}= is for layers of rnngraph.nn;") as e:
        compiled(X, **{what: given[what]})
    assert "cut the padding and call rows of one length together" in str(e.value)
    module = torch.nn.Linear(3, 4).eval()
    with raises(InputError, f"{what}= says which steps recurrent layers run, and Linear has none that take it"):
        rg.compile(module, example_inputs=(torch.zeros(5, 2, 3),))(X, **{what: given[what]})


def test_a_mapping_where_arrays_are_expected() -> None:
    compiled = rg.compile(recurrent(lengths=True))
    feed = {"x:0": X, "seq lens": np.array([5, 3], np.int32)}
    for call in (lambda: compiled(feed), lambda: compiled.prepare(feed)):
        with raises(InputError, "got a mapping with the keys ['x:0', 'seq lens']: inputs by name go to model.run"):
            call()
    assert list(compiled.run(feed)) == ["y"]


def test_names_of_the_file_in_messages() -> None:
    compiled = rg.compile(recurrent(lengths=True))
    with raises(InputError, "missing input(s) ['seq lens']; the model takes ['x:0', 'seq lens']"):
        compiled(X)
    with raises(InputError, "input 'seq lens': expected i32[batch], got dtype float32"):
        compiled(X, X[0, :, 0])
    with raises(InputError, "'x:0'"):
        compiled(X[..., :2], np.array([5, 3], np.int32))
    wrong: Any = X
    with raises(InputError, "run takes a mapping"):
        compiled.run(wrong)


@pytest.mark.parametrize("said", [{"x": ("n", "b", 3)}, [("n", "b", 3)], ("n", "b", 3), rg.Input(("n", "b", 3)),
                                  {"x": ["n", "b", 3]}, {"x": (7, "b", 3)}], ids=str)
def test_shapes_alone_as_inputs(said: Any) -> None:
    made = open_model()
    x = np.concatenate([X, X[:2]]) if "7" in str(said) else X
    (want,) = runtime(made, {"x": x})
    np.testing.assert_allclose(rg.compile(made, inputs=said)(x), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("said", "message"), [
    ({"x": 3}, "expected an rnngraph.Input(('batch', 'time', 80)), or a shape alone, for input 'x', got 3"),
    ("x", "or several, by name or place; got 'x'"),
    ({"x": (7, -1)}, "or a shape alone, for input 'x', got (7, -1)"),
    ({"x": (7, None)}, "or a shape alone, for input 'x', got (7, None)"),
    (3, "or several, by name or place; got 3"),
])
def test_shapes_that_are_none(said: Any, message: str) -> None:
    made = open_model()
    with raises(ImportModelError, message):
        rg.compile(made, inputs=said)


def test_example_inputs_of_models_that_need_none() -> None:
    rg.compile(recurrent(), example_inputs={"x:0": X})
    rg.compile(recurrent(), example_inputs=X)
    rg.compile(nn.GRU(4), rg.Input(("batch", "time", 3)), example_inputs=(X,))
    for example, message in (((X, X), "expected 1 input(s) ['x:0'], got 2 arrays"), ((X[..., :2],), "'x:0'"),
                             ({"x": X}, "unknown input 'x'"), ({}, "missing input(s) ['x:0']")):
        with raises(InputError, f"example_inputs do not fit: {message}" if message != "'x:0'" else "do not fit"):
            rg.compile(recurrent(), example_inputs=example)
    with raises(ImportModelError, "example_kwargs= is for PyTorch modules"):
        rg.compile(recurrent(), example_kwargs={"x:0": X})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras
def test_keras_names_are_the_file_s(tmp_path: Path) -> None:
    a, b = keras.Input((None, 3), name="in one"), keras.Input((4,), name="in.two")
    y = keras.layers.GRU(4, name="rnn (fast)")(a)
    net = keras.Model({"in one": a, "in.two": b}, {"sum of both": y + b, "last": y})
    net.save(tmp_path / "net.keras")
    feed = {"in one": X, "in.two": RNG.standard_normal((5, 4), np.float32)}
    want = {n: np.asarray(v.detach()) for n, v in net(feed).items()}
    for source in (net, tmp_path / "net.keras"):
        compiled = rg.compile(source)
        assert set(compiled.input_names) == set(feed)
        assert set(compiled.output_names) == set(want)
        for name, got in compiled.run(feed).items():
            np.testing.assert_allclose(got, want[name], rtol=0, atol=1e-5)
        with raises(InputError, "missing input(s) ['in.two']"):
            compiled.run({"in one": X})


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras
@pytest.mark.parametrize("config", ["missing.json", "folder", "nul\0byte", Path("missing.json")], ids=repr)
def test_a_configuration_that_is_no_file(config: Any, tmp_path: Path) -> None:
    net = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4)])
    net.save_weights(tmp_path / "w.weights.h5")
    (tmp_path / "folder").mkdir()
    place = str(tmp_path / config) if isinstance(config, str) else config
    with pytest.raises(ImportModelError, match=r"(?s)config=.*is no file that can be read .*model.to_json\(\)"):
        rg.from_keras(tmp_path / "w.weights.h5", config=place)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "w.npz", "w.bin", "w.params", "w.SAFETENSORS"])
def test_files_of_weights_are_no_models(name: str) -> None:
    with raises(ImportModelError, f"{name}: expected a model, got a file of weights, which has no architecture") as e:
        rg.compile(name)
    how = "-symbol.json that was saved with it" if name == "w.params" else f"rg.load_state_dict(model, '{name}')"
    assert how in str(e.value)


@pytest.mark.parametrize("path", ["m.txt", "m", "m.tflite"])
def test_what_no_frontend_reads(path: str) -> None:
    with raises(ImportModelError, f"cannot read model '{path}': expected a layer of rnngraph.nn"):
        rg.compile(path)


def test_tensors_of_pytorch_are_arrays() -> None:
    module = torch.nn.GRU(3, 4).eval()
    x = torch.from_numpy(X)
    for compiled in (rg.compile(recurrent()), rg.compile(module, example_inputs=(x,))):
        outputs = (compiled(X), compiled(x), compiled(x.requires_grad_()), compiled(x.bfloat16().float()))
        first, *rest = (o if isinstance(o, np.ndarray) else o[0] for o in outputs)
        np.testing.assert_array_equal(first, rest[0])
        np.testing.assert_array_equal(first, rest[1])
    with raises(InputError, "on the device meta, which has none"):
        compiled(torch.empty(5, 2, 3, device="meta"))
    with raises(InputError, "got dtype float64"):
        compiled(x.double())


def test_bfloat16() -> None:
    """numpy has no bfloat16: models of it take float32, rounded, or PyTorch's tensors; they give float32."""
    module = torch.nn.LSTM(3, 4).bfloat16().eval()
    x = draw(6, 2, 3)
    compiled = rg.compile(module, example_inputs=(draw(5, 2, 3).bfloat16(),))
    with torch.no_grad():
        want = module(x.bfloat16())[0].float()
    got, *_ = compiled(x.bfloat16())
    assert got.dtype == np.float32
    close(got, want, tolerance=2.0**-7)
    np.testing.assert_array_equal(got, compiled(x)[0])
    with raises(InputError, "input 'input': expected bf16"):
        compiled(x.double())
    full = rg.compile(torch.nn.LSTM(3, 4).eval(), example_inputs=(x,))
    np.testing.assert_array_equal(full(x.bfloat16())[0], full(x.bfloat16().float())[0])


def test_recurrences_of_an_example_by_name() -> None:
    module = torch.nn.GRU(3, 4).eval()
    (found,) = rg.recurrences(module, example_inputs={"input": torch.from_numpy(X)})
    assert re.search(r"\bgru\b", str(found))
