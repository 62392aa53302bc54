"""Independent numpy recurrences: float64, written from the equations, one loop over time, Keras weight layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Step = Callable[[Array, list[Array]], tuple[Array, list[Array]]]


def sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def hard_sigmoid(x: Array) -> Array:
    return np.clip(x / 6.0 + 0.5, 0.0, 1.0)


def wide(weights: Mapping[str, Array]) -> dict[str, Array]:
    return {k.split("/")[-1]: v.astype(np.float64) for k, v in weights.items()}


def lstm(weights: Mapping[str, Array], act: Callable[[Array], Array] = np.tanh,
         gate: Callable[[Array], Array] = sigmoid) -> Step:
    w = wide(weights)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        h, c = state
        z = x @ w["kernel"] + h @ w["recurrent_kernel"] + w.get("bias", 0.0)
        i, f, g, o = np.split(z, 4, axis=1)
        i, f = i + c * w.get("peephole_i", 0.0), f + c * w.get("peephole_f", 0.0)
        c = gate(f) * c + gate(i) * act(g)
        h = gate(o + c * w.get("peephole_o", 0.0)) * act(c)
        return h, [h, c]

    return step


def gru(weights: Mapping[str, Array], reset_after: bool, gate: Callable[[Array], Array] = sigmoid) -> Step:
    w = wide(weights)
    bias = w.get("bias", np.zeros((2, w["kernel"].shape[1])))
    b_in, b_rec = bias if reset_after else (bias.reshape(-1)[: w["kernel"].shape[1]], np.zeros(w["kernel"].shape[1]))

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        (h,) = state
        xz, xr, xh = np.split(x @ w["kernel"] + b_in, 3, axis=1)
        rz, rr, rh = np.split(w["recurrent_kernel"], 3, axis=1)
        bz, br, bh = np.split(b_rec, 3)
        z, r = gate(xz + h @ rz + bz), gate(xr + h @ rr + br)
        n = np.tanh(xh + (r * (h @ rh + bh) if reset_after else (r * h) @ rh))
        h = z * h + (1.0 - z) * n
        return h, [h]

    return step


def simple(weights: Mapping[str, Array], act: Callable[[Array], Array] = np.tanh) -> Step:
    w = wide(weights)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        h = act(x @ w["kernel"] + state[0] @ w["recurrent_kernel"] + w.get("bias", 0.0))
        return h, [h]

    return step


def run(step: Step, x: Array, states: Sequence[Array], *, lengths: Sequence[int] | None = None,
        backwards: bool = False, zero: bool = False) -> tuple[Array, list[Array]]:
    """The output sequence [B, T, U] in the input's order and the final states; row by row, as a reader would do it."""
    rows, finals = [], []
    for b in range(x.shape[0]):
        state = [np.asarray(s[b : b + 1], np.float64) for s in states]
        order = range(x.shape[1])
        n = x.shape[1] if lengths is None else lengths[b]
        out: dict[int, Array] = {}
        last: Array | None = None
        for t in reversed(order) if backwards else order:
            if t < n:
                last, state = step(x[b : b + 1, t].astype(np.float64), state)
                out[t] = last
            else:
                out[t] = np.zeros_like(state[0]) if zero or last is None else last
        rows.append(np.concatenate([out[t] for t in order]))
        finals.append(state)
    return np.stack(rows), [np.concatenate([f[i] for f in finals]) for i in range(len(states))]
