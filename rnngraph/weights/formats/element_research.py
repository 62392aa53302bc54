"""Element-Research's rnn for Torch 7: SeqLSTM, SeqLSTMP and SeqGRU: weight [I+P, G*H], bias [G*H], weightO [H, P].

Gates i f o g and r z n, one bias, the reset gate on the state (SeqLSTM.lua, SeqLSTMP.lua, SeqGRU.lua).
"""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.formats.tf import rows
from rnngraph.weights.gates import GATES, Array, reorder
from rnngraph.weights.names import matrix, mode_of, sites, write_sites
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

ORDER = {"lstm": "ifog", "gru": "rzn"}
LEAVES = ("weight", "bias", "weightO")


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = sites(params, LEAVES, options.get("prefix", ""))
    mode = options.get("mode")
    if mode not in ORDER:
        raise ConversionError("element_research: the arrays do not show whether they are a SeqLSTM's or a SeqGRU's; "
                              f"mode is 'lstm' or 'gru', got {mode!r}")
    cells = tuple(tuple(_cell(site, mode_of(len(ORDER[mode]), mode)) for site in layer) for layer in found)
    return RecurrentWeights(mode, cells, reset_after=mode != "gru")


def _cell(site: dict[str, Array], mode: str) -> CellWeights:
    weight = matrix(site, "weight")
    projection = matrix(site, "weightO").T if "weightO" in site else None
    output = weight.shape[1] // len(ORDER[mode]) if projection is None else projection.shape[0]
    w, r = rows(weight, output, ORDER[mode], mode)
    return CellWeights(w, r, reorder(matrix(site, "bias", 1), ORDER[mode], GATES[mode]), projection=projection)


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    order = ORDER[weights.mode]

    def arrays(cell: CellWeights) -> dict[str, Array]:
        assert cell.bias is not None
        found = {"weight": np.concatenate([reorder(a, weights.gates, order).T for a in (cell.w, cell.r)]),
                 "bias": reorder(cell.bias, weights.gates, order)}
        return found if cell.projection is None else found | {"weightO": cell.projection.T}

    return write_sites(weights, options.get("prefix", ""), arrays)


FORMAT = Format("element_research", "Element-Research's rnn", ORDER,
                Limits("one", (False,), projection=True, need_bias=True), load, store, load_options=("mode",))
