"""MXNet's unfused cells and Gluon's layers: `{l|r}{layer}_{i2h|h2h}_{weight|bias}` and, with a projection, h2r_weight.

i2h_weight [G*H, I], h2h_weight [G*H, P], h2r_weight [P, H], two biases; gates i f c o and r z o; l is forwards, r
backwards (python/mxnet/rnn/rnn_cell.py, python/mxnet/gluon/rnn/rnn_layer.py). A cell by itself (mx.rnn.LSTMCell) has no
`l0_`. The forget bias of mx.rnn.LSTMCell is in the values, not in the graph.
"""

from __future__ import annotations

import re

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.gates import GATES, Array
from rnngraph.weights.names import gates_of, matrix, mode_of, selected
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

LIMITS = Limits("two", (True,), projection=True, need_bias=True)
NAME = re.compile(r"(?:([lr])(\d+)_)?((?:i2h|h2h)_(?:weight|bias)|h2r_weight)")
FIELDS = {"i2h_weight": "w", "h2h_weight": "r", "i2h_bias": "bias", "h2h_bias": "recurrent_bias",
          "h2r_weight": "projection"}


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found: dict[tuple[int, int], dict[str, Array]] = {}
    for name, array in selected(params, options.get("prefix", "")).items():
        match = NAME.fullmatch(name)
        if match is None:
            raise ConversionError(f"mxnet_cells: unknown array {name!r}; expected names such as l0_i2h_weight behind "
                                  "the prefix, which is an option")
        found.setdefault((int(match[2] or 0), int(match[1] == "r")), {})[match[3]] = array
    return from_sites(found, options.get("mode"), "mxnet_cells")


def from_sites(found: dict[tuple[int, int], dict[str, Array]], mode: str | None, system: str) -> RecurrentWeights:
    """The canonical form of arrays by (layer, direction) and name."""
    layers, directions = 1 + max(layer for layer, _ in found), 1 + max(direction for _, direction in found)
    if len(found) != layers * directions:
        raise ConversionError(f"{system}: expected {layers} layer(s) of {directions} direction(s), got {sorted(found)}")
    cells = tuple(tuple(_cell(found[layer, d]) for d in range(directions)) for layer in range(layers))
    first = cells[0][0]
    return RecurrentWeights(mode_of(gates_of(first.w.shape[0], first.hidden, system), mode), cells)


def _cell(site: dict[str, Array]) -> CellWeights:
    needed = ("i2h_weight", "h2h_weight", *(("h2r_weight",) if "h2r_weight" in site else ()))
    arrays = {FIELDS[name]: matrix(site, name) for name in needed}
    return CellWeights(**arrays, **{FIELDS[name]: a for name, a in site.items() if name.endswith("bias")})


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for number, layer in enumerate(weights.cells):
        for cell, letter in zip(layer, "lr", strict=False):
            found |= {f"{options.get('prefix', '')}{letter}{number}_{name}": cell.arrays[field]
                      for name, field in FIELDS.items() if field in cell.arrays}
    return found


FORMAT = Format("mxnet_cells", "MXNet's cells and Gluon", GATES, LIMITS, load, store, load_options=("mode",))
