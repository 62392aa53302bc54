"""What no kernel takes: moves by CuPy, all else by numpy on the host; on the stand-in and on a double of CuPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.cupy import device
from rnngraph.backends.cupy.gpu import CupyDevice
from rnngraph.ir import resolve
from tests.backends.cupy.fake_cupy import installed
from tests.backends.cupy.on_shim import needs_compiler

pytestmark = needs_compiler
TOLERANCE = 2e-6  # both sides are float32, of numbers about 1
KERNELS = ["cupy.cudnn", "cupy.scan", "cupy.loop"]  # without them a loop is the host's
SIZES = {"batch": 2, "time": 7}  # of symbols
IMAGES, ROWS, TOKENS = ("batch", "time", 4, 4, 2), ("batch", "time", 6), ("batch", "time")


MODELS: dict[str, tuple[Callable[[], Any], rg.Input]] = {
    "embedding": (lambda: nn.Sequential([nn.Embedding(30, 8), nn.GRU(6)]), rg.Input(TOKENS, "i32")),
    "convolution": (lambda: nn.Sequential([nn.Conv1D(6, 3), nn.MaxPooling1D(2), nn.GRU(5)]), rg.Input(ROWS)),
    "loop of convolutions": (lambda: nn.ConvLSTM2D(3, 3, padding="same"), rg.Input(IMAGES)),
    "convolutions that change sizes": (lambda: nn.ConvLSTM2D(3, 3), rg.Input(IMAGES)),
    "nothing but elementwise": (lambda: nn.Sequential([nn.LSTM(5), nn.Activation("softsign")]), rg.Input(ROWS)),
}


@pytest.fixture(params=["stand-in", "double"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    if request.param == "double":
        installed(monkeypatch)
        monkeypatch.setattr(device, "open_device", CupyDevice)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    make, given = MODELS[name]
    layer = make()
    model = rg.compile(layer, given, target="gpu", without=["cupy.cudnn"])
    cpu = rg.compile(layer, given, target="cpu")
    rng, shape = np.random.default_rng(0), resolve(given.type.shape, SIZES)
    for _ in range(3):  # launched, captured, replayed
        x: Any = rng.integers(0, 30, shape) if given.type.dtype.kind == "int" else rng.standard_normal(shape)
        x = x.astype(given.type.dtype.numpy)
        np.testing.assert_allclose(model(x), cpu(x), rtol=0, atol=TOLERANCE)


@pytest.mark.usefixtures("gpu")
def test_a_mask_goes_to_the_host() -> None:
    """Bools are numbers on the device."""
    layer, rng = nn.ConvLSTM2D(3, 3, return_sequences=True), np.random.default_rng(1)
    gpu = rg.compile(layer, rg.Input(IMAGES), target="gpu", without=KERNELS)
    cpu = rg.compile(layer, rg.Input(IMAGES), target="cpu")
    x, mask = rng.standard_normal((2, 5, 4, 4, 2)).astype(np.float32), rng.random((2, 5)) < 0.5
    np.testing.assert_allclose(gpu(x, mask=mask), cpu(x, mask=mask), rtol=0, atol=TOLERANCE)


def test_the_report_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    model = rg.compile(nn.ConvLSTM2D(3, 3), rg.Input(IMAGES), target="gpu", without=KERNELS)
    model(np.zeros((1, 2, 4, 4, 2), np.float32))
    (kernel,) = model.report.kernels
    assert "scan is computed by numpy on the host" in kernel.artifacts()["launches.txt"]
