"""Whole models on the stand-in whose networks cuDNN runs: against PyTorch, Keras and the float64 reference."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import rnngraph as rg
from rnngraph import nn
from rnngraph.ir import Rnn, evaluate
from rnngraph.nn.fused import FusedRNN
from tests.backends.cupy.on_shim import needs_compiler

TOLERANCE = 1e-5  # of numbers about 1
X = rg.Input(("batch", "time", 6))
REFERENCE: dict[str, Any] = {"target": "cpu", "without": ["llvm"]}


@pytest.fixture(autouse=True)
def shim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")


def implementations(model: rg.CompiledModel) -> list[str]:
    """Of what is recurrent in the graph that runs."""
    return [op.impl for op in model.program.graph.block.body if op.name in ("rnn", "scan")]


def series(batch: int = 3, steps: int = 8, features: int = 6, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((batch, steps, features)).astype(np.float32)


MODELS: dict[str, Callable[[], nn.Layer]] = {
    "lstm": lambda: nn.LSTM(12),
    "sequences": lambda: nn.GRU(12, return_sequences=True),
    "rnn": lambda: nn.SimpleRNN(12, activation="relu"),
    "backwards": lambda: nn.LSTM(9, go_backwards=True, return_sequences=True),
    "both": lambda: nn.Bidirectional(nn.GRU(7, return_sequences=True)),
    "stack": lambda: nn.Sequential([nn.LSTM(9, return_sequences=True), nn.LSTM(7, return_sequences=True), nn.LSTM(5)]),
    "mixed": lambda: nn.Sequential([nn.GRU(9, return_sequences=True), nn.LSTM(5)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_layers(name: str) -> None:
    """Against the float64 reference of the traced graph, twice with one size and once with another."""
    layer = MODELS[name]()
    gpu = rg.compile(layer, X, target="gpu")
    graph = rg.trace(layer, X)
    for x in (series(), series(1, 5), series(seed=1)):
        (want,) = evaluate(graph, {graph.input_names[0]: x}, float64=True).values()
        np.testing.assert_allclose(gpu(x), want, rtol=0, atol=TOLERANCE)
    assert {i.rpartition(".")[0] for i in implementations(gpu)} == {"cupy.cudnn"}


@pytest.mark.parametrize("name", ["lstm", "both", "stack"])
def test_lengths_and_states(name: str) -> None:
    """Rows of no steps, of all, and in no order; against the reference."""
    kind = nn.LSTM if name != "both" else nn.GRU
    made = kind(8, return_sequences=True, return_state=True)
    layer = nn.Sequential([nn.LSTM(7, return_sequences=True), made]) if name == "stack" else made
    cpu, gpu = rg.compile(layer, X, **REFERENCE), rg.compile(layer, X, target="gpu")
    x, rng = series(4, 6), np.random.default_rng(1)
    for lengths in ([6, 1, 3, 0], [2, 5, 6, 6], [0, 0, 0, 0], None):
        more: dict[str, Any] = {} if lengths is None else {"lengths": lengths}
        if name == "lstm":
            more["initial_state"] = [rng.standard_normal((4, 8)).astype(np.float32) for _ in range(2)]
        for got, want in zip(gpu(x, **more), cpu(x, **more), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)
    assert all(".cudnn." in i for i in implementations(gpu))


# --- models from elsewhere -----------------------------------------------------------------------------------------

TORCH: dict[str, Callable[[], torch.nn.Module]] = {
    "lstm": lambda: torch.nn.LSTM(6, 9, 2, bidirectional=True, batch_first=True),
    "gru": lambda: torch.nn.GRU(6, 9, 3, batch_first=True),
    "relu": lambda: torch.nn.RNN(6, 9, nonlinearity="relu", batch_first=True),
    "projected": lambda: torch.nn.LSTM(6, 9, 2, proj_size=4, bidirectional=True, batch_first=True),
    "double": lambda: torch.nn.LSTM(6, 9, batch_first=True).double(),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", TORCH)
def test_pytorch(name: str) -> None:
    torch.manual_seed(0)
    module = TORCH[name]().eval()
    dtype = next(module.parameters()).dtype
    gpu = rg.compile(module, example_inputs=(torch.from_numpy(series()).to(dtype),), target="gpu")
    for x in (series(), series(1, 4, seed=1)):
        given = torch.from_numpy(x).to(dtype)
        with torch.no_grad():
            y, states = module(given)
        want = [y, *(states if isinstance(states, tuple) else (states,))]
        for got, array in zip(gpu(given.numpy()), want, strict=True):
            np.testing.assert_allclose(got, array.numpy(), rtol=0, atol=TOLERANCE if name != "double" else 1e-12)
    assert {i.rpartition(".")[0] for i in implementations(gpu)} == {"cupy.cudnn"}


@needs_compiler
def test_pytorch_in_f16() -> None:
    """It stays f16 where cuDNN runs all of it that has products, and is f32 inside where something else does."""
    torch.manual_seed(0)
    module = torch.nn.LSTM(6, 9, 2, batch_first=True).eval()
    half = torch.nn.LSTM(6, 9, 2, batch_first=True).half().eval()
    half.load_state_dict(module.state_dict())
    x = series().astype(np.float16)
    with torch.no_grad():
        want = module.float()(torch.from_numpy(x.astype(np.float32)))[0].numpy()
    for without, dtype in (([], "f16"), (["cupy.cudnn"], "f32")):
        gpu = rg.compile(half, example_inputs=(torch.from_numpy(x),), target="gpu", without=without)
        inside = [op for op in gpu.program.graph.block.body if op.name in ("rnn", "scan")]
        assert {str(op.results[0].type.dtype) for op in inside} == {dtype}
        if dtype == "f16":
            got = gpu(x)[0]
            assert got.dtype == np.float16
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-3)


def test_keras() -> None:
    """Its GRU has the gates z r h and two biases."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 6)), keras.layers.Bidirectional(keras.layers.LSTM(
        7, return_sequences=True)), keras.layers.GRU(5, bias_initializer="random_normal")])
    gpu = rg.compile(model, target="gpu")
    for x in (series(), series(1, 4, seed=1)):
        want = model(x, training=False).detach().numpy()
        np.testing.assert_allclose(gpu(x), want, rtol=0, atol=TOLERANCE)
    assert len(implementations(gpu)) == 2
    assert all(".cudnn." in i for i in implementations(gpu))


# --- what is asked for ---------------------------------------------------------------------------------------------


def test_precisions() -> None:
    layer, x = nn.LSTM(24), series()
    want = np.asarray(rg.compile(layer, X, **REFERENCE)(x))
    for precision, tolerance in (("tf32", 2e-3), ("bf16", 2e-2)):
        gpu = rg.compile(layer, X, target="gpu", precision=precision, dims={"batch": 64, "time": 2000})
        assert implementations(gpu) == [f"cupy.cudnn.small_h.{precision}"]
        got = np.asarray(gpu(x))
        assert TOLERANCE < np.abs(got - want).max() < tolerance
        assert got.dtype == np.float32


@pytest.mark.parametrize(("layer", "rates"), [
    (lambda: FusedRNN("lstm", 8, 3, bidirectional=True, dropout=0.5), [0.5]),
    pytest.param(lambda: nn.Sequential([nn.GRU(8, return_sequences=True), nn.Dropout(0.5), nn.GRU(8)]), [0.0, 0.0],
                 marks=needs_compiler)])
def test_dropout_has_the_masks_of_every_backend(layer: Callable[[], nn.Layer], rates: list[float]) -> None:
    """Within a node and between nodes; without training there are none."""
    made, x = layer(), series()
    gpu = rg.compile(made, X, target="gpu", training=True, seed=3)
    nodes = [op for op in gpu.program.graph.block.body if op.name == "rnn"]
    assert [Rnn(op).attrs.dropout for op in nodes] == rates
    assert all(op.impl.startswith("cupy.cudnn.") for op in nodes)
    want = np.asarray(rg.compile(made, X, training=True, seed=3, **REFERENCE)(x))
    np.testing.assert_allclose(gpu(x), want, rtol=0, atol=TOLERANCE)
    assert np.abs(want - np.asarray(rg.compile(made, X, target="gpu")(x))).max() > 1e-3


def test_the_report_says_why() -> None:
    text = rg.compile(nn.GRU(8, reset_after=False), X, target="gpu", dims={"time": 50}).explain()
    assert "reset-after: cuDNN's GRU multiplies the reset gate onto R h + bR, not onto h (reset_after is false)" in text
    text = rg.compile(nn.GRU(8), X, target="gpu").explain()
    assert "precision: products in bf16 are what compile(precision='bf16') asks for (it is f32)" in text
    assert "cupy.cudnn.small_h is estimated faster" in text
