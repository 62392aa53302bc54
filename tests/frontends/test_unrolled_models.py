"""Recurrences that PyTorch's exporters, torch.export and MXNet unroll: one rnn node each, with their numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import rnngraph as rg
from rnngraph.ir import Array
from rnngraph.runtime.model import CompiledModel

DATA = Path(__file__).resolve().parent.parent / "data"
EXPORTED = sorted(p.stem for p in (DATA / "torch_export").glob("*.npz"))
ROLLED = ("grucell4", "lstmcell4", "rnn_relu_dynamo", "rnn_tanh_nobias_dynamo")


def near(got: Array | tuple[Array, ...], want: Array) -> None:
    assert isinstance(got, np.ndarray)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def recurrences(compiled: CompiledModel) -> tuple[int, int]:
    """(rnn nodes, scans) after the merges."""
    text = next(p.after for p in compiled.report.passes if p.name == "merge-stacked")
    return text.count(" = rnn "), text.count(" = scan ")


def copies(compiled: CompiledModel) -> list[str]:
    return [r.message for p in compiled.report.passes for r in p.remarks if r.pass_name == "roll-steps"]


@pytest.mark.parametrize("name", EXPORTED)
def test_torch_exporters(name: str) -> None:
    golden = np.load(DATA / "torch_export" / f"{name}.npz")
    compiled = rg.compile(DATA / "torch_export" / f"{name}.onnx", target="cpu", verify="numeric")
    near(compiled(golden["x"]), golden["y"])
    assert recurrences(compiled) == (1, 0)
    assert len(copies(compiled)) == name.startswith(ROLLED)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_mxnet_unroll(kind: str) -> None:
    data = dict(np.load(DATA / "mxnet" / f"unrolled_{kind}_io.npz"))
    x, y = data.pop("data"), data.pop("y")
    compiled = rg.compile(DATA / "mxnet" / f"unrolled_{kind}-symbol.json", params=data, target="cpu")
    near(compiled(x), y)
    assert recurrences(compiled) == (1, 0)
    assert "5 copies of one step" in copies(compiled)[0]


class Stepped(torch.nn.Module):
    """A Python loop over a cell; it gives the last state, the states, or a layer's outputs for each step."""

    def __init__(self, cell: torch.nn.Module, steps: int, gives: str, backwards: bool) -> None:
        super().__init__()
        self.cell, self.steps, self.gives, self.backwards = cell, steps, gives, backwards
        self.head = torch.nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = torch.zeros(x.shape[0], 6)
        found = []
        for t in reversed(range(self.steps)) if self.backwards else range(self.steps):
            if isinstance(self.cell, torch.nn.LSTMCell):
                h, c = self.cell(x[:, t], (h, c))
            else:
                h = self.cell(x[:, t], h)
            found.append(torch.relu(self.head(h)) if self.gives == "outputs" else h)
        return h if self.gives == "last" else torch.stack(found[::-1] if self.backwards else found, 1)


@pytest.mark.parametrize("gives", ["last", "states", "outputs"])
@pytest.mark.parametrize(("cell", "steps", "backwards"), [
    (torch.nn.LSTMCell, 2, False), (torch.nn.LSTMCell, 5, True), (torch.nn.GRUCell, 4, False),
    (torch.nn.RNNCell, 3, True),
])
def test_python_loops_in_torch(cell: Callable[[int, int], torch.nn.Module], steps: int, backwards: bool,
                               gives: str) -> None:
    torch.manual_seed(steps)
    module = Stepped(cell(4, 6), steps, gives, backwards).eval()
    x = torch.randn(3, steps, 4)
    compiled = rg.compile(module, example_inputs=(x,), target="cpu")
    near(compiled(x.numpy()), module(x).detach().numpy())
    assert recurrences(compiled) == (1, 0)
    assert f"{steps} copies of one step" in copies(compiled)[0]
