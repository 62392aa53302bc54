"""medaka's four networks: weights read from PyTorch's checkpoints without running them, results beside PyTorch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import rnngraph as rg
from benchmarks.zoo import medaka
from benchmarks.zoo.fetch import Unreachable
from tests.frontends.torch_support import close

GOLDEN = Path(__file__).resolve().parent.parent / "data" / "real" / "medaka.npz"  # medaka's own code, on PyTorch


def network(name: str) -> rg.Sequential:
    try:
        return medaka.model(name, offline=True)
    except Unreachable as e:
        pytest.skip(str(e))


@pytest.mark.parametrize("name", medaka.NAMES)
def test_as_medaka(name: str) -> None:
    model = network(name)
    compiled = rg.compile(model)
    with np.load(GOLDEN, allow_pickle=False) as golden:
        close(np.asarray(compiled(golden["x"])), torch.from_numpy(golden[f"y_{name}"]))
    remarks = compiled.explain()
    assert "applied: merge-stacked: low+high: layers low and high are one rnn node of 2 layers" in remarks
    for layer in ("low", "high"):
        assert f"applied: merge-bidirectional: {layer}" in remarks


def test_as_torch_module() -> None:
    """The same network as a torch module: one rnn node from the start."""
    state = {n: torch.from_numpy(a.copy()) for n, a in _state().items()}

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = torch.nn.GRU(10, state["gru.weight_hh_l0"].shape[1], 2, bidirectional=True, batch_first=True)
            classes, features = state["linear.weight"].shape
            self.linear = torch.nn.Linear(features, classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.linear(self.gru(x)[0]), -1)

    module = Network().eval()
    module.load_state_dict(state)
    with np.load(GOLDEN, allow_pickle=False) as golden:
        compiled = rg.compile(module, example_inputs=(torch.from_numpy(golden["x"]),))
        close(np.asarray(compiled(golden["x"])), torch.from_numpy(golden[f"y_{medaka.NAMES[0]}"]))


def _state() -> dict[str, rg.ir.Array]:
    try:
        return medaka.state_dict(medaka.NAMES[0], offline=True)
    except Unreachable as e:
        pytest.skip(str(e))
