"""Flux.jl: Wi [G*H, I], Wh [G*H, H] and bias (LSTMCell, RNNCell) or b (GRUCell, GRUv3Cell); src/layers/recurrent.jl.

Gates i f c o and r z n, one bias. GRU has the reset gate on the product, with no bias there; GRUv3 has it on the state,
and its candidate's matrix apart, Wh_h~ (h with a tilde) [H, H]; the third block of its Wh (from Flux 0.15 on) takes no
part in the equation and is written as zeros. RNNCell's activation is an option (mode).
"""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.gates import GATES, Array
from rnngraph.weights.names import gates_of, matrix, mode_of, sites, write_sites
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

CANDIDATE = "Wh_h\u0303"
LEAVES = ("Wi", "Wh", "bias", "b", CANDIDATE)


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = sites(params, LEAVES, options.get("prefix", ""))
    first = found[0][0]
    hidden = matrix(first, "Wh").shape[1]
    mode = mode_of(gates_of(matrix(first, "Wi").shape[0], hidden, "flux"), options.get("mode"))
    cells = tuple(tuple(_cell(site, hidden) for site in layer) for layer in found)
    return RecurrentWeights(mode, cells, CANDIDATE not in first)


def _cell(site: dict[str, Array], hidden: int) -> CellWeights:
    r = matrix(site, "Wh")
    if CANDIDATE in site:
        if r.shape[0] not in (2 * hidden, 3 * hidden):
            raise ConversionError(f"flux: Wh of a GRUv3Cell has 2*H or 3*H rows, got {list(r.shape)}")
        r = np.concatenate([r[: 2 * hidden], matrix(site, CANDIDATE)])
    return CellWeights(matrix(site, "Wi"), r, site.get("bias", site.get("b")))


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    def arrays(cell: CellWeights) -> dict[str, Array]:
        found = {"Wi": cell.w, "Wh": cell.r}
        if weights.mode == "gru" and not weights.reset_after:
            last = 2 * cell.hidden
            found["Wh"] = np.concatenate([cell.r[:last], np.zeros_like(cell.r[last:])])
            found[CANDIDATE] = cell.r[last:]
        if cell.bias is not None:
            found["b" if weights.mode == "gru" else "bias"] = cell.bias
        return found

    return write_sites(weights, options.get("prefix", ""), arrays)


FORMAT = Format("flux", "Flux", GATES, Limits("one", (True, False)), load, store, load_options=("mode",))
