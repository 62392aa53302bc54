"""CNTK's blocks: W [I, G*H], H [P, G*H], b [G*H], Ci Cf Co [H] (peepholes), P [H, P] (projection), H1 [H, H].

LSTM: gates i c f o. GRU: gates z r c, H of z and r only ([H, 2*H]) and H1 of the candidate, reset gate on the state.
RNNUnit: one gate. One bias (bindings/python/cntk/layers/blocks.py). Self-stabilisation is not part of it. The
parameter of an OptimizedRNNStack is the layout `cudnn`.
"""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.gates import GATES, PEEPHOLES, Array, join, reorder, split
from rnngraph.weights.names import gates_of, matrix, mode_of, need, sites, write_sites
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

ORDER = {"lstm": "igfo", "gru": "zrn", "rnn_tanh": "h", "rnn_relu": "h"}
PROJECTION, CANDIDATE = "P", "H1"
DIAGONALS = tuple(f"C{g}" for g in PEEPHOLES)
LEAVES = ("W", "H", "b", CANDIDATE, PROJECTION, *DIAGONALS)


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = sites(params, LEAVES, options.get("prefix", ""))
    first = found[0][0]
    hidden = matrix(first, PROJECTION if PROJECTION in first else "H").shape[0]
    mode = mode_of(gates_of(matrix(first, "W").shape[1], hidden, "cntk"), options.get("mode"))
    return RecurrentWeights(mode, tuple(tuple(_cell(site, mode) for site in layer) for layer in found), mode != "gru")


def _cell(site: dict[str, Array], mode: str) -> CellWeights:
    order = ORDER[mode]
    recurrent = matrix(site, "H")
    if mode == "gru":
        parts = split(recurrent, "zr", 1)
        recurrent = join(parts | {"n": matrix(site, CANDIDATE)}, order, 1)
    peepholes = None
    if any(name in site for name in DIAGONALS):
        rows = [need(site, name) for name in DIAGONALS]
        if len({row.shape for row in rows}) != 1:
            raise ConversionError(f"cntk: expected Ci, Cf, Co of one shape, got {[list(row.shape) for row in rows]}")
        peepholes = np.stack(rows)
    return CellWeights(reorder(matrix(site, "W").T, order, GATES[mode]), reorder(recurrent.T, order, GATES[mode]),
                       reorder(matrix(site, "b", 1), order, GATES[mode]),
                       projection=matrix(site, PROJECTION).T if PROJECTION in site else None, peepholes=peepholes)


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    return write_sites(weights, options.get("prefix", ""), lambda cell: _arrays(cell, weights.mode))


def _arrays(cell: CellWeights, mode: str) -> dict[str, Array]:
    assert cell.bias is not None
    order = ORDER[mode]
    found = {"W": reorder(cell.w, GATES[mode], order).T, "b": reorder(cell.bias, GATES[mode], order)}
    recurrent = split(cell.r, GATES[mode])
    found["H"] = join(recurrent, "zr" if mode == "gru" else order).T
    if mode == "gru":
        found[CANDIDATE] = recurrent["n"].T
    if cell.projection is not None:
        found[PROJECTION] = cell.projection.T
    if cell.peepholes is not None:
        found |= dict(zip(DIAGONALS, cell.peepholes, strict=True))
    return found


FORMAT = Format("cntk", "CNTK", ORDER, Limits("one", (False,), projection=True, peepholes=True, need_bias=True), load,
                store, load_options=("mode",))
