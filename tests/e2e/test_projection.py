"""Projected LSTMs through the whole pipeline: one node for a stack, reasons where there is none, native numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.cli import main
from rnngraph.ir import Rnn, evaluate, parse
from rnngraph.nn import LSTM, Bidirectional, Layer, Sequential
from rnngraph.report.numeric import deviation, random_inputs
from rnngraph.runtime.model import CompiledModel
from tests.nn.native_cells import filled

INPUTS = rg.Input(("batch", "time", 5))
MERGES = ("raise-rnn", "merge-bidirectional", "merge-stacked")


def compiled(model: Layer) -> CompiledModel:
    return rg.compile(filled(model, 5), INPUTS, target="cpu", threads=1, verify="numeric")


def both(name: str, proj_size: int | None = 3, **options: Any) -> Bidirectional:
    return Bidirectional(LSTM(7, return_sequences=True, proj_size=proj_size, **options), name=name)


def remarks(model: CompiledModel) -> list[str]:
    return [str(r) for p in model.report.passes if p.name in MERGES for r in p.remarks]


def nodes(model: CompiledModel, **variant: bool) -> list[Rnn]:
    report = model.variant(**variant).report
    (record,) = [p for p in report.passes if p.name == "merge-stacked"]
    return [Rnn(op) for op in parse(record.after, report.resources).block.ops if op.name == "rnn"]


def test_a_stack_of_both_directions_is_one_node() -> None:
    model = Sequential([both("low"), both("high")])
    made = compiled(model)
    for how in ({}, {"lengths": True}, {"initial_state": True}, {"lengths": True, "initial_state": True}):
        (node,) = nodes(made, **how)
        assert (node.attrs.num_layers, node.attrs.direction, node.attrs.proj) == (2, "bidirectional", 3)
        graph = rg.trace(model, INPUTS, **how)
        for dims in ({"batch": 1, "time": 9}, {"batch": 7, "time": 4}):
            inputs = random_inputs(graph, dims)
            want = evaluate(graph, inputs, float64=True)
            for name, got in made.run(inputs).items():
                error, scale = deviation(got, want[name])
                assert error <= 1e-5 * scale, (name, how, dims)
        assert {k.backend for k in made.variant(**how).report.kernels} == {"llvm"}
    assert remarks(made) == [
        *(f"applied: raise-rnn: {n}/{d}: the scan is an LSTM with h projected to 3 features: now an rnn node"
          for n in ("low", "high") for d in ("forward", "backward")),
        *(f"applied: merge-bidirectional: {n}: layers {n}/forward and {n}/backward are one bidirectional rnn node"
          for n in ("low", "high")),
        "applied: merge-stacked: low+high: layers low and high are one rnn node of 2 layers",
    ]


def test_layers_of_other_projections_stay_apart() -> None:
    made = compiled(Sequential([both("low"), both("high", 2)]))
    assert [n.attrs.proj for n in nodes(made)] == [3, 2]
    assert "missed: merge-stacked: high: layer high projects h to 2 features, layer low to 3" in remarks(made)
    made = compiled(Sequential([both("low"), both("high", None)]))
    assert ("missed: merge-stacked: high: layer low projects h to 3 features, layer high does not project"
            in remarks(made))


@pytest.mark.parametrize(("arguments", "reason"), [
    ({"cell_clip": 1.0}, "state c is clipped (min, max); a fused node's states are not"),
    ({"proj_size": 3, "proj_clip": 1.0}, "state h is clipped (min, max); a fused node's states are not"),
    ({"proj_size": 3, "cell_clip": (-1.0, 2.0)}, "state c is clipped (min, max); a fused node's states are not"),
    ({"clip": 1.0}, "the sum of gate i is clipped (min, max) before its activation"),
    ({"peepholes": True, "proj_size": 3}, "peephole: gate i reads the cell state c"),
    ({"input_forget": True}, "gates i and f are one gate; a fused node would compute it twice"),
    ({"activation": "relu", "proj_size": 3}, "the activation of the output is relu, cuDNN-style nodes need tanh"),
])
def test_an_option_that_no_fused_node_has_is_named(arguments: dict[str, Any], reason: str) -> None:
    made = compiled(LSTM(7, name="odd", **arguments))
    assert remarks(made) == [f"missed: raise-rnn: odd: {reason}"]


@pytest.mark.parametrize("arguments", [{"forget_bias": 1.0}, {"forget_bias": 1.0, "proj_size": 3, "use_bias": False}])
def test_a_forget_bias_in_the_graph_becomes_part_of_the_bias(arguments: dict[str, Any]) -> None:
    made = compiled(LSTM(7, name="biased", **arguments))
    (node,) = nodes(made)
    assert node.attrs.hidden == 7


def test_inspect_shows_the_projection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.py"
    path.write_text("import rnngraph as rg\nmodel = rg.nn.LSTM(7, proj_size=3)\n"
                    "inputs = rg.Input(('batch', 'time', 5))\n")
    assert main(["inspect", f"{path}:model"]) == 0
    assert "projected to 3" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("proj", [1, 2, 15, 16, 17, 33, 64, 100])
@pytest.mark.parametrize("units", [1, 7, 16, 33, 64, 130])
def test_widths(units: int, proj: int) -> None:
    layer = filled(LSTM(units, proj_size=proj, return_sequences=True), 5)
    for threads in (1, 2):
        made = rg.compile(layer, INPUTS, target="cpu", threads=threads)
        graph = rg.trace(layer, INPUTS)
        for dims in ({"batch": 1, "time": 70}, {"batch": 7, "time": 11}, {"batch": 33, "time": 5}):
            inputs = random_inputs(graph, dims)
            error, scale = deviation(made.run(inputs)["y"], evaluate(graph, inputs, float64=True)["y"])
            assert error <= 1e-5 * scale, dims
    assert np.shape(made(np.zeros((0, 3, 5), np.float32))) == (0, 3, proj)
