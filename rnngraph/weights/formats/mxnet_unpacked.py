"""MXNet's unpacked weights, each gate by itself: `{l|r}{layer}_{i2h|h2h}{gate}_{weight|bias}`.

What unpack_weights of mx.rnn's cells makes, and checkpoints of mx.rnn.save_rnn_checkpoint hold; gates _i _f _c _o and
_r _z _o, nothing in the name of a plain RNN's.
"""

from __future__ import annotations

import re

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import RecurrentWeights
from rnngraph.weights.formats import mxnet_cells
from rnngraph.weights.gates import GATES, Array, split
from rnngraph.weights.names import selected
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

GATE_NAMES = {"lstm": ("_i", "_f", "_c", "_o"), "gru": ("_r", "_z", "_o"), "rnn_tanh": ("",), "rnn_relu": ("",)}
NAME = re.compile(r"((?:[lr]\d+_)?)(i2h|h2h)((?:_[ifcorz])?)_(weight|bias)|((?:[lr]\d+_)?h2r_weight)")


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    return mxnet_cells.load(join_gates(selected(params, options.get("prefix", "")), "mxnet_unpacked"),
                            {"mode": options["mode"]} if "mode" in options else {})


def join_gates(params: dict[str, Array], system: str) -> dict[str, Array]:
    """Arrays of single gates -> those of the cells."""
    parts: dict[str, dict[str, Array]] = {}
    for name, array in params.items():
        match = NAME.fullmatch(name)
        if match is None:
            raise ConversionError(f"{system}: unknown array {name!r}; expected names such as l0_i2h_i_weight behind "
                                  "the prefix, which is an option")
        cell, gate = (match[5], "") if match[5] else (f"{match[1]}{match[2]}_{match[4]}", match[3])
        parts.setdefault(cell, {})[gate] = array
    return {name: _join(name, gates, system) for name, gates in parts.items()}


def _join(name: str, gates: dict[str, Array], system: str) -> Array:
    for order in GATE_NAMES.values():
        if set(order) == set(gates):
            shapes = {a.shape for a in gates.values()}
            if len(shapes) == 1:
                return np.concatenate([gates[g] for g in order])
            raise ConversionError(f"{system}: {name}: expected gates of one shape, got {sorted(shapes)}")
    raise ConversionError(f"{system}: {name}: expected the gates of an LSTM (_i _f _c _o), a GRU (_r _z _o) or a plain "
                          f"RNN, got {' '.join(sorted(gates))}")


def split_gates(params: dict[str, Array], mode: str) -> dict[str, Array]:
    """Arrays of the cells -> those of single gates."""
    found: dict[str, Array] = {}
    for name, array in params.items():
        if name.endswith("h2r_weight"):
            found[name] = array
            continue
        stem, _, kind = name.rpartition("_")
        gates = split(array, GATES[mode])
        found |= {f"{stem}{label}_{kind}": part for label, part in zip(GATE_NAMES[mode], gates.values(), strict=True)}
    return found


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    found = split_gates(mxnet_cells.store(weights, {}), weights.mode)
    return {f"{options.get('prefix', '')}{name}": array for name, array in found.items()}


FORMAT = Format("mxnet_unpacked", "MXNet's unpacked weights", GATES, mxnet_cells.LIMITS, load, store,
                load_options=("mode",))
