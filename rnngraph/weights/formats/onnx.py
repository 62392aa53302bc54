"""ONNX: the inputs W [D, G*H, I], R [D, G*H, H], B [D, 2*G*H], P [D, 3*H] of the LSTM, GRU and RNN operators.

Gates i o f c and z r h, peepholes i o f, D directions (onnx/defs/rnn/defs.cc). A GRU's arrays do not show its attribute
linear_before_reset, which is reset_after: without the option it is ONNX's default, False.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.gates import GATES, PEEPHOLES, Array, reorder, split
from rnngraph.weights.names import gates_of, matrix, mode_of, site_prefix, sites
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

ORDER = {"lstm": "iofg", "gru": "zrn", "rnn_tanh": "h", "rnn_relu": "h"}
PEEPHOLE_ORDER = "iof"
LEAVES = ("W", "R", "B", "P")


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = [layer for (layer,) in sites(params, LEAVES, options.get("prefix", ""), directions=False)]
    recurrent = matrix(found[0], "R", 3)
    mode = mode_of(gates_of(recurrent.shape[1], recurrent.shape[2], "onnx"), options.get("mode"))
    cells = tuple(tuple(_cell(site, d, mode) for d in range(matrix(site, "W", 3).shape[0])) for site in found)
    return RecurrentWeights(mode, cells, mode != "gru" or options.get("reset_after", False))


def _cell(site: dict[str, Array], direction: int, mode: str) -> CellWeights:
    w, r = (reorder(of_direction(site, name, 3, direction), ORDER[mode], GATES[mode]) for name in "WR")
    found = CellWeights(w, r)
    if "B" in site:
        both = split(of_direction(site, "B", 2, direction), "wr")
        bias, recurrent = (reorder(both[of], ORDER[mode], GATES[mode]) for of in "wr")
        found = replace(found, bias=bias, recurrent_bias=recurrent)
    if "P" in site:
        peepholes = split(of_direction(site, "P", 2, direction), PEEPHOLE_ORDER)
        found = replace(found, peepholes=np.stack([peepholes[g] for g in PEEPHOLES]))
    return found


def of_direction(site: dict[str, Array], name: str, rank: int, direction: int) -> Array:
    """The part of an array that belongs to a direction; ConversionError when it has no such part."""
    array = matrix(site, name, rank)
    if array.shape[0] <= direction:
        raise ConversionError(f"{name}: expected {direction + 1} directions in front, got {list(array.shape)}")
    part: Array = array[direction]
    return part


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for number, layer in enumerate(weights.cells):
        site = options.get("prefix", "") + site_prefix(weights, number)
        each = [_arrays(cell, weights.mode) for cell in layer]
        found |= {f"{site}{name}": np.stack([arrays[name] for arrays in each]) for name in each[0]}
    return found


def _arrays(cell: CellWeights, mode: str) -> dict[str, Array]:
    found = {"W": reorder(cell.w, GATES[mode], ORDER[mode]), "R": reorder(cell.r, GATES[mode], ORDER[mode])}
    if cell.bias is not None and cell.recurrent_bias is not None:
        found["B"] = np.concatenate([reorder(b, GATES[mode], ORDER[mode]) for b in (cell.bias, cell.recurrent_bias)])
    if cell.peepholes is not None:
        found["P"] = reorder(cell.peepholes.reshape(-1), PEEPHOLES, PEEPHOLE_ORDER)
    return found


FORMAT = Format("onnx", "ONNX", ORDER, Limits("two", (True, False), peepholes=True), load, store,
                load_options=("mode", "reset_after"))
