"""Files that PyTorch 2.13 exported, old exporter and new: its numbers, and one rnn node for a stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import ImportModelError

DATA = Path(__file__).resolve().parent.parent / "data" / "torch_export"
STACKS = {"lstm2bi": "an LSTM", "gru2bi": "a GRU (reset after the matmul)"}
LAYERS = {"rnn_relu": "an RNN (relu)", "rnn_tanh_nobias": "an RNN (tanh)"}


def same(name: str) -> rg.CompiledModel:
    with np.load(DATA / f"{name}.npz") as data:
        x, y = data["x"], data["y"]
    compiled = rg.compile(DATA / f"{name}.onnx")
    np.testing.assert_allclose(compiled(x), y, rtol=0, atol=1e-6)
    return compiled


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("name", STACKS)
def test_two_bidirectional_layers_are_one_node(name: str, exporter: str) -> None:
    """Between the two nodes stand a Transpose and a Reshape, before them Expands of zeros: nothing of it is left."""
    said = same(f"{name}_{exporter}").explain()
    assert said.count(f"the scan is {STACKS[name]}") == 2
    assert said.count("are one bidirectional rnn node") == 2
    assert "are one rnn node of 2 layers" in said


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_a_node(name: str) -> None:
    assert f"the scan is {LAYERS[name]}" in same(f"{name}_legacy").explain()


def test_a_projection_is_not_a_sound_node() -> None:
    """Its initial c has the size of the cell, while R, of the size of h alone, says what hidden_size is."""
    with pytest.raises(ImportModelError, match=r"'node_lstm__2' \(LSTM\): expected an initial state .*\[1, 4, 3\]"):
        rg.compile(DATA / "lstm_proj_dynamo.onnx")
