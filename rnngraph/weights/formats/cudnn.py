"""cuDNN: the weight space, one flat array (`rnngraph.weights.blob`), without padding.

Gates in the order of linLayerID, i f c o and r z h, then the projection; the reset gate on R h. bias_mode is
cudnnRNNBiasMode_t: "double" (default), "single_input", "single_recurrent" or "none".
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.blob import BIASES, Geometry, flat, from_cells, pack_blob, unpack_blob
from rnngraph.weights.canonical import RecurrentWeights
from rnngraph.weights.fit import Limits, fit
from rnngraph.weights.gates import GATES, Array, split
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

LIMITS = Limits("two", (True,), projection=True, uniform=True, need_bias=True)
ONE = replace(LIMITS, biases="one")


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    geometry = Geometry.of(options, "cudnn")
    return from_cells(unpack_blob(flat(params, options, "cudnn"), geometry, GATES[geometry.mode], "cudnn"), geometry)


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    mode = options.get("bias_mode", "double")
    if mode not in BIASES:
        raise ConversionError(f"cudnn: bias_mode is one of {', '.join(BIASES)}, got {mode!r}")
    if mode != "double":
        weights = _single(weights, mode, options.get("fold_bias", True))
    return {f"{options.get('prefix', '')}parameters": pack_blob(weights, weights.gates, mode)}


def _single(weights: RecurrentWeights, mode: str, fold: bool) -> RecurrentWeights:
    """The weights with one bias or none; ConversionError where that is another function."""
    title = f"cuDNN with bias_mode={mode}"
    if mode == "none":
        if any(np.any(a != 0) for cell in weights for name, a in cell.arrays.items() if name in BIASES["double"]):
            raise ConversionError(f"{title}: the biases would be lost")
        return weights
    if mode == "single_recurrent" and weights.mode == "gru" and any(
            np.any(split(cell.bias, weights.gates)["n"] != 0) for cell in weights if cell.bias is not None):
        raise ConversionError(f"{title}: the input's bias of the candidate gate n would be lost, and it cannot be "
                              "added to the recurrent one, which r multiplies")
    swapped = weights
    if mode == "single_recurrent":  # folding is symmetric: fold into the recurrent bias by swapping the two
        swapped = replace(weights, cells=tuple(tuple(replace(c, bias=c.recurrent_bias, recurrent_bias=c.bias)
                                                     for c in layer) for layer in weights.cells))
    single = fit(swapped, ONE, title, fold)
    if mode == "single_input":
        return single
    return replace(single, cells=tuple(tuple(replace(c, bias=None, recurrent_bias=c.bias) for c in layer)
                                       for layer in single.cells))


FORMAT = Format("cudnn", "cuDNN", GATES, LIMITS, load, store,
                load_options=("mode", "hidden", "layers", "directions", "projection", "bias_mode"),
                store_options=("bias_mode",), names=lambda _: ["parameters"])
