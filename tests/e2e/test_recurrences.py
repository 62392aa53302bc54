"""rg.recurrences: what a model's loops are, where they came from, and what runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rnngraph as rg
from rnngraph import nn

EXPORTED = Path(__file__).resolve().parent.parent / "data" / "torch_export"


def test_a_stack_of_bidirectional_layers() -> None:
    model = nn.Sequential([nn.Bidirectional(nn.LSTM(4, return_sequences=True)) for _ in range(2)])
    (found,) = rg.recurrences(model, rg.Input(("batch", "time", 3)))
    assert (found.kind, found.mode, found.layers, found.direction, found.steps) == \
        ("rnn", "lstm", 2, "bidirectional", "time")
    assert (found.form, found.native, found.implementations) == ("scan", True, ("llvm.scan",))
    assert json.loads(json.dumps(found.to_dict()))["hidden"] == 4


def test_a_step_of_its_own_says_why() -> None:
    (found,) = rg.recurrences(nn.LSTM(4, activation="relu"), rg.Input(("batch", "time", 3)))
    assert (found.kind, list(found.states), found.native) == ("scan", ["h", "c"], True)
    assert found.why == ("the activation of the output is relu, cuDNN-style nodes need tanh",)


@pytest.mark.parametrize(("name", "form", "mode", "layers"), [
    ("lstm2bi_legacy", "LSTM", "lstm", 2), ("gru2bi_dynamo", "GRU", "gru", 2),
    ("rnn_relu_legacy", "RNN", "rnn_relu", 1),
    ("lstmcell4_dynamo", "unrolled", "lstm", 1), ("grucell4_legacy", "unrolled", "gru", 1),
])
def test_forms_of_an_onnx_file(name: str, form: str, mode: str, layers: int) -> None:
    (found,) = rg.recurrences(EXPORTED / f"{name}.onnx")
    assert (found.form, found.mode, found.layers, found.native) == (form, mode, layers, True)
    assert any("4 copies of one step" in w for w in found.why) == (form == "unrolled")


def test_inputs_by_name_are_for_files() -> None:
    with pytest.raises(rg.errors.CompileError, match="inputs by name are for models from files"):
        rg.recurrences(nn.LSTM(4), {"x": rg.Input(("batch", "time", 3))})
