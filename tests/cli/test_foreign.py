"""Models from elsewhere on the command line."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import rnngraph as rg
from rnngraph.errors import MissingExtraError
from rnngraph.ir import Array
from tests.cli.conftest import Cli
from tests.frontends.onnx_graphs import info, model, runtime


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = model([helper.make_node("Reshape", ["x:0", "to"], ["y:0"])],
                 [info("x:0", ("n", 4)), info("to", (2,), "i64")], [info("y:0", (None, None))])
    onnx.save(made, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_run(cli: Cli, file: Path, tmp_path: Path) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "to.npy", np.array([4, 2]))
    out = tmp_path / "y.npz"
    done = cli("run", str(file), "-i", f"x:0={tmp_path / 'x.npy'}", "-i", f"to={tmp_path / 'to.npy'}", "-o", str(out))
    assert (done.code, done.err) == (0, "")
    np.testing.assert_array_equal(np.load(out)["y:0"], x.reshape(4, 2))


def test_the_value_that_decides_is_asked_for(cli: Cli, file: Path) -> None:
    done = cli("inspect", str(file))
    assert done.code == 2
    assert "the value of input 'to' must be known" in done.err
    assert "give it with --value NAME=NUMBER" in done.err
    assert cli("inspect", str(file), "--value", "to=-1,2").code == 0
    assert "f32[2*n,2]" in cli("compile", str(file), "--value", "to=-1,2").out
    assert "--value to=two: expected NAME=NUMBER" in cli("compile", str(file), "--value", "to=two").err


def test_a_broken_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07garbage")
    done = cli("inspect", str(tmp_path / "m.onnx"))
    assert done.code == 2
    assert "not an ONNX" in done.err


# --- all kinds of files -------------------------------------------------------------------------------------------

MXNET = Path(__file__).parents[1] / "data" / "mxnet"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Array, Array]:
    """A folder with one network as .keras, .h5, and as .onnx; an input, and what Keras gives."""
    folder = tmp_path_factory.mktemp("files")
    x = np.random.default_rng(0).standard_normal((2, 5, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Keras about numpy, and about .h5
        net = keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4, return_sequences=True),
                                keras.layers.Dense(2)])
        net.save(folder / "m.keras")
        net.save(folder / "m.h5")
        net.save_weights(folder / "w.weights.h5")
        want = np.asarray(net(x).detach())
    (folder / "m.json").write_text(net.to_json())
    rg.to_onnx(folder / "m.keras", folder / "m.onnx")
    np.save(folder / "x.npy", x)
    return folder, x, want


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.onnx"])
def test_every_command_on_a_model_file(cli: Cli, files: tuple[Path, Array, Array], tmp_path: Path, name: str) -> None:
    folder, x, want = files
    out, again = tmp_path / "y.npz", tmp_path / "again.onnx"
    done = cli("run", folder / name, "-i", folder / "x.npy", "-o", out)
    assert (done.code, done.err) == (0, "")
    (got,) = np.load(out).values()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert "GRU" in cli("inspect", folder / name).out
    assert "llvm" in cli("compile", folder / name).out
    assert cli("export", folder / name, again).code == 0
    (exported,) = runtime(onnx.load(again), {onnx.load(again).graph.input[0].name: x})
    np.testing.assert_allclose(exported, want, rtol=0, atol=1e-5)


def test_every_command_on_a_symbol(cli: Cli, tmp_path: Path) -> None:
    """The .params stand beside the -symbol.json."""
    recorded = np.load(MXNET / "gluon_lstm_io.npz")
    symbol, out = MXNET / "gluon_lstm-symbol.json", tmp_path / "y.npz"
    np.save(tmp_path / "ids.npy", recorded["ids"])
    done = cli("run", symbol, "-i", f"data={tmp_path / 'ids.npy'}", "-o", out)
    assert (done.code, done.err) == (0, "")
    (got,) = np.load(out).values()
    np.testing.assert_allclose(got, recorded["y"], rtol=0, atol=1e-5)
    assert "lstm" in cli("inspect", symbol).out
    assert cli("export", symbol, tmp_path / "again.onnx").code == 0


@pytest.mark.parametrize(("name", "message"), [
    ("w.safetensors", "a file of weights, which has no architecture: make the model"),
    ("w.pt", "a file of weights, which has no architecture"),
    ("w.npz", "a file of weights, which has no architecture"),
    ("w.params", "its architecture is the -symbol.json that was saved with it"),
    ("w.weights.h5", "these are weights alone; give the architecture as config="),
    ("m.json", "it is a Keras configuration, which rnngraph.from_keras(WEIGHTS, config=FILE) takes"),
    ("m.pt2", "does not read .pt2 files, because reading one with PyTorch may run code"),
    ("missing.onnx", "missing.onnx: No such file"), ("missing.keras", "missing.keras: No such file"),
    ("missing.h5", "missing.h5: No such file"), ("missing-symbol.json", "missing-symbol.json: no such file"),
])
@pytest.mark.parametrize("command", ["compile", "inspect", "run"])
def test_files_that_are_no_models(cli: Cli, files: tuple[Path, Array, Array], name: str, message: str,
                                  command: str) -> None:
    done = cli(command, files[0] / name)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(("package", "name"), [("onnx", "m.onnx"), ("onnx", "m.keras")])
def test_a_missing_extra_is_named(cli: Cli, files: tuple[Path, Array, Array], monkeypatch: pytest.MonkeyPatch,
                                  tmp_path: Path, package: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    done = cli("compile", files[0] / name) if name.endswith(package) else \
        cli("export", files[0] / name, tmp_path / "o.onnx")
    assert done.code == 2
    assert f"need the package {package}: pip install 'rnngraph[{package}]'" in done.err.replace("needs", "need")


def test_a_missing_extra_of_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Linear(2, 2)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rnngraph\[torch\]'"):
        rg.compile(module, example_inputs=(np.zeros((1, 2), np.float32),))
