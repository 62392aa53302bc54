"""TensorFlow's CudnnLSTM, CudnnGRU, CudnnRNNTanh and CudnnRNNRelu, in what cudnn_rnn_opaque_params_to_canonical gives.

weights/{k} and biases/{k}: for each layer and direction the matrices of the input, gate by gate ([H, I]), then the
recurrent ones ([H, H]); the biases likewise; gates i f c o and r z h as in cuDNN (tf.contrib.cudnn_rnn). The
opaque buffer itself is the layout `cudnn`. The arrays do not show the mode and the directions, which are options.
"""

from __future__ import annotations

import re

import numpy as np

from rnngraph.errors import ConversionError
from rnngraph.weights.canonical import CellWeights, RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.gates import GATES, Array, split
from rnngraph.weights.names import selected
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

NAME = re.compile(r"(weights|biases)/(\d+)")


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    if "mode" not in options:
        raise ConversionError("tf_cudnn: the arrays do not show the mode, which is an option")
    mode, directions = options["mode"], options.get("directions", 1)
    found: dict[str, dict[int, Array]] = {"weights": {}, "biases": {}}
    for name, array in selected(params, options.get("prefix", "")).items():
        match = NAME.fullmatch(name)
        if match is None:
            raise ConversionError(f"tf_cudnn: unknown array {name!r}; expected weights/0, ... and biases/0, ...")
        found[match[1]][int(match[2])] = array
    count, each = len(found["weights"]), 2 * len(GATES[mode])
    if directions not in (1, 2) or count % (each * directions) or not count or any(
            set(numbers) != set(range(count)) for numbers in found.values()):
        raise ConversionError(f"tf_cudnn: expected weights and biases 0..n-1, {each} for each layer and direction of "
                              f"{mode}, got {sorted(found['weights'])} and {sorted(found['biases'])} with directions="
                              f"{directions}")
    cells = [CellWeights(*(_rows(found[kind], first, each // 2, rank) for kind, rank in (("weights", 2), ("biases", 1))
                           for first in (start, start + each // 2))) for start in range(0, count, each)]
    return RecurrentWeights(mode, tuple(tuple(cells[i : i + directions]) for i in range(0, len(cells), directions)))


def _rows(arrays: dict[int, Array], first: int, gates: int, rank: int) -> Array:
    parts = [arrays[number] for number in range(first, first + gates)]
    if len({part.shape for part in parts}) != 1 or parts[0].ndim != rank:
        raise ConversionError(f"tf_cudnn: expected {gates} gates of one shape of rank {rank}, got "
                              f"{[list(part.shape) for part in parts]}")
    return np.concatenate(parts)


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for number, cell in enumerate(weights):
        gates = len(weights.gates)
        for offset, (kind, name) in enumerate((("weights", "w"), ("weights", "r"), ("biases", "bias"),
                                               ("biases", "recurrent_bias"))):
            start = (2 * number + offset % 2) * gates
            parts = split(cell.arrays[name], weights.gates).values()
            found |= {f"{options.get('prefix', '')}{kind}/{start + i}": part for i, part in enumerate(parts)}
    return found


FORMAT = Format("tf_cudnn", "TensorFlow's CudnnLSTM", GATES, Limits("two", (True,), uniform=True, need_bias=True),
                load, store, load_options=("mode", "directions"))
