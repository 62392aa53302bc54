"""Trials of implementations on an unproven device, the tuning file, target="auto", without=: on the GPU's stand-in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.cupy import stage_run
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.errors import CompileError, DeviceError, SelectionError
from rnngraph.passes import run
from rnngraph.rewrite import PassContext, Tried
from rnngraph.runtime.tuning import FILE, Trial, Tuning
from tests.backends.cupy.on_shim import needs_compiler

X = rg.Input(("batch", "time", 3))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in that is tried as a real GPU is; gives the folder of the tuning file."""
    monkeypatch.setenv("RNNGRAPH_GPU", "shim-tried")
    monkeypatch.setenv("RNNGRAPH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def chosen(model: rg.CompiledModel) -> list[str]:
    return [op.impl for op in model.program.graph.block.body if op.name == "scan"]


def trials(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / FILE).read_text())["trials"].values())


OURS: dict[str, Any] = {"target": "gpu", "without": ["cupy.cudnn"]}


@needs_compiler
def test_what_was_right_is_chosen_and_remembered(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.GRU(5)
    made = rg.compile(model, X, **OURS)
    tried = trials(gpu)
    assert {t["implementation"] for t in tried} >= {"cupy.rnn", *chosen(made)}
    assert all(t["failure"] == "" and t["error"] < 1e-5 and t["seconds"] is None for t in tried)
    x = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    assert np.allclose(made(x), rg.compile(model, X, target="cpu")(x), atol=1e-5)
    again = list[str]()

    def noted(self: object, graph: object, impl: str, sizes: object) -> tuple[Tried, bool]:
        again.append(impl)
        return Tried(), True

    monkeypatch.setattr("rnngraph.trials.Trials._try", noted)
    assert chosen(rg.compile(model, X, **OURS)) == chosen(made)
    assert chosen(rg.compile(nn.GRU(5), X, seed=1, **OURS)) == chosen(made)  # whose weights they are does not matter
    assert not again
    monkeypatch.setattr("rnngraph.trials.sources_digest", lambda folder: "another version of the code")
    rg.compile(model, X, **OURS)
    assert "cupy.rnn" in again


@needs_compiler
def test_what_is_wrong_is_not_chosen(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = stage_run.StageRun.phase

    def wrong(self: stage_run.StageRun, p: int, t: int, before: int, step: int) -> None:
        right(self, p, t, before, 0)  # carries that swap places are read at the wrong one

    first = rg.compile(nn.RNN(nn.GRUCell(5, reset_after=False)), X, **OURS)
    assert set(chosen(first)) != {"cupy.scan"}
    monkeypatch.setattr(stage_run.StageRun, "phase", wrong)
    with pytest.raises(SelectionError, match=r"cupy\.scan: trial: its numbers must be right \(off by \S+ of the scale"):
        rg.compile(nn.RNN(nn.GRUCell(5, reset_after=False)), X, target="gpu",
                   without=[i for i in LOOPS if i != "cupy.scan"])


LOOPS = [i.name for i in rg.backends.default_registry().implementations
         if i.backend == "cupy" and i.ops & {"scan", "rnn"} and i.name != "cupy.rnn"]


@needs_compiler
def test_what_does_not_build_is_left_for_the_next(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = ShimDevice.build

    def no_loops(self: ShimDevice, source: Any) -> Any:
        if not all(k.startswith("phase") for k in source.kernels):
            raise CompileError("too many registers")
        return build(self, source)

    monkeypatch.setattr(ShimDevice, "build", no_loops)
    made = rg.compile(nn.GRU(5), X, **OURS)
    assert chosen(made) == ["cupy.scan"]
    assert "trial: it must build and run (too many registers)" in made.explain()
    assert {t["failure"] for t in trials(gpu) if t["implementation"] == "cupy.loop"} == {
        "trial: it must build and run (too many registers)"}
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")  # where nothing is tried, building tells
    made = rg.compile(nn.GRU(5), X, **OURS)
    assert chosen(made) == ["cupy.scan"]
    assert "did not build for layer 'gru/l0f', another was taken: too many registers" in made.explain()


@needs_compiler
def test_a_gpu_that_fails_once_is_tried_again(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(self: object, *given: object, **named: object) -> None:
        raise DeviceError("cupy: the GPU has failed: an illegal address")

    with monkeypatch.context() as broken:
        broken.setattr("rnngraph.backends.cupy.shim.ShimModule.launch", failed)
        made = rg.compile(nn.GRU(5), X, **OURS)
        assert "trial: it must build and run (DeviceError: " in made.explain()
    assert not set(chosen(made)) & {"cupy.loop", "cupy.loop.streamed", "cupy.scan"}
    assert chosen(rg.compile(nn.GRU(5), X, **OURS)) != chosen(made)


@needs_compiler
def test_what_an_expansion_was_tried_with_is_part_of_its_key(gpu: Path) -> None:
    """In bf16 it may be less exact; and what was true without a candidate is not true with it."""
    rg.compile(nn.LSTM(24), X, precision="bf16", **OURS)
    made = rg.compile(nn.LSTM(24), X, **OURS)
    assert not any(t["failure"] for t in trials(gpu) if t["implementation"] == "cupy.rnn")
    assert "cupy.rnn  chosen" in " ".join(made.explain().split()).replace("cupy.rnn chosen", "cupy.rnn  chosen")
    before = len(trials(gpu))
    rg.compile(nn.LSTM(24), X, target="gpu", without=["cupy.cudnn", "cupy.loop"])
    assert sum(t["implementation"] == "cupy.rnn" for t in trials(gpu)[before:]) == 1


@needs_compiler
def test_a_trial_without_candidates_is_one_that_failed(gpu: Path) -> None:
    left_out = ["cupy.loop", "cupy.scan", "cupy.interpreted", "cupy.steps"]
    made = rg.compile(nn.GRU(5), X, target="gpu", autotune=True, without=left_out)
    (network,) = (op.impl for op in made.program.graph.block.body if op.name == "rnn")
    assert network.startswith("cupy.cudnn.")


@needs_compiler
def test_autotune_measures(gpu: Path) -> None:
    made = rg.compile(nn.RNN(nn.GRUCell(5, reset_after=False)), X, autotune=True, dims={"time": 3}, **OURS)
    tried = {t["implementation"]: t["seconds"] for t in trials(gpu)}
    assert {"cupy.loop", "cupy.scan"} <= set(tried)
    assert all(s is not None and s > 0 for s in tried.values())
    (best,) = chosen(made)
    assert tried[best] == min(tried[n] for n in tried if n != "cupy.rnn")
    assert "the fastest when run" in made.explain()


@needs_compiler
@pytest.mark.parametrize(("units", "steps", "side"), [(4, 2, "cpu"), (256, 1000, "gpu")])
def test_auto_pays_for_the_transfer(monkeypatch: pytest.MonkeyPatch, units: int, steps: int, side: str) -> None:
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    graph = rg.trace(nn.LSTM(units), X)
    context = PassContext("auto", rg.backends.default_registry(), {"time": steps, "batch": 32})
    run("select-implementation", graph, context)
    words = context.artifacts["selection"].to_text().splitlines()[0]
    assert words.startswith(f"placed on the {side}: a call is estimated to take ")
    assert "of which moving inputs and outputs takes" in words
    assert {op.impl.split(".")[0] for op in graph.block.body if op.impl} <= ({"cupy"} if side == "gpu" else
                                                                           {"llvm", "reference"})


def test_names_of_without() -> None:
    with pytest.raises(CompileError, match=r"without: no implementation is called 'cupy\.lop'; there are cupy\."):
        rg.compile(nn.LSTM(4), X, without=["cupy.lop"])
    with pytest.raises(CompileError, match="without is a list of names of implementations, got 'cupy'"):
        rg.compile(nn.LSTM(4), X, without="cupy")
    made = rg.compile(nn.LSTM(4), X, target="cpu", without=["llvm"])
    assert {op.impl for op in made.program.graph.block.body if op.impl} <= {
        i.name for i in rg.backends.default_registry().implementations if i.backend == "reference"}
    with pytest.raises(CompileError, match="autotune=True measures the gpu's implementations"):
        rg.compile(nn.LSTM(4), X, target="cpu", autotune=True)


GOOD = Trial("gpu", "scan", "T=3", "cupy.loop", "", 1e-3, 1e-7)


def test_the_tuning_file_lasts(tmp_path: Path) -> None:
    Tuning(tmp_path).put("a", GOOD)
    other = Tuning(tmp_path)
    other.put("b", GOOD)
    assert Tuning(tmp_path).get("a") == Tuning(tmp_path).get("b") == GOOD
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0
    assert Tuning(None).get("a") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"version": 2}', b'{"version": 1, "trials": 3}', b"\xff\xfe",
                                     b"[" * 100_000, b'{"version": 1, "trials": {"a": {"device": 1}}}'])
def test_a_damaged_tuning_file_is_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    tuning = Tuning(tmp_path)
    assert tuning.get("a") is None
    tuning.put("b", GOOD)
    assert Tuning(tmp_path).get("b") == GOOD


def test_a_tuning_file_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)  # reading it would wait for ever
    assert Tuning(tmp_path).entries == {}


def test_a_huge_tuning_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("wb") as f:
        f.truncate(1 << 30)
    assert Tuning(tmp_path).entries == {}
