"""Keras's CuDNNLSTM and CuDNNGRU (Keras 2): kernel [I, G*U], recurrent_kernel [U, G*U], bias [2*G*U].

The shapes are those of LSTM and GRU, but within a gate the numbers stand as cuDNN has them: the input kernel of a gate,
read row by row, is the [U, I] matrix, and the recurrent kernel of a gate is transposed (`_convert_rnn_weights` in
tf_keras/src/saving/legacy/hdf5_format.py). Gates i f c o and z r h; the input's biases, then the recurrent ones.
"""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.formats import keras
from rnngraph.weights.gates import GATES, Array, join, reorder, split
from rnngraph.weights.names import gates_of, matrix, mode_of, sites, write_sites
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

ORDER = {"lstm": "ifgo", "gru": "zrn"}


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    found = sites(params, keras.LEAVES, options.get("prefix", ""))
    recurrent = matrix(found[0][0], "recurrent_kernel")
    mode = mode_of(gates_of(recurrent.shape[1], recurrent.shape[0], "keras_cudnn"), options.get("mode"))
    if mode not in ORDER:
        raise ConversionError("keras_cudnn: expected a CuDNNLSTM or CuDNNGRU, got one gate")
    return RecurrentWeights(mode, tuple(tuple(_cell(site, mode) for site in layer) for layer in found))


def _cell(site: dict[str, Array], mode: str) -> CellWeights:
    order = ORDER[mode]
    inputs = split(matrix(site, "kernel"), order, 1)
    recurrent = split(matrix(site, "recurrent_kernel"), order, 1)
    w = join({g: part.reshape(part.shape[::-1]) for g, part in inputs.items()}, GATES[mode])
    r = join(recurrent, GATES[mode])
    bias = matrix(site, "bias", 1)
    if bias.shape != (2 * w.shape[0],):
        raise ConversionError(f"keras_cudnn: expected a bias [{2 * w.shape[0]}], got {list(bias.shape)}")
    return CellWeights(w, r, *(reorder(half, order, GATES[mode]) for half in np.split(bias, 2)))


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    return write_sites(weights, options.get("prefix", ""), lambda cell: _arrays(cell, weights.mode))


def _arrays(cell: CellWeights, mode: str) -> dict[str, Array]:
    order = ORDER[mode]
    inputs = {g: part.reshape(part.shape[::-1]) for g, part in split(cell.w, GATES[mode]).items()}
    assert cell.bias is not None
    assert cell.recurrent_bias is not None
    biases = [reorder(b, GATES[mode], order) for b in (cell.bias, cell.recurrent_bias)]
    return {"kernel": join(inputs, order, 1), "recurrent_kernel": join(split(cell.r, GATES[mode]), order, 1),
            "bias": np.concatenate(biases)}


FORMAT = Format("keras_cudnn", "Keras's CuDNNLSTM and CuDNNGRU", ORDER, Limits("two", (True,), need_bias=True), load,
                store, load_options=("mode",), names=keras.names)
