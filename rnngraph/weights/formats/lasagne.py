"""Lasagne: one array for each gate, W_in_to_* [I, H], W_hid_to_* [H, H], b_*; lasagne/layers/recurrent.py.

LSTMLayer: ingate, forgetgate, cell, outgate, and W_cell_to_* [H] of the three gates (peepholes). GRULayer: updategate,
resetgate, hidden_update; the reset gate works on the product, with no bias there, and
h' = (1 - u) h + u n: u is 1 - z, so the signs of its arrays are turned. RecurrentLayer: input_to_hidden.W, .b and
hidden_to_hidden.W; its default activation is the rectifier, so that without a mode it is rnn_relu.
"""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.gates import GATES, PEEPHOLES, Array, split
from rnngraph.weights.names import matrix, mode_of, need, sites, write_sites
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

GATE_NAMES = {"lstm": {"i": "ingate", "f": "forgetgate", "g": "cell", "o": "outgate"},
              "gru": {"r": "resetgate", "z": "updategate", "n": "hidden_update"}}
PLAIN = ("input_to_hidden.W", "hidden_to_hidden.W", "input_to_hidden.b")
LEAVES = (*(f"{kind}_{gate}" for gates in GATE_NAMES.values() for gate in gates.values()
            for kind in ("W_in_to", "W_hid_to", "W_cell_to", "b")), *PLAIN)


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = sites(params, LEAVES, options.get("prefix", ""))
    first = found[0][0]
    gates = 4 if "W_in_to_ingate" in first else 3 if "W_in_to_updategate" in first else 1
    mode = mode_of(gates, options.get("mode"), plain="rnn_relu")
    return RecurrentWeights(mode, tuple(tuple(_cell(site, mode) for site in layer) for layer in found))


def _cell(site: dict[str, Array], mode: str) -> CellWeights:
    if mode not in GATE_NAMES:
        return CellWeights(matrix(site, PLAIN[0]).T, matrix(site, PLAIN[1]).T, site.get(PLAIN[2]))
    names = GATE_NAMES[mode]
    w, r = (np.concatenate(_equal([_signed(matrix(site, f"{kind}_{names[g]}").T, g) for g in GATES[mode]]))
            for kind in ("W_in_to", "W_hid_to"))
    biased = any(name.startswith("b_") for name in site)
    bias = np.concatenate([_signed(matrix(site, f"b_{names[g]}", 1), g) for g in GATES[mode]]) if biased else None
    peepholes = None
    if mode == "lstm" and any(name.startswith("W_cell_to") for name in site):
        peepholes = np.stack(_equal([need(site, f"W_cell_to_{names[g]}") for g in PEEPHOLES]))
    return CellWeights(w, r, bias, peepholes=peepholes)


def _equal(parts: list[Array]) -> list[Array]:
    if len({part.shape for part in parts}) != 1:
        raise ConversionError(f"lasagne: expected gates of one shape, got {[list(part.shape) for part in parts]}")
    return parts


def _signed(array: Array, gate: str) -> Array:
    """Lasagne's update gate is one minus ours, which is its sigmoid of the negative."""
    return -array if gate == "z" else array


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    return write_sites(weights, options.get("prefix", ""), lambda cell: _arrays(cell, weights.mode))


def _arrays(cell: CellWeights, mode: str) -> dict[str, Array]:
    if mode not in GATE_NAMES:
        plain = dict(zip(PLAIN, (cell.w.T, cell.r.T, cell.bias), strict=True))
        return {name: array for name, array in plain.items() if array is not None}
    found: dict[str, Array] = {}
    for kind, array in (("W_in_to", cell.w), ("W_hid_to", cell.r), ("b", cell.bias)):
        if array is not None:
            parts = split(array, GATES[mode])
            found |= {f"{kind}_{GATE_NAMES[mode][g]}": _signed(part, g).T for g, part in parts.items()}
    if cell.peepholes is not None:
        found |= {f"W_cell_to_{GATE_NAMES[mode][g]}": row for g, row in zip(PEEPHOLES, cell.peepholes, strict=True)}
    return found


FORMAT = Format("lasagne", "Lasagne", GATES, Limits("one", (True,), peepholes=True), load, store,
                load_options=("mode",))
