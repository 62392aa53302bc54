"""OpenVINO: W [D, G*H, I], R [D, G*H, H], B of LSTMSequence, GRUSequence and RNNSequence.

Gates f i c o and z r h; one bias [D, G*H], of a GRU with linear_before_reset (which is reset_after) [D, 4*H]: the sums
of z and r, then the input's and the recurrent bias of h. Without a bias, reset_after is OpenVINO's default, False.
The operations need a bias; there are no peepholes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.formats.onnx import of_direction
from rnngraph.weights.gates import GATES, Array, join, reorder, split
from rnngraph.weights.names import gates_of, matrix, mode_of, site_prefix, sites
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

ORDER = {"lstm": "figo", "gru": "zrn", "rnn_tanh": "h", "rnn_relu": "h"}
LEAVES = ("W", "R", "B")
RECURRENT = "m"  # the recurrent bias of n, behind the others


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = [layer for (layer,) in sites(params, LEAVES, options.get("prefix", ""), directions=False)]
    recurrent = matrix(found[0], "R", 3)
    hidden = recurrent.shape[2]
    mode = mode_of(gates_of(recurrent.shape[1], hidden, "openvino"), options.get("mode"))
    reset_after = mode != "gru" or _reset_after(found, options)
    cells = tuple(tuple(_cell(site, d, mode, reset_after) for d in range(matrix(site, "W", 3).shape[0]))
                  for site in found)
    return RecurrentWeights(mode, cells, reset_after)


def _reset_after(found: list[dict[str, Array]], options: Options) -> bool:
    shown = {matrix(site, "B", 2).shape[1] == 4 * matrix(site, "R", 3).shape[2] for site in found if "B" in site}
    given = options.get("reset_after")
    if len(shown) > 1 or (shown and given is not None and shown != {given}):
        raise ConversionError("openvino: the bias of a GRU has 4*H columns with reset_after and 3*H without; got "
                              f"{[list(site['B'].shape) for site in found if 'B' in site]}")
    return shown.pop() if shown else bool(given)


def _cell(site: dict[str, Array], direction: int, mode: str, reset_after: bool) -> CellWeights:
    w, r = (reorder(of_direction(site, name, 3, direction), ORDER[mode], GATES[mode]) for name in "WR")
    if "B" not in site:
        return CellWeights(w, r)
    bias = of_direction(site, "B", 2, direction)
    if mode != "gru" or not reset_after:
        return CellWeights(w, r, reorder(bias, ORDER[mode], GATES[mode]))
    return replace(CellWeights(w, r), **read_bias(bias, ORDER[mode]))


def read_bias(bias: Array, order: str) -> dict[str, Array]:
    """The two biases of a GRU from one in which the recurrent one of n stands behind the others."""
    parts = split(bias, order + RECURRENT)
    zero = np.zeros_like(parts[RECURRENT])
    return {"bias": join(parts, GATES["gru"]),
            "recurrent_bias": join({"r": zero, "z": zero, "n": parts[RECURRENT]}, GATES["gru"])}


def write_bias(cell: CellWeights, mode: str, order: str, reset_after: bool) -> Array | None:
    """The one bias of a cell, of a GRU with reset_after with the recurrent one of n behind the others."""
    if cell.bias is None:
        return None
    if cell.recurrent_bias is None or mode != "gru" or not reset_after:
        return reorder(cell.bias, GATES[mode], order)
    last = split(cell.recurrent_bias, GATES[mode])["n"]
    return join(split(cell.bias, GATES[mode]) | {RECURRENT: last}, order + RECURRENT)


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    order = ORDER[weights.mode]
    found: dict[str, Array] = {}
    for number, layer in enumerate(weights.cells):
        site = options.get("prefix", "") + site_prefix(weights, number)
        biases = [write_bias(cell, weights.mode, order, weights.reset_after) for cell in layer]
        found[f"{site}W"] = np.stack([reorder(cell.w, weights.gates, order) for cell in layer])
        found[f"{site}R"] = np.stack([reorder(cell.r, weights.gates, order) for cell in layer])
        found[f"{site}B"] = np.stack([b for b in biases if b is not None])
    return found


FORMAT = Format("openvino", "OpenVINO", ORDER, Limits("gru", (True, False), need_bias=True), load, store,
                load_options=("mode", "reset_after"))
