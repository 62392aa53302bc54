"""medaka's network by layers and as a torch module: either becomes one rnn node. tests/e2e/test_real_models.py has the
numbers of its four networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rnngraph as rg
from benchmarks.zoo import medaka
from benchmarks.zoo.case import RECORDED
from benchmarks.zoo.fetch import Unreachable
from rnngraph.ir import Array
from tests.frontends.torch_support import close


@pytest.fixture(scope="module")
def state() -> dict[str, Array]:
    try:
        return medaka.state_dict(medaka.NAMES[0], offline=True)
    except Unreachable as e:
        pytest.skip(str(e))


@pytest.mark.usefixtures("state")
def test_layers_are_merged() -> None:
    remarks = rg.compile(medaka.model(medaka.NAMES[0], offline=True)).explain()
    assert "applied: merge-stacked: low+high: layers low and high are one rnn node of 2 layers" in remarks
    for layer in ("low", "high"):
        assert f"applied: merge-bidirectional: {layer}" in remarks


def test_as_a_torch_module(state: dict[str, Array]) -> None:
    tensors = {n: torch.from_numpy(a.copy()) for n, a in state.items()}

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(10, tensors["gru.weight_hh_l0"].shape[1], 2, bidirectional=True, batch_first=True)
            classes, features = tensors["linear.weight"].shape
            self.linear = torch.nn.Linear(features, classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.linear(self.gru(x)[0]), -1)

    module = Network().eval()
    module.load_state_dict(tensors)
    with np.load(RECORDED / "medaka.npz") as golden:
        compiled = rg.compile(module, example_inputs=(torch.from_numpy(golden["x"]),))
        assert [op.name for op in compiled.report.passes[0].start.graph.walk() if op.name in ("rnn", "scan")] == ["rnn"]
        close(np.asarray(compiled(golden["x"])), torch.from_numpy(golden[f"y_{medaka.NAMES[0]}"]))
