"""Keras: kernel [I, G*U], recurrent_kernel [U, G*U], bias; gates i f c o and z r h.

One bias [G*U]; of a GRU with reset_after [2, 3*U], the input's and the recurrent one (keras/src/layers/rnn). Names may
be paths (`lstm/lstm_cell/kernel`, as in `v.path`); arrays in a row are those of `layer.get_weights()`, of one layer
or of a Bidirectional.
"""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.gates import GATES, Array, reorder
from rnngraph.weights.names import gates_of, matrix, mode_of, sites, write_sites
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

ORDER = {"lstm": "ifgo", "gru": "zrn", "rnn_tanh": "h", "rnn_relu": "h"}
LEAVES = ("kernel", "recurrent_kernel", "bias")


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = sites(params, LEAVES, options.get("prefix", ""))
    first = found[0][0]
    hidden = matrix(first, "recurrent_kernel").shape[0]
    gates = gates_of(matrix(first, "recurrent_kernel").shape[1], hidden, "keras")
    mode = mode_of(gates, options.get("mode"))
    after = mode != "gru" or _reset_after(found, options)
    cells = tuple(tuple(read_cell(site, mode, after) for site in layer) for layer in found)
    return RecurrentWeights(mode, cells, after)


def _reset_after(found: list[list[dict[str, Array]]], options: Options) -> bool:
    """What the bias shows: [2, 3*U] with reset_after, [3*U] without; without a bias, the option (default: True)."""
    shown = {site["bias"].ndim == 2 for layer in found for site in layer if "bias" in site}
    given = options.get("reset_after")
    if len(shown) > 1 or (shown and given is not None and shown != {given}):
        raise ConversionError("keras: the bias of a GRU is [2, 3*units] with reset_after and [3*units] without; got "
                              f"{[list(site['bias'].shape) for layer in found for site in layer if 'bias' in site]}"
                              + (f" with reset_after={given}" if given is not None else ""))
    return shown.pop() if shown else given is not False


def read_cell(site: dict[str, Array], mode: str, reset_after: bool) -> CellWeights:
    """The weights of one cell from arrays in Keras's layout."""
    w, r = (reorder(matrix(site, name).T, ORDER[mode], GATES[mode]) for name in LEAVES[:2])
    if "bias" not in site:
        return CellWeights(w, r)
    bias = matrix(site, "bias", 2 if mode == "gru" and reset_after else 1)
    if bias.ndim == 1:
        return CellWeights(w, r, reorder(bias, ORDER[mode], GATES[mode]))
    if bias.shape[0] != 2:
        raise ConversionError(f"keras: expected a bias [2, {w.shape[0]}], got {list(bias.shape)}")
    return CellWeights(w, r, *(reorder(row, ORDER[mode], GATES[mode]) for row in bias))


def write_cell(cell: CellWeights, mode: str, reset_after: bool) -> dict[str, Array]:
    """The arrays of one cell in Keras's layout; its biases have to fit."""
    found = {"kernel": reorder(cell.w, GATES[mode], ORDER[mode]).T,
             "recurrent_kernel": reorder(cell.r, GATES[mode], ORDER[mode]).T}
    if cell.bias is not None:
        rows = [reorder(b, GATES[mode], ORDER[mode]) for b in (cell.bias, cell.recurrent_bias) if b is not None]
        found["bias"] = np.stack(rows) if mode == "gru" and reset_after else rows[0]
    return found


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    return write_sites(weights, options.get("prefix", ""),
                       lambda cell: write_cell(cell, weights.mode, weights.reset_after))


def names(count: int) -> list[str]:
    """What `layer.get_weights()` holds, by the number of arrays."""
    if count in (2, 3):
        return list(LEAVES[:count])
    if count in (4, 6):
        return [f"{direction}/{name}" for direction in ("forward", "backward") for name in LEAVES[: count // 2]]
    raise ConversionError(f"keras: expected the 2 or 3 arrays of a layer or the 4 or 6 of a Bidirectional, got {count}")


FORMAT = Format("keras", "Keras", ORDER, Limits("keras", (True, False)), load, store,
                load_options=("mode", "reset_after"), names=names)
