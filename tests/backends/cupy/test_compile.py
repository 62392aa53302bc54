"""Whole models for the GPU, on the stand-in: through passes and selection, against the CPU's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.cupy.device import discover, open_device
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.errors import SelectionError
from tests.backends.cupy.on_shim import needs_compiler

pytestmark = needs_compiler
OWN = ["cupy.cudnn"]  # what is left out: these are tests of our own kernels
TOLERANCE = 2e-6  # both sides are float32, of numbers about 1


@pytest.fixture(autouse=True)
def shim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")


class Mine(nn.Cell):
    """A user's cell: a minimal gated unit whose candidate is centred."""

    def __init__(self, units: int) -> None:
        super().__init__({"h": units})
        self.units = units

    def build(self, input_size: int) -> None:
        self.w = self.add_weight("w", (input_size, 2 * self.units))
        self.r = self.add_weight("r", (self.units, 2 * self.units))

    def step(self, x: Any, state: Any) -> Any:
        h = state["h"]
        gate, new = nn.ops.split(x @ self.w + h @ self.r, 2, -1)
        keep = nn.ops.sigmoid(gate)
        h = keep * h + (1.0 - keep) * nn.ops.tanh(new - nn.ops.mean(new, -1, keepdims=True))
        return h, {"h": h}


MODELS: dict[str, Callable[[], nn.Layer]] = {
    "tagger": lambda: nn.Sequential([nn.Bidirectional(nn.LSTM(12, return_sequences=True)),
                                     nn.Dense(5, activation="softmax")]),
    "stack": lambda: nn.Sequential([nn.GRU(9, return_sequences=True), nn.GRU(7, reset_after=False), nn.Dense(3)]),
    "normalised": lambda: nn.Sequential([nn.SimpleRNN(8, return_sequences=True), nn.LayerNormalization(), nn.LSTM(5)]),
    "convolutions": lambda: nn.Sequential([nn.Conv1D(6, 3, activation="relu"), nn.MaxPooling1D(2), nn.GRU(5)]),
    "a user's cell": lambda: nn.RNN(Mine(7), return_sequences=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    layer, given = MODELS[name](), rg.Input(("batch", "time", 6))
    cpu, gpu = (rg.compile(layer, given, target=target, without=OWN) for target in ("cpu", "gpu"))
    rng = np.random.default_rng(0)
    for batch, steps in ((3, 9), (1, 12), (3, 9)):
        x = rng.standard_normal((batch, steps, 6)).astype(np.float32)
        np.testing.assert_allclose(gpu(x), cpu(x), rtol=0, atol=TOLERANCE)
    assert all(k.backend == "cupy" for k in gpu.report.kernels)


def test_lengths_and_states() -> None:
    layer, given = nn.LSTM(8, return_sequences=True, return_state=True), rg.Input(("batch", "time", 4))
    cpu, gpu = (rg.compile(layer, given, target=target, without=OWN) for target in ("cpu", "gpu"))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 6, 4)).astype(np.float32)
    state = [rng.standard_normal((4, 8)).astype(np.float32) for _ in range(2)]
    for got, want in zip(gpu(x, lengths=[6, 1, 3, 0], initial_state=state),
                         cpu(x, lengths=[6, 1, 3, 0], initial_state=state), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)


def test_embedded_tokens() -> None:
    layer, given = nn.Sequential([nn.Embedding(30, 8), nn.GRU(6)]), rg.Input(("batch", "time"), "i32")
    cpu, gpu = (rg.compile(layer, given, target=target, without=OWN) for target in ("cpu", "gpu"))
    tokens = np.random.default_rng(2).integers(0, 30, (3, 7)).astype(np.int32)
    np.testing.assert_allclose(gpu(tokens), cpu(tokens), rtol=0, atol=TOLERANCE)
    assert "cupy.op" in gpu.explain()


def test_a_report_shows_the_kernels() -> None:
    gpu = rg.compile(nn.LSTM(4), rg.Input(("batch", "time", 3)), target="gpu", without=OWN)
    text = gpu.explain()
    assert "without: the caller must not have left it out" in text
    sources = [a for k in gpu.report.kernels for a in k.artifacts().values()]
    assert any("RG_KERNEL chain(s0::Args a0" in text for text in sources)


def test_the_stand_in_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "RNNGRAPH_GPU=shim" in discover().name
    assert isinstance(open_device(), ShimDevice)
    monkeypatch.delenv("RNNGRAPH_GPU")
    with pytest.raises(SelectionError, match=r"cupy\.rnn: .*an NVIDIA GPU with a driver must be present"):
        rg.compile(nn.LSTM(4), rg.Input(("batch", "time", 3)), target="gpu", without=OWN)


def test_rows_that_are_one_in_memory() -> None:
    """A product's left side whose rows are the same memory: cuBLAS would read behind it."""
    model = nn.Sequential([nn.RepeatVector(5), nn.LSTM(6, return_sequences=True)])
    given = rg.Input(("batch", 4))
    gpu = rg.compile(model, given, target="gpu", without=[*OWN, "cupy.rows.streamed", "cupy.loop.streamed"])
    for batch in (1, 3):
        x = np.random.default_rng(0).standard_normal((batch, 4)).astype(np.float32)
        assert np.abs(np.asarray(gpu(x)) - np.asarray(rg.compile(model, given, target="cpu")(x))).max() <= TOLERANCE


def test_indices_of_large_phases_are_wide() -> None:
    gpu = rg.compile(nn.LSTM(4), rg.Input(("batch", "time", 3)), target="gpu",
                     without=[*OWN, "cupy.loop", "cupy.rows.streamed"])
    sources = [a for k in gpu.report.kernels for name, a in k.artifacts().items() if name.endswith(".cu")]
    phases = [line for text in sources for line in text.splitlines() if "blockIdx.x" in line and " at = " in line]
    assert phases
    assert all(line.strip().startswith("long long at = static_cast<long long>(blockIdx.x)") for line in phases)
