"""g2pM: an embedding, a bidirectional LSTM over rows of different lengths, two dense layers; pinyin of characters.

The oracle is `reference`: PyTorch's LSTM equations in float64 numpy, row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.zoo.case import Arrays, Case, Entry, Run
from benchmarks.zoo.fetch import Package
from benchmarks.zoo.pickles import load
from rnngraph import nn
from rnngraph.ir import Array

G2PM = Package("g2pM", "0.1.2.5", "g2pM-0.1.2.5-py3-none-any.whl", "9e920b82df40")


def network(state: dict[str, Array]) -> nn.Model:
    """The network of one input: characters i32[batch, time]."""
    vocabulary, width = state["embedding.weight"].shape
    size = state["lstm.weight_hh_l0"].shape[1]
    x = nn.Input(("batch", "time"), dtype="i32")
    embedding, lstm = nn.Embedding(vocabulary, width), nn.Bidirectional(nn.LSTM(size, return_sequences=True))
    hidden = nn.Dense(state["logit_layer.0.weight"].shape[0], activation="relu")
    head = nn.Dense(state["logit_layer.2.weight"].shape[0])
    model = nn.Model(x, head(hidden(lstm(embedding(x)))))
    embedding.set_weights([state["embedding.weight"].astype(np.float32)])
    directions = (("forward", ""), ("backward", "_reverse"))
    lstm.set_weights({f"{name}/{k}": v.astype(np.float32)
                      for name, end in directions for k, v in _lstm(state, end).items()})
    for layer, at in ((hidden, 0), (head, 2)):
        layer.set_weights({"kernel": state[f"logit_layer.{at}.weight"].T.astype(np.float32),
                           "bias": state[f"logit_layer.{at}.bias"].astype(np.float32)})
    return model


def _lstm(state: dict[str, Array], end: str) -> dict[str, Array]:
    """PyTorch's weights, gates i f g o, as kernel, recurrent kernel and bias."""
    return {"kernel": state[f"lstm.weight_ih_l0{end}"].T, "recurrent_kernel": state[f"lstm.weight_hh_l0{end}"].T,
            "bias": state[f"lstm.bias_ih_l0{end}"] + state[f"lstm.bias_hh_l0{end}"]}


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _direction(state: dict[str, Array], end: str, x: Array) -> Array:
    w = {k: v.astype(np.float64) for k, v in _lstm(state, end).items()}
    size = w["recurrent_kernel"].shape[0]
    h, c, out = np.zeros(size), np.zeros(size), []
    for row in x if not end else x[::-1]:
        i, f, g, o = np.split(row @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"], 4)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        h = _sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out if not end else out[::-1])


def reference(state: dict[str, Array], characters: Array) -> Array:
    """The scores of one row, [time, classes]."""
    x = state["embedding.weight"].astype(np.float64)[characters]
    h = np.hstack([_direction(state, "", x), _direction(state, "_reverse", x)])
    h = np.maximum(h @ state["logit_layer.0.weight"].T.astype(np.float64) + state["logit_layer.0.bias"], 0.0)
    return np.asarray(h @ state["logit_layer.2.weight"].T.astype(np.float64) + state["logit_layer.2.bias"])


def _case(offline: bool) -> Case:
    state: dict[str, Any] = load(G2PM.member("np_ckpt.pkl", offline=offline).read_bytes())
    rng = np.random.default_rng(0)
    lengths = np.array([23, 17, 9, 4, 1], np.int32)
    x = rng.integers(3, state["embedding.weight"].shape[0], (5, 23)).astype(np.int32)
    expected = {f"row{i}": reference(state, row[:n]) for i, (row, n) in enumerate(zip(x, lengths, strict=True))}

    def drive(run: Run) -> Arrays:
        y = np.asarray(next(iter(run({"x": x, "lengths": lengths}).values())))
        return {f"row{i}": row[:n] for i, (row, n) in enumerate(zip(y, lengths, strict=True))}

    return Case("g2pM", network(state), {"x": x, "lengths": lengths}, drive, expected, None,
                lambda outputs: [a.argmax(-1).tolist() for a in outputs.values()])


ENTRIES = (Entry("g2pM", _case),)
