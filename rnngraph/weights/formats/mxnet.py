"""MXNet: the flat array of the RNN operator and of mx.rnn.FusedRNNCell, `{prefix}parameters`.

The parts are those of `rnngraph.weights.blob`, with two biases; gates i f c o and r z o (python/mxnet/rnn/rnn_cell.py,
`_slice_weights`), the reset gate on R h. `mxnet_unpacked` is what unpack_weights makes of it, `mxnet_cells` what the
unfused cells and Gluon have.
"""

from __future__ import annotations

from rnngraph.weights.blob import Geometry, flat, from_cells, pack_blob, unpack_blob
from rnngraph.weights.canonical import RecurrentWeights
from rnngraph.weights.fit import Limits
from rnngraph.weights.gates import GATES, Array
from rnngraph.weights.options import Options
from rnngraph.weights.table import Format

LIMITS = Limits("two", (True,), projection=True, uniform=True, need_bias=True)


def load(params: dict[str, Array], options: Options) -> RecurrentWeights:
    geometry = Geometry.of(options, "mxnet")
    blob = flat(params, options, "mxnet")
    return from_cells(unpack_blob(blob, geometry, GATES[geometry.mode], "mxnet"), geometry)


def store(weights: RecurrentWeights, options: Options) -> dict[str, Array]:
    return {f"{options.get('prefix', '')}parameters": pack_blob(weights, weights.gates)}


FORMAT = Format("mxnet", "MXNet's RNN operator", GATES, LIMITS, load, store,
                load_options=("mode", "hidden", "layers", "directions", "projection"), names=lambda _: ["parameters"])
