"""assign, extract: weights of other systems into layers of rnngraph.nn, and out of them.

The layers know their cells (`Layer.recurrent_weights`); this package knows the layouts, and imports no layer.
"""

from __future__ import annotations

from typing import Any, Protocol, Unpack, runtime_checkable

from rnngraph.errors import TraceError
from rnngraph.weights.canonical import RecurrentWeights
from rnngraph.weights.convert import load
from rnngraph.weights.gates import Array
from rnngraph.weights.options import Options


@runtime_checkable
class HasRecurrentWeights(Protocol):
    """What has recurrent weights: LSTM, GRU, SimpleRNN, FusedRNN, RNN of cells, Bidirectional, Sequential of them."""

    def recurrent_weights(self, weights_only: bool = False) -> RecurrentWeights:
        """The weights, in the canonical form."""
        ...

    def set_recurrent_weights(self, weights: RecurrentWeights) -> None:
        """Set the weights."""
        ...


def assign(layer: HasRecurrentWeights, params: Any, source: str | None = None, **options: Unpack[Options]) -> None:
    """Set the weights of a layer, or of the recurrent layers of a Sequential, from ``params`` of ``source``.

    Takes the params, source and options of `load`, or `RecurrentWeights`. A layer that is not built is built for their
    input size. float64 becomes float32; two biases are added where the layer has one. A Sequential takes one layer of
    weights per recurrent layer; layers without weights may stand between them, and others before and after.

    ConversionError names what the layer cannot hold (peepholes, projection, another placement of a GRU's reset gate),
    TraceError a layer of another kind or number, ShapeError other sizes; the layer then is as it was.

    Example:
        >>> import numpy as np
        >>> from rnngraph.nn import LSTM
        >>> layer = LSTM(3)
        >>> assign(layer, {"weight_ih_l0": np.ones((12, 5), np.float32), "weight_hh_l0": np.ones((12, 3), np.float32)},
        ...        source="torch")
        >>> layer.weights["kernel"].shape
        (5, 12)
    """
    weights = params if isinstance(params, RecurrentWeights) else load(params, source or "", **options)
    _checked(layer).set_recurrent_weights(weights)


def extract(layer: HasRecurrentWeights, to: str, *, weights_only: bool = False,
            **options: Unpack[Options]) -> dict[str, Array]:
    """The weights of a layer, or of the recurrent layers of a Sequential, as arrays of the system ``to``.

    Takes the options of `RecurrentWeights.to`. TraceError when the layer is not built, or computes what weights do not
    say (other activations, clipping) unless ``weights_only``; ConversionError names what the system cannot hold.

    Example:
        >>> from rnngraph.nn import GRU
        >>> layer = GRU(3)
        >>> layer.build((None, None, 5))
        >>> {name: array.shape for name, array in extract(layer, to="onnx").items()}
        {'W': (1, 9, 5), 'R': (1, 9, 3), 'B': (1, 18)}
    """
    return _checked(layer).recurrent_weights(weights_only).to(to, **options)


def _checked(layer: HasRecurrentWeights) -> HasRecurrentWeights:
    if not isinstance(layer, HasRecurrentWeights):
        raise TraceError(f"expected a recurrent layer, a Bidirectional or a Sequential of them, got {layer!r}")
    return layer
