"""One cell in each system's own layout, computed as that system's own source has it, against the canonical equations.

Nothing here calls the code under test but `to`: the arrays that it writes are used with the shapes, slices and
equations of the system, so that an order of gates, a transposition or a sign that is wrong gives other numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rnngraph.weights import RecurrentWeights
from tests.weights.support import Array, random_weights, run, sigmoid

B, T, I, H, P = 2, 4, 5, 3, 2  # noqa: E741
Arrays = dict[str, Array]
Step = Callable[[Arrays, Array, Array, Array], tuple[Array, Array]]


def keras_lstm(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    i, f, g, o = np.split(x @ a["kernel"] + h @ a["recurrent_kernel"] + a["bias"], 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def keras_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    after = a["bias"].ndim == 2
    xz, xr, xh = np.split(x @ a["kernel"] + (a["bias"][0] if after else a["bias"]), 3, 1)
    if after:
        hz, hr, hh = np.split(h @ a["recurrent_kernel"] + a["bias"][1], 3, 1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        n = np.tanh(xh + r * hh)
    else:
        rz, rr, rh = np.split(a["recurrent_kernel"], 3, 1)
        z, r = sigmoid(xz + h @ rz), sigmoid(xr + h @ rr)
        n = np.tanh(xh + (r * h) @ rh)
    return z * h + (1 - z) * n, c


def cudnn_lstm(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """CuDNNLSTM hands each gate's kernel to cuDNN as it lies in memory: there it is [units, input]."""
    wi, wf, wg, wo = (k.reshape(-1).reshape(H, I) for k in np.split(a["kernel"], 4, 1))
    ri, rf, rg, ro = (k.reshape(-1).reshape(H, H) for k in np.split(a["recurrent_kernel"], 4, 1))
    b = np.split(a["bias"], 8)
    i, f = x @ wi.T + h @ ri.T + b[0] + b[4], x @ wf.T + h @ rf.T + b[1] + b[5]
    g, o = x @ wg.T + h @ rg.T + b[2] + b[6], x @ wo.T + h @ ro.T + b[3] + b[7]
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def cudnn_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    wz, wr, wh = (k.reshape(-1).reshape(H, I) for k in np.split(a["kernel"], 3, 1))
    rz, rr, rh = (k.reshape(-1).reshape(H, H) for k in np.split(a["recurrent_kernel"], 3, 1))
    b = np.split(a["bias"], 6)
    z, r = sigmoid(x @ wz.T + h @ rz.T + b[0] + b[3]), sigmoid(x @ wr.T + h @ rr.T + b[1] + b[4])
    n = np.tanh(x @ wh.T + b[2] + r * (h @ rh.T + b[5]))
    return (1 - z) * n + z * h, c


def tf_lstm(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """LSTMCell of TensorFlow 1: i, j, f, o; forget_bias 1 in the graph."""
    i, j, f, o = np.split(np.concatenate([x, h], 1) @ a["kernel"] + a["bias"], 4, 1)
    i, f = i + a["w_i_diag"] * c, f + a["w_f_diag"] * c
    c = sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(j)
    m = sigmoid(o + a["w_o_diag"] * c) * np.tanh(c)
    return m @ a["projection/kernel"], c


def tf_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    r, u = np.split(sigmoid(np.concatenate([x, h], 1) @ a["gates/kernel"] + a["gates/bias"]), 2, 1)
    if "candidate/kernel" in a:
        n = np.tanh(np.concatenate([x, r * h], 1) @ a["candidate/kernel"] + a["candidate/bias"])
    else:
        hidden = h @ a["candidate/hidden_projection/kernel"] + a["candidate/hidden_projection/bias"]
        n = np.tanh(x @ a["candidate/input_projection/kernel"] + a["candidate/input_projection/bias"] + r * hidden)
    return u * h + (1 - u) * n, c


def tf_rnn(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    return np.tanh(np.concatenate([x, h], 1) @ a["kernel"] + a["bias"]), c


def tf_cudnn_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """The canonical weights and biases of CudnnGRU: three of the input, three recurrent; reset, update, new."""
    w, b = [a[f"weights/{k}"] for k in range(6)], [a[f"biases/{k}"] for k in range(6)]
    r, z = (sigmoid(x @ w[k].T + h @ w[k + 3].T + b[k] + b[k + 3]) for k in (0, 1))
    n = np.tanh(x @ w[2].T + b[2] + r * (h @ w[5].T + b[5]))
    return (1 - z) * n + z * h, c


def onednn_lstm(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """rnn.md: weights [l, d, i, g, o], gates i f c~ o, peepholes i f o, projection [l, d, i, o]."""
    gates = np.einsum("bi,igo->bgo", x, a["weights_layer"][0, 0]) + np.einsum("bi,igo->bgo", h, a["weights_iter"][0, 0])
    i, f, g, o = (gates + a["bias"][0, 0]).transpose(1, 0, 2)
    p = a["weights_peephole"][0, 0]
    c = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
    return (np.tanh(c) * sigmoid(o + p[2] * c)) @ a["weights_projection"][0, 0], c


def onednn_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    w, u, b = a["weights_layer"][0, 0], a["weights_iter"][0, 0], a["bias"][0, 0]
    z, r = (sigmoid(x @ w[:, k] + h @ u[:, k] + b[k]) for k in (0, 1))
    n = np.tanh(x @ w[:, 2] + b[2] + (r * (h @ u[:, 2] + b[3]) if len(b) == 4 else (r * h) @ u[:, 2]))
    return z * h + (1 - z) * n, c


def openvino_lstm(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    f, i, g, o = np.split(x @ a["W"][0].T + h @ a["R"][0].T + a["B"][0], 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def openvino_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    wz, wr, wh = np.split(a["W"][0], 3)
    rz, rr, rh = np.split(a["R"][0], 3)
    b = a["B"][0].reshape(-1, H)
    z, r = sigmoid(x @ wz.T + h @ rz.T + b[0]), sigmoid(x @ wr.T + h @ rr.T + b[1])
    n = np.tanh(x @ wh.T + b[2] + (r * (h @ rh.T + b[3]) if len(b) == 4 else (r * h) @ rh.T))
    return (1 - z) * n + z * h, c


def flux_lstm(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    i, f, g, o = np.split(a["Wi"] @ x.T + a["Wh"] @ h.T + a["bias"][:, None], 4, 0)
    new = sigmoid(f) * c.T + sigmoid(i) * np.tanh(g)
    return (sigmoid(o) * np.tanh(new)).T, new.T


def flux_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    gx, gh, b = np.split(a["Wi"] @ x.T, 3), np.split(a["Wh"] @ h.T, 3), np.split(a["b"][:, None], 3)
    r, z = sigmoid(gx[0] + gh[0] + b[0]), sigmoid(gx[1] + gh[1] + b[1])
    if "Wh_h̃" in a:
        n = np.tanh(gx[2] + a["Wh_h̃"] @ (r * h.T) + b[2])
    else:
        n = np.tanh(gx[2] + r * gh[2] + b[2])
    return ((1 - z) * n + z * h.T).T, c


def lasagne_lstm(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    def gate(name: str) -> Array:
        return np.asarray(x @ a[f"W_in_to_{name}"] + h @ a[f"W_hid_to_{name}"] + a[f"b_{name}"])

    i = sigmoid(gate("ingate") + c * a["W_cell_to_ingate"])
    f = sigmoid(gate("forgetgate") + c * a["W_cell_to_forgetgate"])
    c = f * c + i * np.tanh(gate("cell"))
    return sigmoid(gate("outgate") + c * a["W_cell_to_outgate"]) * np.tanh(c), c


def lasagne_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    r, u = (sigmoid(x @ a[f"W_in_to_{g}"] + a[f"b_{g}"] + h @ a[f"W_hid_to_{g}"]) for g in ("resetgate", "updategate"))
    n = np.tanh(x @ a["W_in_to_hidden_update"] + a["b_hidden_update"] + r * (h @ a["W_hid_to_hidden_update"]))
    return (1 - u) * h + u * n, c


def lasagne_rnn(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    return np.maximum(x @ a["input_to_hidden.W"] + a["input_to_hidden.b"] + h @ a["hidden_to_hidden.W"], 0), c


def torch7_lstm(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """SeqLSTMP.lua: gates i f o, then the transform; weight [D + R, 4H], weightO [H, R]."""
    i, f, o, g = np.split(a["bias"] + x @ a["weight"][:I] + h @ a["weight"][I:], 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return (np.tanh(c) * sigmoid(o)) @ a["weightO"], c


def torch7_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    wx, wh = a["weight"][:I], a["weight"][I:]
    gates = a["bias"] + x @ wx
    r, u = np.split(sigmoid(gates[:, : 2 * H] + h @ wh[:, : 2 * H]), 2, 1)
    n = np.tanh(gates[:, 2 * H :] + (r * h) @ wh[:, 2 * H :])
    return (1 - u) * n + u * h, c


def cntk_lstm(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    i, g, f, o = np.split(a["b"] + x @ a["W"] + h @ a["H"], 4, 1)
    c = sigmoid(f + a["Cf"] * c) * c + sigmoid(i + a["Ci"] * c) * np.tanh(g)
    return (sigmoid(o + a["Co"] * c) * np.tanh(c)) @ a["P"], c


def cntk_gru(a: Arrays, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    xz, xr, xc = np.split(a["b"] + x @ a["W"], 3, 1)
    hz, hr = np.split(h @ a["H"], 2, 1)
    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
    return (1 - z) * np.tanh(xc + (h * r) @ a["H1"]) + z * h, c


LSTMP: dict[str, Any] = {"mode": "lstm", "projection": P, "peepholes": True}
BEFORE: dict[str, Any] = {"mode": "gru", "reset_after": False}


@pytest.mark.parametrize(("system", "kind", "step"), [
    ("keras", {"mode": "lstm"}, keras_lstm),
    ("keras", {"mode": "gru"}, keras_gru),
    ("keras", BEFORE, keras_gru),
    ("keras_cudnn", {"mode": "lstm"}, cudnn_lstm),
    ("keras_cudnn", {"mode": "gru"}, cudnn_gru),
    ("tf", LSTMP, tf_lstm),
    ("tf", {"mode": "gru"}, tf_gru),
    ("tf", BEFORE, tf_gru),
    ("tf", {"mode": "rnn_tanh"}, tf_rnn),
    ("tf_cudnn", {"mode": "gru"}, tf_cudnn_gru),
    ("onednn", LSTMP, onednn_lstm),
    ("onednn", {"mode": "gru"}, onednn_gru),
    ("onednn", BEFORE, onednn_gru),
    ("openvino", {"mode": "lstm"}, openvino_lstm),
    ("openvino", {"mode": "gru"}, openvino_gru),
    ("openvino", BEFORE, openvino_gru),
    ("flux", {"mode": "lstm"}, flux_lstm),
    ("flux", {"mode": "gru", "biases": 1}, flux_gru),
    ("flux", BEFORE, flux_gru),
    ("lasagne", {"mode": "lstm", "peepholes": True}, lasagne_lstm),
    ("lasagne", {"mode": "gru", "biases": 1}, lasagne_gru),
    ("lasagne", {"mode": "rnn_relu"}, lasagne_rnn),
    ("element_research", {"mode": "lstm", "projection": P}, torch7_lstm),
    ("element_research", BEFORE, torch7_gru),
    ("cntk", LSTMP, cntk_lstm),
    ("cntk", BEFORE, cntk_gru),
])
def test_the_layout_means_the_same(system: str, kind: dict[str, Any], step: Step) -> None:
    w = random_weights(hidden=H, inputs=I, seed=3, dtype=np.float64, **kind)
    x = np.random.default_rng(1).normal(size=(T, B, I))
    arrays = w.to(system)
    h, c = np.zeros((B, w.projection or H)), np.zeros((B, H))
    ys = []
    for xt in x:
        h, c = step(arrays, xt, h, c)
        ys.append(h)
    np.testing.assert_allclose(np.stack(ys), run(w, x)[0], rtol=0, atol=1e-12)


def test_the_flat_array_in_the_order_that_the_sources_give() -> None:
    """cuDNN, MXNet, CNTK: matrices of each layer and direction, then the biases; every number placed by hand."""
    w = random_weights("lstm", hidden=2, inputs=3, layers=2, directions=2, projection=1)
    expected: list[Array] = []
    for layer in w.cells:
        for cell in layer:
            assert cell.projection is not None
            expected += [cell.w, cell.r, cell.projection]
    for layer in w.cells:
        for cell in layer:
            assert cell.bias is not None
            assert cell.recurrent_bias is not None
            expected += [cell.bias, cell.recurrent_bias]
    for system in ("cudnn", "mxnet"):
        np.testing.assert_array_equal(w.to(system)["parameters"], np.concatenate([a.reshape(-1) for a in expected]))


def test_names() -> None:
    w = random_weights("gru", layers=2, directions=2)
    assert list(w.to("torch"))[2:5] == ["bias_ih_l0", "bias_hh_l0", "weight_ih_l0_reverse"]
    assert list(w.to("mxnet_cells", prefix="gru0_"))[4:6] == ["gru0_r0_i2h_weight", "gru0_r0_h2h_weight"]
    assert list(w.to("mxnet_unpacked"))[:3] == ["l0_i2h_r_weight", "l0_i2h_z_weight", "l0_i2h_o_weight"]
    assert list(w.to("keras"))[2:4] == ["layer0/forward/bias", "layer0/backward/kernel"]
    assert list(w.to("onnx")) == ["layer0/W", "layer0/R", "layer0/B", "layer1/W", "layer1/R", "layer1/B"]
    assert list(RecurrentWeights(w.mode, w.cells[:1]).to("openvino", prefix="x.")) == ["x.W", "x.R", "x.B"]
