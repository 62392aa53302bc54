"""The options of GRUCell and SimpleRNNCell: against float64 numpy in native code, PyTorch and ONNX Runtime."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import GRU, RNN, GRUCell, SimpleRNN, SimpleRNNCell
from tests.nn.native_cells import check_cell, close, filled, native
from tests.nn.numpy_cells import Array, Step, sigmoid, simple, wide
from tests.nn.support import some


def gru(weights: dict[str, Array], reset_after: bool, clip: float = np.inf) -> Step:
    w = wide(weights)
    bias = w["bias"] if reset_after else np.stack([w["bias"], np.zeros_like(w["bias"])])

    def bounded(v: Array) -> Array:
        return np.clip(v, -clip, clip)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        (h,) = state
        xz, xr, xn = np.split(x @ w["kernel"] + bias[0], 3, axis=1)
        hz, hr, hn = np.split(h @ w["recurrent_kernel"] + bias[1], 3, axis=1)
        z, r = sigmoid(bounded(xz + hz)), sigmoid(bounded(xr + hr))
        if not reset_after:
            hn = (r * h) @ np.split(w["recurrent_kernel"], 3, axis=1)[2]
        h = z * h + (1.0 - z) * np.tanh(bounded(xn + (r * hn if reset_after else hn)))
        return h, [h]

    return step


@pytest.mark.parametrize("units", [1, 7, 33])
@pytest.mark.parametrize("reset_after", [False, True])
def test_gru(reset_after: bool, units: int) -> None:
    check_cell(GRUCell(units, reset_after=reset_after, clip=0.3), partial(gru, reset_after=reset_after, clip=0.3))
    check_cell(GRUCell(units, reset_after=reset_after), partial(gru, reset_after=reset_after))


@pytest.mark.parametrize("units", [1, 7, 33])
def test_simple_rnn(units: int) -> None:
    check_cell(SimpleRNNCell(units, clip=0.3), partial(simple, act=lambda v: np.tanh(np.clip(v, -0.3, 0.3))))


def ort_run(kind: str, weights: list[Array], x: Array, **attributes: Any) -> Array:
    """Y [B,T,H] of an ONNX op with weights W, R, B in ONNX's order."""
    feeds = {"X": x.transpose(1, 0, 2), **{n: v[None] for n, v in zip("WRB", weights, strict=True)}}
    make, kinds = onnx.helper, onnx.TensorProto
    node = make.make_node(kind, list(feeds), ["Y"], hidden_size=weights[1].shape[1], **attributes)
    graph = make.make_graph(
        [node], "g", [make.make_tensor_value_info(n, kinds.FLOAT, a.shape) for n, a in feeds.items()],
        [make.make_tensor_value_info("Y", kinds.FLOAT, None)])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 14)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {n: np.ascontiguousarray(a) for n, a in feeds.items()})
    return np.asarray(y[:, 0].transpose(1, 0, 2))


@pytest.mark.parametrize("reset_after", [False, True])
def test_onnx_runtime_clips_a_gru_alike(reset_after: bool) -> None:
    layer = filled(GRU(6, return_sequences=True, reset_after=reset_after, clip=0.3), 5)
    kernel, recurrent, bias = layer.weights.values()
    both = bias.reshape(-1) if reset_after else np.concatenate([bias, np.zeros_like(bias)])
    x = some(3, 8, 5) * np.float32(3.0)
    want = ort_run("GRU", [kernel.T, recurrent.T, both], x, clip=0.3, linear_before_reset=int(reset_after))
    close(native(layer, 5)(x), want)


def test_onnx_runtime_clips_a_simple_rnn_alike() -> None:
    layer = filled(SimpleRNN(6, return_sequences=True, clip=0.3), 5)
    kernel, recurrent, bias = layer.weights.values()
    x = some(3, 8, 5) * np.float32(3.0)
    want = ort_run("RNN", [kernel.T, recurrent.T, np.concatenate([bias, np.zeros_like(bias)])], x, clip=0.3)
    close(native(layer, 5)(x), want)


def test_torch_resets_after_the_matmul() -> None:
    layer = filled(GRU(6, return_sequences=True), 5)
    module, x = torch.nn.GRU(5, 6, batch_first=True), some(3, 8, 5)

    def gates(v: Array) -> Any:  # z, r, n -> r, z, n
        z, r, n = np.split(v, 3, axis=-1)
        return torch.from_numpy(np.concatenate([r, z, n], axis=-1).T.copy())

    kernel, recurrent, bias = layer.weights.values()
    module.load_state_dict({"weight_ih_l0": gates(kernel), "weight_hh_l0": gates(recurrent),
                            "bias_ih_l0": gates(bias[0]), "bias_hh_l0": gates(bias[1])})
    with torch.no_grad():
        close(native(layer, 5)(x), module(torch.from_numpy(x))[0].numpy())


def test_the_reset_before_has_one_bias() -> None:
    layer = filled(RNN(GRUCell(4, reset_after=False)), 5)
    assert {n: w.shape for n, w in layer.weights.items()} == {
        "kernel": (5, 12), "recurrent_kernel": (4, 12), "bias": (12,)}


@pytest.mark.parametrize("make", [GRU, SimpleRNN])
@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"units": 2.0}, ShapeError, "units must be an int >= 1, got 2.0"),
    ({"clip": 0}, TraceError, "clip must be above 0"),
    ({"implementation": True}, TraceError, "implementation must be 1"),
    ({"recurrent_dropout": 1.5}, TraceError, r"recurrent_dropout must be in 0\.\.1, got 1.5"),
])
def test_arguments(make: Any, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(**({"units": 4} | arguments))
