"""Layer-normalised cells in each system's definition: native code against float64 numpy, and against PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import rnngraph as rg
from rnngraph.errors import TraceError
from rnngraph.ir import Interpreter, evaluate
from rnngraph.nn import (
    RNN,
    CoupledInputForgetGateLSTMCell,
    Input,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormSimpleRNNCell,
    trace,
)
from tests.nn.native_cells import check_cell, close, filled, native
from tests.nn.numpy_cells import Array, Step, sigmoid, wide
from tests.nn.support import some

EPSILONS = {"contrib": 1e-12, "addons": 1e-3, "haste": 1e-5}


def ln(x: Array, gamma: Array, beta: Array | float, epsilon: float) -> Array:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + epsilon) * gamma + beta)


def lstm(weights: Mapping[str, Array], variant: str, *, forget_bias: float = 0.0, cell_clip: float = np.inf,
         proj_clip: float = np.inf) -> Step:
    w, e = wide(weights), EPSILONS[variant]
    state_norm = w["state_norm_gamma"], w["state_norm_beta"], e

    def sums(x: Array, h: Array) -> list[Array]:
        if variant == "contrib":
            parts = np.split(x @ w["kernel"] + h @ w["recurrent_kernel"], 4, axis=1)
            gammas, betas = np.split(w["gates_norm_gamma"], 4), np.split(w["gates_norm_beta"], 4)
            return [ln(p, g, b, e) for p, g, b in zip(parts, gammas, betas, strict=True)]
        total = ln(x @ w["kernel"], w["kernel_norm_gamma"], w.get("kernel_norm_beta", 0.0), e)
        total = total + ln(h @ w["recurrent_kernel"], w["recurrent_norm_gamma"], w.get("recurrent_norm_beta", 0.0), e)
        return np.split(total + w["bias"], 4, axis=1)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        h, c = state
        i, f, g, o = sums(x, h)
        i, f = i + c * w.get("peephole_i", 0.0), f + forget_bias + c * w.get("peephole_f", 0.0)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        if variant != "haste":
            c = np.clip(ln(c, *state_norm), -cell_clip, cell_clip)
        shown = ln(c, *state_norm) if variant == "haste" else c
        h = sigmoid(o + c * w.get("peephole_o", 0.0)) * np.tanh(shown)
        if "projection" in w:
            h = np.clip(h @ w["projection"], -proj_clip, proj_clip)
        return h, [h, c]

    return step


def coupled(weights: Mapping[str, Array], layer_norm: bool) -> Step:
    w = wide(weights)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        h, c = state
        parts = np.split(x @ w["kernel"] + h @ w["recurrent_kernel"] + w.get("bias", 0.0), 3, axis=1)
        if layer_norm:
            gammas, betas = np.split(w["gates_norm_gamma"], 3), np.split(w["gates_norm_beta"], 3)
            parts = [ln(p, g, b, 1e-12) for p, g, b in zip(parts, gammas, betas, strict=True)]
        f, j, o = parts
        f = sigmoid(f + 1.0 + w["peephole_f"] * c)
        c = f * c + (1.0 - f) * np.tanh(j)
        if layer_norm:
            c = ln(c, w["state_norm_gamma"], w["state_norm_beta"], 1e-12)
        h = (sigmoid(o + w["peephole_o"] * c) * np.tanh(c)) @ w["projection"]
        return h, [h, c]

    return step


def gru(weights: Mapping[str, Array], variant: str) -> Step:
    w, e = wide(weights), EPSILONS[variant]

    def contrib(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        (h,) = state
        (wz, wr, wn), (rz, rr, rn) = (np.split(w[n], 3, axis=1) for n in ("kernel", "recurrent_kernel"))
        (gz, gr), (bz, br) = (np.split(w[f"gates_norm_{n}"], 2) for n in ("gamma", "beta"))
        z, r = sigmoid(ln(x @ wz + h @ rz, gz, bz, e)), sigmoid(ln(x @ wr + h @ rr, gr, br, e))
        n = np.tanh(ln(x @ wn, w["kernel_norm_gamma"], w["kernel_norm_beta"], e)
                    + r * ln(h @ rn, w["recurrent_norm_gamma"], w["recurrent_norm_beta"], e))
        h = (1.0 - z) * h + z * n
        return h, [h]

    def haste(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        (h,) = state
        xz, xr, xn = np.split(ln(x @ w["kernel"], w["kernel_norm_gamma"], w["bias"][0], e), 3, axis=1)
        hz, hr, hn = np.split(ln(h @ w["recurrent_kernel"], w["recurrent_norm_gamma"], w["bias"][1], e), 3, axis=1)
        z, r = sigmoid(xz + hz), sigmoid(xr + hr)
        h = z * h + (1.0 - z) * np.tanh(xn + r * hn)
        return h, [h]

    return contrib if variant == "contrib" else haste


def simple(weights: Mapping[str, Array]) -> Step:
    w = wide(weights)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        h = np.tanh(ln(x @ w["kernel"] + state[0] @ w["recurrent_kernel"], w["norm_gamma"], w["bias"], 1e-5))
        return h, [h]

    return step


@pytest.mark.parametrize("units", [1, 7, 33])
@pytest.mark.parametrize("variant", ["contrib", "addons", "haste"])
def test_lstm(variant: str, units: int) -> None:
    forget_bias = 1.0 if variant == "contrib" else 0.0
    check_cell(LayerNormLSTMCell(units, variant=variant), partial(lstm, variant=variant, forget_bias=forget_bias))


@pytest.mark.parametrize("variant", ["contrib", "addons"])
def test_lstm_with_all_options(variant: str) -> None:
    cell = LayerNormLSTMCell(9, variant=variant, peepholes=True, cell_clip=0.7, proj_size=4, proj_clip=0.3,
                             forget_bias=0.5)
    check_cell(cell, partial(lstm, variant=variant, forget_bias=0.5, cell_clip=0.7, proj_clip=0.3))


@pytest.mark.parametrize("units", [1, 7, 33])
@pytest.mark.parametrize("variant", ["contrib", "haste"])
def test_gru(variant: str, units: int) -> None:
    check_cell(LayerNormGRUCell(units, variant=variant), partial(gru, variant=variant))


@pytest.mark.parametrize("units", [1, 7, 33])
def test_simple_rnn(units: int) -> None:
    check_cell(LayerNormSimpleRNNCell(units), simple)


@pytest.mark.parametrize("units", [1, 7, 33])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_coupled_lstm(layer_norm: bool, units: int) -> None:
    cell = CoupledInputForgetGateLSTMCell(units, peepholes=True, proj_size=3, layer_norm=layer_norm)
    check_cell(cell, partial(coupled, layer_norm=layer_norm))


def test_weights_are_in_the_order_of_keras() -> None:
    """tfa's cell has kernel, recurrent_kernel, bias, then gamma and beta of each norm."""
    layer = filled(RNN(LayerNormLSTMCell(4)), 5)
    assert {n: w.shape for n, w in layer.weights.items()} == {
        "kernel": (5, 16), "recurrent_kernel": (4, 16), "bias": (16,),
        "kernel_norm_gamma": (16,), "kernel_norm_beta": (16,), "recurrent_norm_gamma": (16,),
        "recurrent_norm_beta": (16,), "state_norm_gamma": (4,), "state_norm_beta": (4,)}


def test_as_pytorchs_layer_norm_lstm() -> None:
    """The cell of PyTorch's benchmarks/fastrnns, from its equations and torch's own layer norm."""
    layer = filled(RNN(LayerNormLSTMCell(6, use_bias=False, epsilon=1e-5), return_sequences=True), 5)
    w = {n: torch.from_numpy(v.copy()).double() for n, v in layer.weights.items()}
    x = some(3, 8, 5)

    def norm(v: Any, name: str) -> Any:
        size = [v.shape[-1]]
        return torch.nn.functional.layer_norm(v, size, w[f"{name}_gamma"], w[f"{name}_beta"], 1e-5)

    h = c = torch.zeros(3, 6, dtype=torch.float64)
    outputs = []
    for t in range(8):
        gates = norm(torch.from_numpy(x[:, t]).double() @ w["kernel"], "kernel_norm")
        gates = gates + norm(h @ w["recurrent_kernel"], "recurrent_norm")
        i, f, g, o = gates.chunk(4, 1)
        c = norm(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g), "state_norm")
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    close(native(layer, 5)(x), torch.stack(outputs, 1).numpy())


def test_dropout_of_the_candidate() -> None:
    """A mask of its own for every step, on g alone."""
    batch, time, units = 3, 5, 6
    layer = filled(RNN(LayerNormLSTMCell(units, variant="haste", candidate_dropout=0.4), return_sequences=True), 4)
    graph = trace(layer, Input((batch, time, 4)), training=True, seed=2)
    (op,) = (op for op in graph.walk() if op.name == "random_mask")
    masks = np.asarray(op.opdef.evaluate(Interpreter({}, float64=True), op, [])[0])
    assert masks.shape == (time, batch, units)
    assert len(np.unique(masks)) == 2
    assert len({m.tobytes() for m in masks}) == time
    w, e, x = wide(layer.weights), 1e-5, some(batch, time, 4)
    h = c = np.zeros((batch, units))
    outputs = []
    for t in range(time):
        total = (ln(x[:, t].astype(np.float64) @ w["kernel"], w["kernel_norm_gamma"], w["bias"], e)
                 + ln(h @ w["recurrent_kernel"], w["recurrent_norm_gamma"], 0.0, e))
        i, f, g, o = np.split(total, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g) * masks[t]
        h = sigmoid(o) * np.tanh(ln(c, w["state_norm_gamma"], w["state_norm_beta"], e))
        outputs.append(h)
    close(evaluate(graph, {"x": x}, float64=True)["y"], np.stack(outputs, 1), 1e-9)
    compiled = rg.compile(layer, Input((batch, time, 4)), target="cpu", training=True, seed=2)
    close(compiled(x), np.stack(outputs, 1))
    assert not [op for op in trace(layer, Input((batch, time, 4))).walk() if op.name == "random_mask"]


@pytest.mark.parametrize(("cell", "reason"), [
    *((LayerNormLSTMCell(4, variant=v), r) for v, r in (
        ("contrib", "state c is normalized over the features in the step (layer normalization)"),
        ("addons", "state c is normalized over the features in the step (layer normalization)"),
        ("haste", "state h is normalized over the features in the step (layer normalization)"))),
    *((LayerNormGRUCell(4, variant=v), "gate n is normalized over the features in the step (layer normalization)")
      for v in ("contrib", "haste")),
    (LayerNormSimpleRNNCell(4), "gate h is normalized over the features in the step (layer normalization)"),
    (CoupledInputForgetGateLSTMCell(4), "gates i and f are one gate; a fused node would compute it twice"),
])
def test_a_remark_names_the_layer_and_the_reason(cell: Any, reason: str) -> None:
    compiled = native(filled(RNN(cell, name="normed"), 5), 5)
    remarks = [str(r) for p in compiled.report.passes if p.name == "raise-rnn" for r in p.remarks]
    assert remarks == [f"missed: raise-rnn: normed: {reason}"]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: LayerNormLSTMCell(4, variant="ba"),
     "cell LayerNormLSTMCell: variant must be one of 'contrib', 'addons', 'haste', got 'ba'"),
    (lambda: LayerNormLSTMCell(4, variant="contrib", use_bias=True), "the variant 'contrib' has no bias"),
    (lambda: LayerNormLSTMCell(4, epsilon=0.0), "cell LayerNormLSTMCell: epsilon must be above 0, got 0.0"),
    (lambda: LayerNormLSTMCell(4, candidate_dropout=2.0), r"candidate_dropout must be in 0\.\.1, got 2.0"),
    (lambda: LayerNormGRUCell(4, variant="addons"),
     "cell LayerNormGRUCell: variant must be one of 'contrib', 'haste', got 'addons'"),
    (lambda: LayerNormGRUCell(4, variant="contrib", use_bias=True), "the variant 'contrib' has no bias"),
    (lambda: LayerNormSimpleRNNCell(4, epsilon=float("nan")), "epsilon must be a finite number, got nan"),
    (lambda: CoupledInputForgetGateLSTMCell(4, layer_norm=True, epsilon=-1.0), "epsilon must be above 0, got -1.0"),
])
def test_arguments(make: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        make()


ALL: dict[str, tuple[Any, Any]] = {
    **{f"lstm {v}": (partial(LayerNormLSTMCell, variant=v), partial(lstm, variant=v, forget_bias=float(v == "contrib")))
       for v in EPSILONS},
    **{f"gru {v}": (partial(LayerNormGRUCell, variant=v), partial(gru, variant=v)) for v in ("contrib", "haste")},
    "simple": (LayerNormSimpleRNNCell, simple),
}


@pytest.mark.slow
@pytest.mark.parametrize("units", [2, 3, 15, 16, 17, 31, 64, 130])
@pytest.mark.parametrize("kind", ALL)
def test_widths(kind: str, units: int) -> None:
    """Long sequences too: rounding does not grow with time."""
    make, reference = ALL[kind]
    check_cell(make(units), reference, sizes=((1, 1), (2, 70), (33, 5)))
