"""Dropout in training with one mask for all gates (implementation=2) and one for each (1), against numpy and Keras."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import rnngraph as rg
from rnngraph.ir import Graph, Interpreter, evaluate
from rnngraph.nn import GRU, LSTM, Input, Layer, SimpleRNN, trace
from tests.nn.native_cells import close, filled
from tests.nn.numpy_cells import Array, sigmoid, wide
from tests.nn.support import checked, some

B, T, I, U = 3, 5, 4, 6  # noqa: E741
Step = Callable[[Array, list[Array], list[Array], list[Array]], list[Array]]


def lstm(weights: Mapping[str, Array]) -> Step:
    w = wide(weights)

    def step(x: Array, state: list[Array], mx: list[Array], mh: list[Array]) -> list[Array]:
        h, c = state
        parts = zip(mx, mh, *(np.split(v, 4, axis=-1) for v in (w["kernel"], w["recurrent_kernel"], w["bias"])),
                    strict=True)
        i, f, g, o = ((x * p) @ k + (h * q) @ r + b for p, q, k, r, b in parts)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(c), c]

    return step


def gru(weights: Mapping[str, Array], reset_after: bool) -> Step:
    w = wide(weights)
    bias = w["bias"] if reset_after else np.stack([w["bias"], np.zeros(3 * U)])

    def step(x: Array, state: list[Array], mx: list[Array], mh: list[Array]) -> list[Array]:
        (h,) = state
        kz, kr, kn = ((x * m) @ k + b for m, k, b in zip(
            mx, np.split(w["kernel"], 3, axis=1), np.split(bias[0], 3), strict=True))
        (rz, rr, rn), (bz, br, bn) = np.split(w["recurrent_kernel"], 3, axis=1), np.split(bias[1], 3)
        z = sigmoid(kz + (h * mh[0]) @ rz + bz)
        r = sigmoid(kr + (h * mh[1]) @ rr + br)
        n = r * ((h * mh[2]) @ rn + bn) if reset_after else (r * (h * mh[2])) @ rn
        return [z * h + (1.0 - z) * np.tanh(kn + n)]

    return step


def simple(weights: Mapping[str, Array]) -> Step:
    w = wide(weights)

    def step(x: Array, state: list[Array], mx: list[Array], mh: list[Array]) -> list[Array]:
        return [np.tanh((x * mx[0]) @ w["kernel"] + (state[0] * mh[0]) @ w["recurrent_kernel"] + w["bias"])]

    return step


KINDS: dict[str, tuple[Any, dict[str, Any], Callable[[Mapping[str, Array]], Step], int, int]] = {
    "lstm": (LSTM, {}, lstm, 4, 2),
    "gru": (GRU, {}, lambda w: gru(w, True), 3, 1),
    "gru, reset before": (GRU, {"reset_after": False}, lambda w: gru(w, False), 3, 1),
    "simple": (SimpleRNN, {}, simple, 1, 1),
}


def masks(graph: Graph) -> dict[int, list[Array]]:
    """The masks by their number of features, in the order in which the trace made them: gate by gate."""
    run, found = Interpreter({}, float64=True), dict[int, list[Array]]()
    for op in graph.walk():
        if op.name == "random_mask":
            assert op.parent is graph.block, "a mask holds for the whole sequence"
            mask = np.asarray(op.opdef.evaluate(run, op, [])[0])
            found.setdefault(mask.shape[-1], []).append(mask)
    return found


@pytest.mark.parametrize("implementation", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_masks(kind: str, implementation: int) -> None:
    make, arguments, reference, gates, states = KINDS[kind]
    layer: Layer = filled(make(U, dropout=0.4, recurrent_dropout=0.3, implementation=implementation,
                               return_sequences=True, **arguments), I)
    graph = checked(trace(layer, Input((B, T, I)), training=True, seed=3))
    found = masks(graph)
    count = gates if implementation == 1 else 1
    assert {n: len(v) for n, v in found.items()} == {I: count, U: count}
    assert len({m.tobytes() for v in found.values() for m in v}) == 2 * count
    mx, mh = (v if implementation == 1 else v * gates for v in (found[I], found[U]))
    x, step = some(B, T, I, seed=5), reference(layer.weights)
    state, outputs = [np.zeros((B, U))] * states, []
    for t in range(T):
        state = step(x[:, t].astype(np.float64), state, mx, mh)
        outputs.append(state[0])
    want = np.stack(outputs, axis=1)
    close(evaluate(graph, {"x": x}, float64=True)["y"], want, 1e-12)
    compiled = rg.compile(layer, Input((B, T, I)), target="cpu", training=True, seed=3)
    close(compiled(x), want)


@pytest.mark.parametrize("implementation", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_keras_computes_the_same_with_the_same_masks(kind: str, implementation: int) -> None:
    """Keras's own cell, given our masks, step by step; its implementation 2 has input masks only."""
    make, arguments, _, gates, states = KINDS[kind]
    rates = {"dropout": 0.4, "recurrent_dropout": 0.3 if implementation == 1 else 0.0}
    layer = filled(make(U, implementation=implementation, return_sequences=True, **rates, **arguments), I)
    graph = trace(layer, Input((B, T, I)), training=True, seed=4)
    found = masks(graph)
    cell = getattr(keras.layers, f"{make.__name__}Cell")(U, **rates, **arguments, **(
        {} if kind == "simple" else {"implementation": implementation}))
    cell.build((B, I))
    cell.set_weights(list(layer.weights.values()))

    def given(arrays: list[Array]) -> Any:
        tensors = [keras.ops.convert_to_tensor(a.astype(np.float32)) for a in arrays]
        return tensors if implementation == 1 and gates > 1 else tensors[0]

    cell._dropout_mask = given(found[I])
    if U in found:
        cell._recurrent_dropout_mask = given(found[U])
    x = some(B, T, I, seed=5)
    state: list[Any] = [keras.ops.zeros((B, U))] * states
    outputs = []
    for t in range(T):
        y, state = cell(keras.ops.convert_to_tensor(x[:, t]), state, training=True)
        outputs.append(y.detach().numpy())
    close(evaluate(graph, {"x": x}, float64=True)["y"], np.stack(outputs, axis=1), 1e-6)


def test_without_training_there_is_no_mask() -> None:
    layer = filled(LSTM(U, dropout=0.4, recurrent_dropout=0.3, implementation=1), I)
    assert masks(trace(layer, Input((B, T, I)))) == {}


def test_masks_keep_a_layer_out_of_a_fused_node() -> None:
    layer = filled(LSTM(U, recurrent_dropout=0.3, implementation=1, name="dropped"), I)
    compiled = rg.compile(layer, Input((B, T, I)), target="cpu", training=True)
    remarks = [str(r) for p in compiled.report.passes if p.name == "raise-rnn" for r in p.remarks]
    assert any("dropped: recurrent dropout multiplies the state h" in r for r in remarks), remarks
