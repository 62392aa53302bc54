"""madmom's recurrent networks: peephole BLSTMs, BGRUs with learned initial states, tanh RNNs.

Its GRU is h' = z n + (1 - z) h (Cho et al. 2014), ours h' = z h + (1 - z) n: z's weights and bias come in negated. The
oracle is `reference`, the equations of the package's layers.py in float64 numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.zoo.case import Arrays, Case, Entry, Run
from benchmarks.zoo.fetch import Package
from benchmarks.zoo.pickles import load
from rnngraph import nn
from rnngraph.ir import Array

MADMOM = Package("madmom", "0.16.1", "madmom-0.16.1.tar.gz", "64a86a29106e")
_LAYERS = ("BidirectionalLayer", "LSTMLayer", "GRULayer", "RecurrentLayer", "FeedForwardLayer", "Gate", "Cell",
           "GRUCell")
_FUNCTIONS = ("sigmoid", "tanh", "linear", "softmax")
CLASSES = ("madmom.ml.nn.NeuralNetwork", *(f"madmom.ml.nn.layers.{n}" for n in _LAYERS),
           *(f"madmom.ml.nn.activations.{n}" for n in _FUNCTIONS))
FAMILIES = (
    "beats/2015/beats_blstm_1", "beats/2016/beats_lstm_1", "downbeats/2016/downbeats_bgru_harmonic_0",
    "downbeats/2016/downbeats_bgru_rhythmic_0", "downbeats/2016/downbeats_blstm_1", "notes/2013/notes_brnn",
    "onsets/2013/onsets_brnn_1", "onsets/2013/onsets_rnn_1", "onsets/2014/onsets_brnn_pp_1",
)
STEPS = 200


def _recurrent(layer: Any, backwards: bool) -> tuple[nn.RNN, dict[str, Array], list[tuple[str, Array]]]:
    """The layer, its weights by name, and its initial states, by name."""
    kind = layer.kind
    options: dict[str, Any] = {"return_sequences": True, "go_backwards": backwards}
    if kind == "RecurrentLayer":
        size = layer.bias.size
        weights = {"kernel": layer.weights, "recurrent_kernel": layer.recurrent_weights, "bias": layer.bias}
        return nn.RNN(nn.SimpleRNNCell(size, activation=layer.activation_fn), **options), weights, []
    if kind == "LSTMLayer":
        gates = [layer.input_gate, layer.forget_gate, layer.cell, layer.output_gate]
        size = layer.cell.bias.size
        peepholes = {f"peephole_{n}": g.peephole_weights for n, g in zip("ifo", [*gates[:2], gates[3]], strict=True)}
        return nn.RNN(nn.LSTMCell(size, peepholes=True), **options), _joined(gates) | peepholes, []
    z, r, n = layer.update_gate, layer.reset_gate, layer.cell
    size = n.bias.size
    weights = _joined([_negated(z), r, n])
    weights["bias"] = np.stack([weights["bias"], np.zeros_like(weights["bias"])])
    initial = getattr(layer, "init", getattr(layer, "hid_init", np.zeros(size, np.float32)))
    return nn.RNN(nn.GRUCell(size, reset_after=True), **options), weights, [("h", initial)]


class _Gate:
    def __init__(self, weights: Array, recurrent_weights: Array, bias: Array) -> None:
        self.weights, self.recurrent_weights, self.bias = weights, recurrent_weights, bias


def _negated(gate: Any) -> _Gate:
    return _Gate(-gate.weights, -gate.recurrent_weights, -gate.bias)


def _joined(gates: list[Any]) -> dict[str, Array]:
    return {"kernel": np.concatenate([g.weights for g in gates], 1),
            "recurrent_kernel": np.concatenate([g.recurrent_weights for g in gates], 1),
            "bias": np.concatenate([g.bias for g in gates])}


def _state(values: Array, x: Any) -> Any:
    """The initial state with these values."""
    layer = nn.LearnedState(values.size)
    out = layer(x)
    layer.set_weights({"state": values.astype(np.float32)})
    return out


def network(record: Any) -> nn.Model:
    """The network as a model of one input [batch, time, features]."""
    first = record.layers[0]
    first = first.fwd_layer if first.kind == "BidirectionalLayer" else first
    gate = getattr(first, "cell", first)
    x = h = nn.Input(("batch", "time", gate.weights.shape[0]))
    for layer in record.layers:
        if layer.kind == "FeedForwardLayer":
            dense = nn.Dense(layer.bias.size, activation=layer.activation_fn)
            h = dense(h)
            dense.set_weights({"kernel": layer.weights, "bias": layer.bias})
            continue
        both = layer.kind == "BidirectionalLayer"
        parts = [_recurrent(layer.fwd_layer, False), _recurrent(layer.bwd_layer, True)] if both else [
            _recurrent(layer, False)]
        made: Any = nn.Bidirectional(parts[0][0], backward_layer=parts[1][0]) if both else parts[0][0]
        states = [_state(v, x) for _, _, initial in parts for _, v in initial]
        h = made(h, initial_state=states) if states else made(h)
        names = ("forward", "backward") if both else ("",)
        made.set_weights({f"{n}/{k}" if n else k: np.asarray(v, np.float32)
                          for n, (_, weights, _) in zip(names, parts, strict=True) for k, v in weights.items()})
    return nn.Model(x, h)


# --- the oracle -------------------------------------------------------------------------------------------------


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"sigmoid": _sigmoid, "tanh": np.tanh, "linear": lambda x: x,
                                                   "softmax": _softmax}


def _sum(gate: Any, x: Array, h: Array) -> Array:
    return np.asarray(x @ gate.weights.astype(np.float64) + gate.bias + h @ gate.recurrent_weights.astype(np.float64))


def reference(record: Any, x: Array) -> Array:
    """The network on frames [time, features], in float64."""
    for layer in record.layers:
        x = _run(layer, x)
    return x


def _run(layer: Any, x: Array) -> Array:
    if layer.kind == "BidirectionalLayer":
        return np.hstack([_run(layer.fwd_layer, x), _run(layer.bwd_layer, x[::-1])[::-1]])
    if layer.kind == "FeedForwardLayer":
        out = x @ layer.weights.astype(np.float64) + layer.bias
        return _ACTIVATIONS[layer.activation_fn](out)
    size = getattr(layer, "cell", layer).bias.size
    h = np.asarray(getattr(layer, "init", getattr(layer, "hid_init", np.zeros(size))), np.float64)
    c, out = np.zeros(size), []
    for row in x:
        h, c = _step(layer, row, h, c)
        out.append(h)
    return np.stack(out)


def _step(layer: Any, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    if layer.kind == "RecurrentLayer":
        return _ACTIVATIONS[layer.activation_fn](_sum(layer, x, h)), c
    if layer.kind == "GRULayer":
        z, r = _sigmoid(_sum(layer.update_gate, x, h)), _sigmoid(_sum(layer.reset_gate, x, h))
        n = layer.cell
        new = np.tanh(x @ n.weights.astype(np.float64) + n.bias + r * (h @ n.recurrent_weights.astype(np.float64)))
        return z * new + (1.0 - z) * h, c
    i, f, o = layer.input_gate, layer.forget_gate, layer.output_gate
    keep = _sigmoid(_sum(f, x, h) + f.peephole_weights * c)
    c = np.tanh(_sum(layer.cell, x, h)) * _sigmoid(_sum(i, x, h) + i.peephole_weights * c) + c * keep
    return np.tanh(c) * _sigmoid(_sum(o, x, h) + o.peephole_weights * c), c


def _case(family: str, offline: bool) -> Case:
    record = load(MADMOM.member(f"models/{family}.pkl", offline=offline).read_bytes(), CLASSES)
    model = network(record)
    features = model.inputs[0].shape[2]
    assert isinstance(features, int)
    x = np.abs(np.random.default_rng(0).standard_normal((1, STEPS, features))).astype(np.float32)
    expected = reference(record, x[0].astype(np.float64))

    def drive(run: Run) -> Arrays:
        return {"y": np.asarray(next(iter(run({"x": x}).values())))[0]}

    return Case(f"madmom {family.rpartition('/')[2]}", model, {"x": x}, drive, {"y": expected})


ENTRIES = tuple(Entry(f"madmom {f.rpartition('/')[2]}", partial(_case, f)) for f in FAMILIES)
