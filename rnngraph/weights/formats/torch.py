"""PyTorch: a state dict. weight_ih_l{k}[_reverse] [G*H, I], weight_hh, bias_ih, bias_hh, weight_hr [P, H].

Gates i f g o and r z n, two biases, the reset gate on R h (torch/nn/modules/rnn.py). The cells (nn.LSTMCell) have the
same arrays without `_l{k}`.
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

NAME = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(?:_l(\d+)(_reverse)?)?")


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found: dict[tuple[int, int], dict[str, Array]] = {}
    for name, array in selected(params, options.get("prefix", "")).items():
        match = NAME.fullmatch(name)
        if match is None:
            raise ConversionError(f"torch: unknown array {name!r}; give the recurrent module's prefix, such as "
                                  "prefix='lstm.'")
        found.setdefault((int(match[2] or 0), int(bool(match[3]))), {})[match[1]] = array
    layers = 1 + max(layer for layer, _ in found)
    directions = 1 + max(direction for _, direction in found)
    if len(found) != layers * directions:
        raise ConversionError(f"torch: expected {layers} layer(s) of {directions} direction(s), got "
                              f"{len(found)} groups of arrays")
    cells = tuple(tuple(_cell(found[layer, d]) for d in range(directions)) for layer in range(layers))
    gates = gates_of(cells[0][0].w.shape[0], cells[0][0].hidden, "torch")
    return RecurrentWeights(mode_of(gates, options.get("mode")), cells)


def _cell(site: dict[str, Array]) -> CellWeights:
    return CellWeights(matrix(site, "weight_ih"), matrix(site, "weight_hh"), site.get("bias_ih"), site.get("bias_hh"),
                       matrix(site, "weight_hr") if "weight_hr" in site else None)


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for number, layer in enumerate(weights.cells):
        for cell, suffix in zip(layer, ("", "_reverse"), strict=False):
            arrays = {"weight_ih": cell.w, "weight_hh": cell.r, "bias_ih": cell.bias, "bias_hh": cell.recurrent_bias,
                      "weight_hr": cell.projection}
            found |= {f"{options.get('prefix', '')}{name}_l{number}{suffix}": array
                      for name, array in arrays.items() if array is not None}
    return found


FORMAT = Format("torch", "PyTorch", GATES, Limits("two", (True,), projection=True, uniform=True), load, store,
                load_options=("mode",))
