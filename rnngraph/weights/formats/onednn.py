"""oneDNN: weights_layer [L, D, I, G, O] (ldigo), weights_iter [L, D, P, G, O], bias [L, D, G, O], weights_peephole
[L, D, 3, O], weights_projection [L, D, O, P] (ldio) of the RNN primitives.

Gates i f c~ o and u r o, peepholes i f o; one bias, of an lbr_gru (reset_after) with a fourth row, the recurrent bias
of o; a vanilla GRU has the reset gate on h (doc/functional_api/primitives/rnn.md). The layers of one primitive have one
size of input. Without a bias, reset_after tells the two GRUs apart; the primitives need a bias.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.formats.openvino import read_bias, write_bias
from rnngraph.weights.gates import GATES, Array, reorder
from rnngraph.weights.names import matrix, mode_of, selected
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

ORDER = {"lstm": "ifgo", "gru": "zrn", "rnn_tanh": "h", "rnn_relu": "h"}
RANKS = {"weights_layer": 5, "weights_iter": 5, "bias": 4, "weights_peephole": 4, "weights_projection": 4}


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = selected(params, options.get("prefix", ""))
    if unknown := [name for name in found if name not in RANKS]:
        raise ConversionError(f"onednn: unknown array {unknown[0]!r}; expected {', '.join(RANKS)}")
    arrays = {name: matrix(found, name, rank) for name, rank in RANKS.items()
              if name in found or name in ("weights_layer", "weights_iter")}
    layers, directions, _, gates, _ = arrays["weights_layer"].shape
    if any(a.shape[:2] != (layers, directions) for a in arrays.values()) or gates not in (1, 3, 4):
        raise ConversionError("onednn: expected arrays [layers, directions, ...] of 1, 3 or 4 gates, got "
                              f"{ {name: a.shape for name, a in arrays.items()} }")
    mode = mode_of(gates, options.get("mode"))
    after = mode != "gru" or options.get("reset_after", False)
    if mode == "gru" and "bias" in arrays:
        after = arrays["bias"].shape[2] == gates + 1
    cells = tuple(tuple(_cell({name: a[layer, d] for name, a in arrays.items()}, mode, after)
                        for d in range(directions)) for layer in range(layers))
    return RecurrentWeights(mode, cells, after)


def _cell(site: dict[str, Array], mode: str, reset_after: bool) -> CellWeights:
    w, r = (reorder(site[name].reshape(site[name].shape[0], -1).T, ORDER[mode], GATES[mode])
            for name in ("weights_layer", "weights_iter"))
    found = CellWeights(w, r, peepholes=site.get("weights_peephole"))
    if "weights_projection" in site:
        found = replace(found, projection=site["weights_projection"].T)
    if "bias" not in site:
        return found
    bias = site["bias"].reshape(-1)
    if mode == "gru" and reset_after:
        return replace(found, **read_bias(bias, ORDER[mode]))
    return replace(found, bias=reorder(bias, ORDER[mode], GATES[mode]))


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    inputs = [cell.input for cell in weights]
    if len(set(inputs)) != 1:
        raise ConversionError("oneDNN: the layers of one primitive have one size of input; these have "
                              f"{[layer[0].input for layer in weights.cells]}: convert layer by layer, with .layer(i)")
    each = [_arrays(cell, weights) for cell in weights]
    stacks = {name: np.stack([arrays[name] for arrays in each]) for name in each[0]}
    return {f"{options.get('prefix', '')}{name}": a.reshape(weights.layers, weights.directions, *a.shape[1:])
            for name, a in stacks.items()}


def _arrays(cell: CellWeights, weights: RecurrentWeights) -> dict[str, Array]:
    order = ORDER[weights.mode]
    found: dict[str, Array] = {name: reorder(a, weights.gates, order).T.reshape(a.shape[1], len(order), cell.hidden)
                               for name, a in (("weights_layer", cell.w), ("weights_iter", cell.r))}
    bias = write_bias(cell, weights.mode, order, weights.reset_after)
    assert bias is not None
    found["bias"] = bias.reshape(-1, cell.hidden)
    if cell.peepholes is not None:
        found["weights_peephole"] = cell.peepholes
    if cell.projection is not None:
        found["weights_projection"] = cell.projection.T
    return found


LIMITS = Limits("gru", (True, False), projection=True, peepholes=True, uniform=True, need_bias=True)
FORMAT = Format("onednn", "oneDNN", ORDER, LIMITS, load, store, load_options=("mode", "reset_after"))
