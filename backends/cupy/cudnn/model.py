"""What cudnnRNNForward computes, in numpy: from the packed weight space, by its formula, in the arrays' own precision.

The stand-in for a GPU calls it, so that packing, layouts and selection are tested where there is no cuDNN. Semantics
are those of cuDNN's documentation: GRU's reset gate multiplies ``R h + bR``; past a row's length outputs are zero and
the state stays; the backward direction starts at a row's own last step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnngraph.backends.cupy.cudnn.weight_space import WeightSpace
from rnngraph.ir import Array


@dataclass(frozen=True, slots=True)
class Gates:
    """The matrices and biases of a pseudo-layer: the input's, the recurrent ones, and the projection or None."""

    w: list[Array]
    bw: list[Array]
    r: list[Array]
    br: list[Array]
    p: Array | None


def gates_of(space: WeightSpace, weights: Array, pseudo: int) -> Gates:
    """Read a pseudo-layer out of the packed weights."""
    a, hidden = space.attrs, space.attrs.hidden
    matrices, biases = list[Array](), list[Array]()
    for part in space.parts():
        if part.pseudo == pseudo:
            rows, columns = part.shape
            matrices.append(weights[part.matrix : part.matrix + rows * columns].reshape(rows, columns))
            if part.bias is not None:
                biases.append(weights[part.bias : part.bias + hidden])
    g = a.gates
    return Gates(matrices[:g], biases[:g], matrices[g : 2 * g], biases[g:], matrices[2 * g] if a.proj else None)


def forward(space: WeightSpace, weights: Array, x: Array, h0: Array, c0: Array | None,
            lengths: Array | None = None) -> tuple[Array, Array, Array | None]:
    """y [T, B, directions * features], h_n, and c_n of an LSTM, as cuDNN lays them out; x is [T, B, inputs]."""
    a = space.attrs
    steps, batch = x.shape[:2]
    ends = np.full(batch, steps) if lengths is None else np.asarray(lengths)
    h_n, c_n = np.array(h0), None if c0 is None else np.array(c0)
    for layer in range(a.num_layers):
        outputs = []
        for d, reverse in enumerate(a.reverses):
            pseudo = layer * len(a.reverses) + d
            gates = gates_of(space, weights, pseudo)
            h, c = h_n[pseudo], None if c_n is None else c_n[pseudo]
            y = np.zeros((steps, batch, a.features), x.dtype)
            for t in range(steps)[:: -1 if reverse else 1]:
                on = (t < ends)[:, None]
                new_h, new_c = _step(a.mode, gates, x[t], h, c)
                y[t] = np.where(on, new_h, 0)
                h = np.where(on, new_h, h)
                c = None if c is None or new_c is None else np.where(on, new_c, c)
            h_n[pseudo] = h
            if c_n is not None:
                c_n[pseudo] = c
            outputs.append(y)
        x = np.concatenate(outputs, 2)
    return x, h_n, c_n


def _step(mode: str, g: Gates, x: Array, h: Array, c: Array | None) -> tuple[Array, Array | None]:
    left = [x @ w.T + b for w, b in zip(g.w, g.bw, strict=True)]
    right = [h @ r.T + b for r, b in zip(g.r, g.br, strict=True)]
    if mode == "lstm":
        assert c is not None
        i, f, n, o = (p + q for p, q in zip(left, right, strict=True))
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(n)
        h = _sigmoid(o) * np.tanh(c)
        return (h if g.p is None else h @ g.p.T), c
    if mode == "gru":
        r, z = _sigmoid(left[0] + right[0]), _sigmoid(left[1] + right[1])
        n = np.tanh(left[2] + r * right[2])
        return (1 - z) * n + z * h, None
    total = left[0] + right[0]
    return (np.tanh(total) if mode == "rnn_tanh" else np.maximum(total, 0)), None


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


__all__ = ["Gates", "forward", "gates_of"]
