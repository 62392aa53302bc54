"""What the tests of rnngraph.weights share: random weights, and a float64 recurrence written from the equations."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnngraph.weights import CellWeights, RecurrentWeights

Array = np.ndarray[Any, np.dtype[Any]]
GATE_COUNT = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def random_weights(mode: str, hidden: int = 3, inputs: int = 5, layers: int = 1, directions: int = 1, *,
                   biases: int = 2, projection: int = 0, peepholes: bool = False, reset_after: bool = True,
                   seed: int = 0, dtype: type = np.float32) -> RecurrentWeights:
    """Weights of a kind; ``biases`` of 0, 1 (the input's) or 2."""
    rng = np.random.default_rng(seed)

    def some(*shape: int) -> Array:
        return rng.normal(size=shape).astype(dtype)

    rows, output = GATE_COUNT[mode] * hidden, projection or hidden
    cells = tuple(tuple(CellWeights(
        some(rows, inputs if layer == 0 else directions * output), some(rows, output),
        some(rows) if biases else None, some(rows) if biases == 2 else None,
        some(projection, hidden) if projection else None, some(3, hidden) if peepholes else None)
        for _ in range(directions)) for layer in range(layers))
    return RecurrentWeights(mode, cells, reset_after)


def sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _bias(array: Array | None, gates: int) -> list[Array]:
    return [np.float64(0.0)] * gates if array is None else np.split(array.astype(np.float64), gates)  # type: ignore[list-item]


def run_cell(weights: RecurrentWeights, cell: CellWeights, x: Array, h: Array, c: Array) -> tuple[Array, Array, Array]:
    """[T, B, I] -> [T, B, P], and the last h and c; the equations of the module rnngraph.weights.canonical."""
    gates = GATE_COUNT[weights.mode]
    w = [a.T for a in np.split(cell.w.astype(np.float64), gates)]
    r = [a.T for a in np.split(cell.r.astype(np.float64), gates)]
    inner, outer = _bias(cell.bias, gates), _bias(cell.recurrent_bias, gates)
    p = np.zeros((3, cell.hidden)) if cell.peepholes is None else cell.peepholes.astype(np.float64)
    ys = []
    for xt in x:
        a = [xt @ w[k] + h @ r[k] + inner[k] + outer[k] for k in range(gates)]
        if weights.mode == "lstm":
            i, f = sigmoid(a[0] + p[0] * c), sigmoid(a[1] + p[1] * c)
            c = f * c + i * np.tanh(a[2])
            h = sigmoid(a[3] + p[2] * c) * np.tanh(c)
            h = h if cell.projection is None else h @ cell.projection.astype(np.float64).T
        elif weights.mode == "gru":
            gate_r, z = sigmoid(a[0]), sigmoid(a[1])
            if weights.reset_after:
                n = np.tanh(xt @ w[2] + inner[2] + gate_r * (h @ r[2] + outer[2]))
            else:
                n = np.tanh(xt @ w[2] + inner[2] + outer[2] + (gate_r * h) @ r[2])
            h = z * h + (1 - z) * n
        else:
            h = np.tanh(a[0]) if weights.mode == "rnn_tanh" else np.maximum(a[0], 0.0)
        ys.append(h)
    return np.stack(ys), h, c


def run(weights: RecurrentWeights, x: Array, h0: Array | None = None, c0: Array | None = None,
        ) -> tuple[Array, Array, Array]:
    """A whole stack on [T, B, I], in float64: y [T, B, D*P], h and c [L*D, B, ...]."""
    y = x.astype(np.float64)
    hs, cs = [], []
    for number, layer in enumerate(weights.cells):
        outputs = []
        for direction, cell in enumerate(layer):
            at = number * weights.directions + direction
            h = np.zeros((x.shape[1], cell.output)) if h0 is None else h0[at].astype(np.float64)
            c = np.zeros((x.shape[1], cell.hidden)) if c0 is None else c0[at].astype(np.float64)
            out, h, c = run_cell(weights, cell, y[::-1] if direction else y, h, c)
            outputs.append(out[::-1] if direction else out)
            hs.append(h)
            cs.append(c)
        y = np.concatenate(outputs, -1)
    return y, np.stack(hs), np.stack(cs)


def same_bits(a: dict[str, Array], b: dict[str, Array]) -> None:
    assert list(a) == list(b)
    for name, array in a.items():
        assert (array.dtype, array.shape) == (b[name].dtype, b[name].shape), name
        assert array.tobytes() == b[name].tobytes(), name
