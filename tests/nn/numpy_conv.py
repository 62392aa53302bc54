"""Independent numpy convolutions and convolutional recurrences: float64, from the equations, by gathering patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tests.nn.support import Array

Step = Callable[[Array, list[Array]], tuple[Array, list[Array]]]


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.2 * x)


def softrelu(x: Array) -> Array:
    return np.log1p(np.exp(x))


def conv(x: Array, kernel: Array, strides: Sequence[int] | None = None, dilation: Sequence[int] | None = None,
         padding: Sequence[int] | None = None) -> Array:
    """x[B, *S, C] by kernel[*K, C, F]: windows of the padded input times the kernel. Without padding: "same"."""
    n = kernel.ndim - 2
    strides, dilation = strides or (1,) * n, dilation or (1,) * n
    effective = [d * (k - 1) + 1 for k, d in zip(kernel.shape, dilation, strict=False)]
    if padding is None:
        totals = [max(0, (-(-s // t) - 1) * t + e - s)
                  for s, t, e in zip(x.shape[1:], strides, effective, strict=False)]
        pads = [(t // 2, t - t // 2) for t in totals]
    else:
        pads = [(p, p) for p in padding]
    padded = np.pad(x.astype(np.float64), [(0, 0), *pads, (0, 0)])
    axes = tuple(range(1, n + 1))
    windows = sliding_window_view(padded, effective, axes)
    windows = windows[(slice(None), *(slice(None, None, t) for t in strides), slice(None),
                       *(slice(None, None, d) for d in dilation))]
    letters = "uvw"[:n]
    return np.asarray(np.einsum(f"bxyzc{letters}"[: 1 + n] + f"c{letters},{letters}cf->" + "bxyz"[: 1 + n] + "f",
                                windows, kernel.astype(np.float64)))


def run(x: Array, states: list[Array], step: Step) -> Array:
    """A step over x[B, T, ...]; the outputs [B, T, ...]."""
    out = []
    for t in range(x.shape[1]):
        y, states = step(x[:, t], states)
        out.append(y)
    return np.stack(out, 1)


def rnn(x: Array, states: list[Array], w: Array, r: Array, b: Array) -> tuple[Array, list[Array]]:
    h = np.tanh(conv(x, w) + b + conv(states[0], r))
    return h, [h]


def gru(x: Array, states: list[Array], w: Array, r: Array, b: Array, *, after: bool) -> tuple[Array, list[Array]]:
    (h,), n = states, w.shape[-1] // 3
    wz, wr, wh = (w[..., k * n : (k + 1) * n] for k in range(3))
    rz, rr, rh = (r[..., k * n : (k + 1) * n] for k in range(3))
    bx, bh = (b[0], b[1]) if after else (b, np.zeros_like(b))
    z = sigmoid(conv(x, wz) + bx[:n] + conv(h, rz) + bh[:n])
    g = sigmoid(conv(x, wr) + bx[n : 2 * n] + conv(h, rr) + bh[n : 2 * n])
    inner = g * (conv(h, rh) + bh[2 * n :]) if after else conv(g * h, rh)
    new = z * h + (1 - z) * np.tanh(conv(x, wh) + bx[2 * n :] + inner)
    return new, [new]


def contrib_lstm(x: Array, states: list[Array], w: Array, b: Array, forget: float, *,
                 skip: bool) -> tuple[Array, list[Array]]:
    c, h = states
    i, j, f, o = np.split(conv(np.concatenate([x, h], -1), w) + b, 4, -1)
    c = sigmoid(f + forget) * c + sigmoid(i) * np.tanh(j)
    h = np.tanh(c) * sigmoid(o)
    return (np.concatenate([h, x], -1) if skip else h), [c, h]


def mxnet(kind: str, x: Array, weights: Mapping[str, Array], first: bool, options: Mapping[str, Any],
          state: tuple[int, ...]) -> Array:
    """MXNet's Conv*Cell on x[B, T, *S, C]; the weights in its layout."""
    n = x.ndim - 3
    known: dict[str, Callable[[Array], Array]] = {"tanh": np.tanh, "softrelu": softrelu}
    act = known.get(options.get("activation", ""), leaky)

    def each(name: str, default: int) -> tuple[int, ...]:
        value = options.get(name, default)
        return (value,) * n if isinstance(value, int) else tuple(value)

    def kernel(name: str) -> Array:
        return np.moveaxis(weights[name], (0, 1), (-1, -2)) if first else np.moveaxis(weights[name], 0, -1)

    def both(xt: Array, h: Array) -> tuple[Array, Array]:
        of_x = conv(xt, kernel("i2h_weight"), each("i2h_stride", 1), each("i2h_dilate", 1), each("i2h_pad", 1))
        of_h = conv(h, kernel("h2h_weight"), dilation=each("h2h_dilate", 1))
        return of_x + weights["i2h_bias"], of_h + weights["h2h_bias"]

    def step(xt: Array, s: list[Array]) -> tuple[Array, list[Array]]:
        a, b = both(xt, s[0])
        if kind == "RNN":
            h = act(a + b)
            return h, [h]
        if kind == "LSTM":
            i, f, g, o = np.split(a + b, 4, -1)
            c = sigmoid(f) * s[1] + sigmoid(i) * act(g)
            h = sigmoid(o) * act(c)
            return h, [h, c]
        (ar, az, ah), (br, bz, bh) = np.split(a, 3, -1), np.split(b, 3, -1)
        z = sigmoid(az + bz)
        h = (1 - z) * act(ah + sigmoid(ar + br) * bh) + z * s[0]
        return h, [h]

    shape = (*state[1:], state[0]) if first else state
    return run(x, [np.zeros((x.shape[0], *shape))] * (2 if kind == "LSTM" else 1), step)
