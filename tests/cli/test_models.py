"""`rnngraph compile`, `run` and `inspect` on models in Python files and on graphs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.cli.source import parse_shape
from rnngraph.ir import evaluate
from tests.cli.conftest import Cli

MODEL = """
import rnngraph as rg
nn = rg.nn
stack = rg.Sequential([nn.Bidirectional(nn.LSTM(6, return_sequences=True)),
                       nn.Bidirectional(nn.LSTM(6, return_sequences=True)), nn.Dense(3)])
relu = rg.Sequential([nn.LSTM(4, activation="relu", return_sequences=True, name="odd")])
inputs = rg.Input(("batch", "time", 5))
number = 3
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


def test_inspect_says_what_merged(cli: Cli, model: Path) -> None:
    done = cli("inspect", f"{model}:stack")
    assert (done.code, done.err) == (0, "")
    assert "as written: 4 recurrences" in done.out
    assert "as recognised: 1 recurrence\n" in done.out
    assert "lstm, input 5, hidden 6, layers 2, bidirectional, steps time, native" in done.out


def test_inspect_says_what_did_not_and_why(cli: Cli, model: Path) -> None:
    record = json.loads(cli("inspect", f"{model}:relu", "--json").out)
    assert [r["kind"] for r in record["after"]] == ["scan"]
    (missed,) = [r for r in record["remarks"] if r["kind"] == "missed"]
    assert (missed["pass"], missed["layer"]) == ("raise-rnn", "odd")
    assert "relu" in missed["message"]


def test_compile_reports_and_dumps(cli: Cli, model: Path, tmp_path: Path) -> None:
    done = cli("compile", f"{model}:stack", "--dump", tmp_path / "dump", "--time")
    assert (done.code, done.err) == (0, "")
    assert "merge-stacked" in done.out
    stages = sorted(p.name for p in (tmp_path / "dump").glob("*.rg"))
    assert stages[:2] == ["000-trace.rg", "001-canonicalize.rg"]
    again = cli("opt", tmp_path / "dump" / "000-trace.rg", "-p", "canonicalize", "--refs")
    assert again.out == cli("opt", tmp_path / "dump" / "001-canonicalize.rg", "-p", "dce", "--refs").out


def test_compile_json(cli: Cli, model: Path) -> None:
    record = json.loads(cli("compile", f"{model}:stack", "--json").out)
    assert record["inputs"] == ["x: f32[batch,time,5]"]
    assert record["passes"][0]["name"] == "canonicalize"
    assert record["kernels"]


def test_compile_for_an_absent_gpu(cli: Cli, model: Path) -> None:
    if rg.backends.default_registry().device("gpu").present:
        pytest.skip("there is a GPU here")
    done = cli("compile", f"{model}:stack", "--target", "gpu")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "no NVIDIA driver" in done.err


def test_run_a_python_model(cli: Cli, model: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 7, 5), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "lengths.npy", np.array([7, 4], np.int32))
    done = cli("run", f"{model}:stack", "--input", tmp_path / "x.npy", "--input",
               f"lengths={tmp_path / 'lengths.npy'}", "--out", tmp_path / "y.npz", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["outputs"]["y"]["shape"] == [2, 7, 3]
    space: dict[str, object] = {}
    exec(MODEL, space)
    graph = rg.trace(space["stack"], space["inputs"], lengths=True)  # type: ignore[arg-type]
    expected = evaluate(graph, {"x": x, "lengths": np.array([7, 4], np.int32)}, float64=True)
    with np.load(tmp_path / "y.npz") as out:
        np.testing.assert_allclose(out["y"], expected["y"], rtol=1e-5, atol=1e-5)


def test_run_under_a_mask(cli: Cli, model: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 4, 5), np.float32)
    mask = np.array([[1, 0, 1, 1], [0, 1, 1, 0]])
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "mask.npy", mask)
    done = cli("run", f"{model}:stack", "-i", tmp_path / "x.npy", "--mask", tmp_path / "mask.npy",
               "--out", tmp_path / "y.npz")
    assert (done.code, done.err) == (0, "")
    space: dict[str, object] = {}
    exec(MODEL, space)
    graph = rg.trace(space["stack"], space["inputs"], mask=True)  # type: ignore[arg-type]
    expected = evaluate(graph, {"x": x, "mask": mask.astype(bool)}, float64=True)
    with np.load(tmp_path / "y.npz") as out:
        np.testing.assert_allclose(out["y"], expected["y"], rtol=1e-5, atol=1e-5)


def test_run_in_chunks(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("""
import rnngraph as rg
from rnngraph import nn
model = nn.LSTM(6, return_sequences=True, return_state=True)
both = nn.Bidirectional(nn.GRU(4), name="both")
inputs = rg.Input(("batch", "time", 5))
""")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((2, 7, 5), np.float32))
    for name, more in (("whole", []), ("chunks", ["--stream", "3"])):
        done = cli("run", f"{tmp_path / 'm.py'}:model", "-i", tmp_path / "x.npy", "-o", tmp_path / f"{name}.npz", *more)
        assert (done.code, done.err) == (0, "")
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "chunks.npz") as parts:
        assert list(whole) == list(parts) == ["y", "lstm.h", "lstm.c"]
        for name in whole:
            np.testing.assert_array_equal(parts[name], whole[name])
    done = cli("run", f"{tmp_path / 'm.py'}:both", "-i", tmp_path / "x.npy", "--stream", "3")
    assert done.code == 2
    assert "layer 'both/backward' cannot run step by step" in done.err


def test_run_a_graph(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "g.rg").write_text("graph @g(%a: f32[B], %b: f32[B]) { %y = sub %a, %b : f32[B]  return y = %y }")
    np.save(tmp_path / "one.npy", np.ones(3, np.float32))
    np.save(tmp_path / "two.npy", np.full(3, 2, np.float32))
    done = cli("run", tmp_path / "g.rg", "-i", f"b={tmp_path / 'one.npy'}", "-i", tmp_path / "two.npy")
    assert done.code == 0
    assert "y: dtype float32, shape [3], min 1.0, mean 1.0, max 1.0" in done.out


@pytest.mark.parametrize(("files", "message"), [
    ([], "missing input(s) ['a', 'b']"),
    (["one.npy"], "missing input(s) ['b']"),
    (["one.npy"] * 3, "the model takes a, b, each once"),
    (["a=one.npy", "a=one.npy"], "each once"),
    (["one.npy", "b=one.npy", "c=one.npy"], "takes ['a', 'b']"),
    (["one.npy", "wide.npy"], "float64"),
    (["one.npy", "text.npy"], "text.npy: not a readable .npy file"),
    (["one.npy", "none.npy"], "none.npy: No such file"),
    (["one.npy", "long.npy"], "dim 'B' is"),
])
def test_bad_inputs(cli: Cli, tmp_path: Path, files: list[str], message: str) -> None:
    (tmp_path / "g.rg").write_text("graph @g(%a: f32[B], %b: f32[B]) { %y = sub %a, %b : f32[B]  return y = %y }")
    np.save(tmp_path / "one.npy", np.ones(3, np.float32))
    np.save(tmp_path / "wide.npy", np.ones(3))
    np.save(tmp_path / "long.npy", np.ones(4, np.float32))
    (tmp_path / "text.npy").write_text("1 2 3")
    args = [f"{n}={tmp_path / f}" if n else str(tmp_path / f) for n, _, f in (item.rpartition("=") for item in files)]
    done = cli("run", tmp_path / "g.rg", *(part for a in args for part in ("-i", a)))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(("spec", "message"), [
    ("model.py:other", "has no 'other'; it defines rg, nn, stack, relu, inputs, number"),
    ("model.py:number", "expected a layer or model of rnngraph.nn, got int"),
    ("broken.py:model", "broken.py: running it failed: ZeroDivisionError: division by zero"),
])
def test_bad_python_models(cli: Cli, model: Path, tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "broken.py").write_text("model = 1 / 0\n")
    done = cli("inspect", tmp_path / spec)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_shapes_on_the_command_line(cli: Cli, model: Path) -> None:
    assert str(parse_shape("words=batch,time:i32", "x")) == "<Input words: i32[batch,time]>"
    done = cli("inspect", f"{model}:stack", "--shape", "batch,20,9")
    assert "lstm, input 9, hidden 6, layers 2, bidirectional, steps 20" in done.out
    assert "DIM" in cli("inspect", "--help").out
