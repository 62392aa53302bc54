"""assign and extract, against live PyTorch, Keras and ONNX Runtime: their outputs from the weights that we move."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import ConversionError, RnngraphError, ShapeError, TraceError
from rnngraph.ir import evaluate
from rnngraph.weights import RecurrentWeights, assign, convert, extract, load
from tests.weights.support import Array, random_weights, run, same_bits

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

DATA = Path(__file__).resolve().parent.parent / "data" / "mxnet"
B, T, I, H = 3, 6, 5, 4  # noqa: E741
INPUT = rg.Input(("batch", "time", I))


def some(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ours(model: Any, x: Array) -> Array:
    """In float64, by the reference evaluation of the traced graph."""
    return evaluate(rg.trace(model, INPUT), {"x": x}, float64=True)["y"]


def weights_of(layer: Any) -> list[Array]:
    """`layer.get_weights()`, which warns under this backend."""
    return [v.value.detach().numpy() for v in layer.weights]


def stack(kind: str, layers: int, directions: int, units: int = H, **options: Any) -> nn.Sequential:
    make = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.SimpleRNN, "rnn_relu": nn.SimpleRNN}[kind]
    if kind == "rnn_relu":
        options["activation"] = "relu"
    one: list[Any] = [make(units, return_sequences=True, **options) for _ in range(layers)]
    return nn.Sequential([nn.Bidirectional(layer) if directions == 2 else layer for layer in one])


def torch_module(kind: str, layers: int, directions: int, **options: Any) -> Any:
    torch.manual_seed(1)
    name = {"lstm": "LSTM", "gru": "GRU"}.get(kind, "RNN")
    if kind == "rnn_relu":
        options["nonlinearity"] = "relu"
    return getattr(torch.nn, name)(I, H, layers, batch_first=True, bidirectional=directions == 2, **options)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 3])
def test_from_torch_and_back(kind: str, layers: int, directions: int) -> None:
    module, model = torch_module(kind, layers, directions), stack(kind, layers, directions)
    assign(model, module.state_dict(), source="torch", mode=kind)
    x = some(B, T, I)
    with torch.no_grad():
        np.testing.assert_allclose(ours(model, x), module.double()(torch.from_numpy(x).double())[0], rtol=0, atol=1e-6)
        other = torch_module(kind, layers, directions)
        state = {name: torch.from_numpy(a) for name, a in extract(model, to="torch").items()}
        other.load_state_dict(state)
        np.testing.assert_allclose(ours(model, x), other(torch.from_numpy(x))[0], rtol=0, atol=1e-5)


def test_a_projection_from_torch() -> None:
    module, model = torch_module("lstm", 2, 2, proj_size=2), stack("lstm", 2, 2, proj_size=2)
    assign(model, module.state_dict(), source="torch")
    x = some(B, T, I)
    with torch.no_grad():
        np.testing.assert_allclose(ours(model, x), module.double()(torch.from_numpy(x).double())[0], rtol=0, atol=1e-6)
    assert extract(model, to="torch")["weight_hr_l1_reverse"].shape == (2, H)
    assign(nn.RNN(nn.LSTMPCell(H, 2)), random_weights("lstm", H, I, projection=2))


def test_the_compiled_layer_gives_what_torch_gives() -> None:
    module, model = torch_module("lstm", 2, 2), stack("lstm", 2, 2)
    assign(model, module.state_dict(), source="torch")
    x = some(B, T, I)
    compiled = rg.compile(model, INPUT)
    with torch.no_grad():
        np.testing.assert_allclose(compiled(x), module(torch.from_numpy(x))[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", [
    keras.layers.LSTM(H, return_sequences=True, bias_initializer="uniform"),
    keras.layers.GRU(H, return_sequences=True, bias_initializer="uniform"),
    keras.layers.GRU(H, return_sequences=True, bias_initializer="uniform", reset_after=False),
    keras.layers.SimpleRNN(H, return_sequences=True, bias_initializer="uniform"),
    keras.layers.LSTM(H, return_sequences=True, use_bias=False),
    keras.layers.Bidirectional(keras.layers.GRU(H, return_sequences=True, bias_initializer="uniform")),
], ids=["lstm", "gru", "gru-before", "simple", "no-bias", "bidirectional"])
def test_from_keras_and_back(layer: Any) -> None:
    x = some(B, T, I)
    expected = layer(x).detach().numpy()
    w = load(weights_of(layer), "keras")
    by_path = load({v.path: v.value for v in layer.weights}, "keras")
    assert by_path.equals(w)
    y, _, _ = run(w, x.transpose(1, 0, 2))
    np.testing.assert_allclose(y.transpose(1, 0, 2), expected, rtol=0, atol=1e-5)
    inner = layer.forward_layer if w.directions == 2 else layer
    make: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.SimpleRNN}
    options = {"reset_after": w.reset_after} if w.mode == "gru" else {}
    mine = make[w.mode](H, return_sequences=True, use_bias=inner.use_bias, **options)
    model = nn.Bidirectional(mine) if w.directions == 2 else mine
    assign(model, weights_of(layer), source="keras")
    np.testing.assert_allclose(ours(model, x), expected, rtol=0, atol=1e-5)
    for got, given in zip(extract(model, to="keras").values(), weights_of(layer), strict=True):
        np.testing.assert_array_equal(got, given)


def onnx_outputs(w: RecurrentWeights, x: Array) -> Array:
    """What ONNX Runtime gives for one node with the converted weights, as [T, B, D*H]."""
    arrays = w.to("onnx")
    attributes: dict[str, Any] = {"hidden_size": w.hidden}
    if w.directions == 2:
        attributes["direction"] = "bidirectional"
    if w.mode == "gru":
        attributes["linear_before_reset"] = int(w.reset_after)
    if w.mode == "rnn_relu":
        attributes["activations"] = ["Relu"] * w.directions
    inputs = ["x", "W", "R", "B" if "B" in arrays else ""] + (["", "", "", "P"] if "P" in arrays else [])
    operator = {"lstm": "LSTM", "gru": "GRU"}.get(w.mode, "RNN")
    node = onnx.helper.make_node(operator, inputs, ["y"], **attributes)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value("x", onnx.TensorProto.FLOAT, x.shape)],
                                   [value("y", onnx.TensorProto.FLOAT, None)],
                                   [onnx.numpy_helper.from_array(a, name) for name, a in arrays.items()])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y = session.run(None, {"x": x})[0]  # [T, D, B, H]
    return np.concatenate([y[:, d] for d in range(w.directions)], -1)


@pytest.mark.parametrize("kind", [
    {"mode": "lstm"}, {"mode": "lstm", "peepholes": True}, {"mode": "lstm", "biases": 0}, {"mode": "gru"},
    {"mode": "gru", "reset_after": False}, {"mode": "rnn_tanh"}, {"mode": "rnn_relu"}], ids=str)
@pytest.mark.parametrize("directions", [1, 2])
def test_onnx_runtime_gives_the_same(kind: dict[str, Any], directions: int) -> None:
    w = random_weights(hidden=H, inputs=I, directions=directions, **kind)
    x = some(T, B, I)
    expected = run(w, x)[0]
    np.testing.assert_allclose(onnx_outputs(w, x), expected, rtol=0, atol=1e-5 * max(1.0, float(abs(expected).max())))


def test_keras_to_onnx_by_convert() -> None:
    layer = keras.layers.LSTM(H, return_sequences=True, bias_initializer="uniform")
    x = some(B, T, I)
    expected = layer(x).detach().numpy()
    w = load(convert(weights_of(layer), "keras", "onnx"), "onnx")
    np.testing.assert_allclose(onnx_outputs(w, x.transpose(1, 0, 2)).transpose(1, 0, 2), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_extract_and_assign_are_inverse(kind: str) -> None:
    model, other = stack(kind, 2, 2), stack(kind, 2, 2)
    for part in (model, other):
        part.build((None, None, I))
    model.set_weights([some(*w.shape, seed=i) for i, w in enumerate(model.weights.values())])
    for system in ("torch", "keras", "mxnet_cells", "onnx"):
        options: dict[str, Any] = {"reset_after": True} if (system, kind) == ("onnx", "gru") else {}
        assign(other, extract(model, to=system), source=system, mode=kind, **options)
        same_bits(other.weights, model.weights)


def test_forget_bias_and_peepholes_of_a_cell() -> None:
    model = nn.RNN(nn.LSTMCell(H, peepholes=True, forget_bias=1.0), return_sequences=True)
    w = random_weights("lstm", H, I, peepholes=True, biases=1)
    assign(model, w.to("tf", forget_bias=1.0), source="tf")
    x = some(B, T, I)
    np.testing.assert_allclose(ours(model, x).transpose(1, 0, 2), run(w, x.transpose(1, 0, 2))[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(extract(model, to="onnx")["P"], w.to("onnx")["P"])
    same_bits(extract(model, to="tf", forget_bias=1.0), w.to("tf", forget_bias=1.0))


def test_stacked_cells_and_layers_beside() -> None:
    w = random_weights("gru", H, I, layers=2)
    assign(nn.RNN([nn.GRUCell(H), nn.GRUCell(H)]), w)
    model = nn.Sequential([nn.Dense(I), nn.GRU(H, return_sequences=True), nn.Dropout(0.5), nn.GRU(H), nn.Dense(2)])
    assign(model, w)
    np.testing.assert_array_equal(extract(model, to="torch")["weight_hh_l1"], w.to("torch")["weight_hh_l1"])


BIG = random_weights("lstm", H, I, dtype=np.float64)
BIG.cells[0][0].w[0, 0] = 1e300


@pytest.mark.parametrize(("layer", "w", "error", "message"), [
    (nn.LSTM(H), random_weights("gru", H, I), TraceError, "the weights are for gru, cell LSTMCell is of the kind lstm"),
    (nn.LSTM(H + 1), random_weights("lstm", H, I), ShapeError, "kernel: expected the shape [5, 20], the weights have"),
    (nn.GRU(H), random_weights("gru", H, I, reset_after=False), ConversionError, "layer 'gru': the reset gate of its"),
    (nn.LSTM(H), random_weights("lstm", H, I, peepholes=True), ConversionError, "no place for the peepholes"),
    (nn.LSTM(H), random_weights("lstm", H, I, projection=2), ConversionError, "no place for the projection"),
    (nn.LSTM(H, proj_size=2), random_weights("lstm", H, I), TraceError, "has a projection, the weights have none"),
    (nn.LSTM(H, use_bias=False), random_weights("lstm", H, I), TraceError, "use_bias=False; the bias of the weights"),
    (nn.LSTM(H), random_weights("lstm", H, I, layers=2), TraceError, "has 1 recurrent layer(s) of 1 direction(s)"),
    (nn.Bidirectional(nn.LSTM(H)), random_weights("lstm", H, I), TraceError, "of 2 direction(s), the weights are of"),
    (nn.LSTM(H, input_forget=True), random_weights("lstm", H, I), TraceError, "no weights for the gate f"),
    (nn.LSTM(H), BIG, TraceError, "kernel: has numbers beyond float32"),
    (nn.Dense(3), random_weights("lstm", H, I), TraceError, "expected a recurrent layer"),
    (nn.Sequential([nn.LSTM(H), nn.Dense(3), nn.LSTM(H)]), random_weights("lstm", H, I), TraceError,
     "layer 'dense' stands between recurrent layers"),
    (nn.Sequential([nn.Dense(3)]), random_weights("lstm", H, I), TraceError, "has no recurrent layer whose weights"),
    (nn.RNN(nn.HighwayCell(nn.LSTMCell(H))), random_weights("lstm", H, I), TraceError, "only LSTM, GRU and SimpleRNN"),
])
def test_what_a_layer_cannot_take(layer: Any, w: RecurrentWeights, error: type[RnngraphError], message: str) -> None:
    with pytest.raises(error) as found:
        assign(layer, w)
    assert message in str(found.value)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_a_fused_layer(kind: str) -> None:
    module, fused = torch_module(kind, 2, 2), nn.FusedRNN(kind, H, 2, bidirectional=True)
    assign(fused, module.state_dict(), source="torch", mode=kind)
    x = some(B, T, I)
    with torch.no_grad():
        np.testing.assert_allclose(ours(fused, x), module.double()(torch.from_numpy(x).double())[0], rtol=0, atol=1e-6)
    expected = load(module.float().state_dict(), "torch", mode=kind)
    assert load(extract(fused, to="torch"), "torch", mode=kind).equals(expected)
    model = nn.Sequential([nn.FusedRNN(kind, H, 1), nn.Dropout(0.1), stack(kind, 1, 1).layers[0]])
    assign(model, random_weights(kind, H, I, layers=2, biases=1))
    same_bits(extract(model, to="torch"), random_weights(kind, H, I, layers=2, biases=1).to("torch"))


def test_fused_layers_that_do_not_fit() -> None:
    w = random_weights("lstm", H, I)
    with pytest.raises(TraceError, match="expected weights of"):
        assign(nn.FusedRNN("lstm", H, 2), w)
    with pytest.raises(TraceError, match="use_bias=False"):
        assign(nn.FusedRNN("lstm", H, use_bias=False), w)
    with pytest.raises(TraceError, match="has no weights yet"):
        extract(nn.FusedRNN("lstm", H), to="torch")


def test_models_of_calls_and_shared_layers() -> None:
    x = rg.Input(("batch", "time", H))
    layer = nn.LSTM(H, return_sequences=True)
    with pytest.raises(TraceError, match="calls in a graph are no stack"):
        extract(nn.Model(inputs=x, outputs=layer(x)), to="torch")
    with pytest.raises(TraceError, match="stands there twice"):
        assign(nn.Sequential([layer, layer]), random_weights("lstm", H, H, layers=2))


@pytest.mark.parametrize("name", ["lstm_l2_bi", "gru_l2_bi", "rnn_relu_l2_uni", "rnn_tanh_l1_bi", "lstmp_l2_bi"])
def test_mxnet_s_outputs_from_our_compiled_layers(name: str) -> None:
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
        data = dict(file)
    kind, hidden = name.split("_l")[0], data["c0" if "c0" in data else "h0"].shape[-1]
    layers, directions = int(name.split("_l")[1][0]), 2 if name.endswith("bi") else 1
    options: dict[str, Any] = {"projection": data["h0"].shape[-1]} if kind == "lstmp" else {}
    mode = "lstm" if kind == "lstmp" else kind
    extra: dict[str, Any] = {"proj_size": options["projection"]} if options else {}
    model = stack(mode, layers, directions, units=hidden, time_major=True, **extra)
    assign(model, data["params"], source="mxnet", mode=mode, hidden=hidden, layers=layers, directions=directions,
           **options)
    x = rg.Input(("time", "batch", data["x"].shape[-1]))
    names = [n for n in rg.trace(model, x, initial_state=True).input_names if n != "x"]
    rows = {state: iter(data[state]) for state in ("h0", "c0") if state in data}  # by layer, then direction
    y = rg.compile(model, x)(data["x"], initial_state={n: next(rows[n.rpartition(".")[2]]) for n in names})
    np.testing.assert_allclose(y, data["y"], rtol=0, atol=1e-5)


def test_with_an_error_nothing_changes() -> None:
    model = nn.Sequential([nn.LSTM(H, return_sequences=True), nn.LSTM(H, use_bias=False)])
    model.build((None, None, I))
    before = {name: a.copy() for name, a in model.weights.items()}
    with pytest.raises(TraceError, match="use_bias=False"):
        assign(model, random_weights("lstm", H, I, layers=2))
    same_bits(model.weights, before)


def test_what_weights_do_not_say() -> None:
    layer = nn.LSTM(H, recurrent_activation="hard_sigmoid", cell_clip=3.0)
    with pytest.raises(TraceError, match="has no weights yet"):
        extract(layer, to="torch", weights_only=True)
    layer.build((None, None, I))
    with pytest.raises(TraceError, match="a recurrent_activation other than sigmoid, cell_clip, which weights do not"):
        extract(layer, to="torch")
    assert "weight_ih_l0" in extract(layer, to="torch", weights_only=True)
    assign(layer, random_weights("lstm", H, I))
