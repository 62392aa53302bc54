"""One float64 numpy step of each cell, written from the published equation with TensorFlow's joint matrices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.nn.cells.harness import Array, State, Step, Weights, wide


def sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def affine(inputs: list[Array], kernels: list[Array], bias: Array | float = 0.0) -> Array:
    """[a, b, ...] @ one matrix + bias, as TensorFlow's _Linear."""
    return np.asarray(np.concatenate(inputs, axis=1) @ np.concatenate(kernels, axis=0) + bias)


def ugrnn(weights: Weights, forget_bias: float = 1.0, act: Callable[[Array], Array] = np.tanh) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        g, c = np.split(affine([x, s["h"]], [w["kernel"], w["recurrent_kernel"]], w["bias"]), 2, axis=1)
        g = sigmoid(g + forget_bias)
        h = g * s["h"] + (1 - g) * act(c)
        return h, {"h": h}

    return step


def nas(weights: Weights) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        a = np.split(x @ w["kernel"], 8, axis=1)
        m = np.split(s["h"] @ w["recurrent_kernel"] + w.get("bias", 0.0), 8, axis=1)
        one = [sigmoid(a[0] + m[0]), relu(a[1] + m[1]), sigmoid(a[2] + m[2]), relu(a[3] * m[3]), np.tanh(a[4] + m[4]),
               sigmoid(a[5] + m[5]), np.tanh(a[6] + m[6]), sigmoid(a[7] + m[7])]
        two = [np.tanh(one[0] * one[1]), np.tanh(one[2] + one[3]), np.tanh(one[4] * one[5]), sigmoid(one[6] + one[7])]
        c = np.tanh(two[0] + s["c"]) * two[1]
        h = np.tanh(c * np.tanh(two[2] + two[3]))
        if "projection_kernel" in w:
            h = h @ w["projection_kernel"]
        return h, {"h": h, "c": c}

    return step


def intersection(weights: Weights, forget_bias: float = 1.0, act: Callable[[Array], Array] = relu) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        if "in_projection_kernel" in w:
            x = x @ w["in_projection_kernel"] + w["in_projection_bias"]
        sums = affine([x, s["h"]], [w["kernel"], w["recurrent_kernel"]], w["bias"])
        n = x.shape[1]
        gh, h, gy, y = sums[:, :n], sums[:, n : 2 * n], sums[:, 2 * n : 3 * n], sums[:, 3 * n :]
        gh, gy = sigmoid(gh + forget_bias), sigmoid(gy + forget_bias)
        return gy * x + (1 - gy) * act(y), {"h": gh * s["h"] + (1 - gh) * np.tanh(h)}

    return step


def phased_lstm(weights: Weights, leak: float = 0.001) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        time, x, h, c = x[:, :1], x[:, 1:], s["h"], s["c"]
        u = h.shape[1]
        sums = affine([x, h], [w["kernel"], w["recurrent_kernel"]], w["bias"])
        i, f, j, o = (sums[:, k * u : (k + 1) * u] for k in range(4))
        peephole = w.get("peephole_kernel", np.zeros((u, 3 * u)))
        i, f = i + c @ peephole[:, :u], f + c @ peephole[:, u : 2 * u]
        new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(j)
        new_h = sigmoid(o + new_c @ peephole[:, 2 * u :]) * np.tanh(new_c)
        ratio = np.mod(time - w["phase"], w["period"]) / w["period"]
        on = w["ratio_on"]
        k = np.where(ratio < on / 2, 2 * ratio / on, np.where(ratio < on, 2 - 2 * ratio / on, leak * ratio))
        h, c = k * new_h + (1 - k) * h, k * new_c + (1 - k) * c
        return h, {"h": h, "c": c}

    return step


def group_lstm(weights: Weights, groups: int, forget_bias: float = 1.0,
               act: Callable[[Array], Array] = np.tanh) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        xs, hs = np.split(x, groups, axis=1), np.split(s["h"], groups, axis=1)
        parts = [np.split(affine([a, b], [w[f"group{k}_kernel"], w[f"group{k}_recurrent_kernel"]]), 4, axis=1)
                 for k, (a, b) in enumerate(zip(xs, hs, strict=True))]
        i, j, f, o = (np.concatenate([p[g] for p in parts], axis=1) + b
                      for g, b in enumerate(np.split(w["bias"], 4)))
        c = sigmoid(f + forget_bias) * s["c"] + sigmoid(i) * np.tanh(j)
        h = sigmoid(o) * act(c)
        if "projection_kernel" in w:
            h = h @ w["projection_kernel"]
        return h, {"h": h, "c": c}

    return step


def sru(weights: Weights, act: Callable[[Array], Array] = np.tanh) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        n, f, r, highway = np.split(x @ w["kernel"], 4, axis=1)
        f, r = np.split(sigmoid(np.concatenate([f, r], axis=1) + w["bias"]), 2, axis=1)
        c = f * s["c"] + (1 - f) * n
        return r * act(c) + (1 - r) * highway, {"c": c}

    return step


def sru_v2(weights: Weights, act: Callable[[Array], Array] = lambda c: c, scale: float = 1.0) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        c, u = s["c"], s["c"].shape[1]
        sums, v, b = x @ w["kernel"], w["recurrent_vector"], w.get("bias", np.zeros(2 * u))
        f = sigmoid(sums[:, u : 2 * u] + v[:u] * c + b[:u])
        r = sigmoid(sums[:, 2 * u : 3 * u] + v[u:] * c + b[u:])
        c = f * c + (1 - f) * sums[:, :u]
        highway = x if sums.shape[1] == 3 * u else sums[:, 3 * u :]
        return r * act(c) + (1 - r) * scale * highway, {"c": c}

    return step


def ind_rnn(weights: Weights, act: Callable[[Array], Array] = np.tanh) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        h = act(x @ w["kernel"] + s["h"] * w["recurrent_kernel"] + w.get("bias", 0.0))
        return h, {"h": h}

    return step


def indy_lstm(weights: Weights, forget_bias: float = 1.0, act: Callable[[Array], Array] = np.tanh) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        sums = x @ w["kernel"] + np.tile(s["h"], (1, 4)) * w["recurrent_kernel"] + w["bias"]
        i, j, f, o = np.split(sums, 4, axis=1)
        c = s["c"] * sigmoid(f + forget_bias) + sigmoid(i) * act(j)
        h = act(c) * sigmoid(o)
        return h, {"h": h, "c": c}

    return step


def indy_gru(weights: Weights, act: Callable[[Array], Array] = np.tanh) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        h = s["h"]
        gates = sigmoid(x @ w["gate_kernel"] + np.tile(h, (1, 2)) * w["gate_recurrent_kernel"] + w["gate_bias"])
        r, u = np.split(gates, 2, axis=1)
        n = act(x @ w["candidate_kernel"] + (r * h) * w["candidate_recurrent_kernel"] + w["candidate_bias"])
        h = u * h + (1 - u) * n
        return h, {"h": h}

    return step


def zhou_mgu(weights: Weights, act: Callable[[Array], Array] = np.tanh,
             gate: Callable[[Array], Array] = sigmoid) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        h, u = s["h"], s["h"].shape[1]
        bias = w.get("bias", np.zeros(2 * u))
        f = gate(affine([h, x], [w["recurrent_kernel"][:, :u], w["kernel"][:, :u]], bias[:u]))
        n = act(affine([f * h, x], [w["recurrent_kernel"][:, u:], w["kernel"][:, u:]], bias[u:]))
        h = (1 - f) * h + f * n
        return h, {"h": h}

    return step


def flax_mgu(weights: Weights, reset_gate: bool = True) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        h = s["h"]
        (w_f, w_n), (r_f, r_n) = np.split(w["kernel"], 2, axis=1), np.split(w["recurrent_kernel"], 2, axis=1)
        f = sigmoid(x @ w_f + w["forget_bias"] + h @ r_f)
        past = f * (h @ r_n + w["recurrent_bias"]) if reset_gate else h @ r_n
        n = np.tanh(x @ w_n + w["activation_bias"] + past)
        h = (1 - f) * n + f * h
        return h, {"h": h}

    return step


def minimal_rnn(weights: Weights) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        n = np.tanh(x @ w["kernel"])
        u = sigmoid(affine([n, s["h"]], [w["gate_kernel"], w["recurrent_kernel"]], w["bias"]))
        h = u * s["h"] + (1 - u) * n
        return h, {"h": h}

    return step


def cfn(weights: Weights) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        h, u = s["h"], s["h"].shape[1]
        theta, eta = np.split(sigmoid(h @ w["recurrent_kernel"] + x @ w["kernel"][:, : 2 * u] + w["bias"]), 2, axis=1)
        h = theta * np.tanh(h) + (1 - eta) * np.tanh(x @ w["kernel"][:, 2 * u :])
        return h, {"h": h}

    return step


def echo_state(weights: Weights, leaky: float = 1.0, act: Callable[[Array], Array] = np.tanh) -> Step:
    w = wide(weights)

    def step(x: Array, s: State) -> tuple[Array, State]:
        out = act(affine([x, s["h"]], [w["kernel"], w["recurrent_kernel"]], w.get("bias", 0.0)))
        h = (1 - leaky) * s["h"] + leaky * out
        return h, {"h": h}

    return step
