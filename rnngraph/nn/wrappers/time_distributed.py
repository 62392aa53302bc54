"""TimeDistributed: a layer applied to every step of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import ops
from rnngraph.nn.activations import ACTIVATIONS
from rnngraph.nn.cell import Cell
from rnngraph.nn.core_layers import Activation, Dense, Dropout, Embedding
from rnngraph.nn.layer import Layer
from rnngraph.nn.model import Sequential
from rnngraph.nn.norm_layers import LayerNormalization
from rnngraph.nn.scan import scan
from rnngraph.nn.tensor import Tensor
from rnngraph.nn.weights import WeightOwner

MAX_UNROLL = 512  # steps to which a layer with loops of its own is applied one by one


class TimeDistributed(Layer):
    """Apply ``layer`` to each step: y[:, t] = layer(x[:, t]) for x [batch, time, ...] (Keras's TimeDistributed).

    A layer that works on the last axis alone (Dense, Embedding, Activation, Dropout, LayerNormalization, Sequential of
    them) is applied to all steps at once. Any other layer is the body of a loop over time. A layer that itself runs
    over time, such as an LSTM on [batch, time, steps, features], is a loop in a loop, which only the reference backend
    runs: the table of selection says so. With an integer number of steps it is applied to each of them instead, and
    compiles natively, up to 512 of them. Weights are the layer's, under its names. The input's mask is the output's.
    ShapeError for an input that has no time axis.

    Example:
        >>> from rnngraph.nn import Dense, Input, TimeDistributed, trace
        >>> trace(TimeDistributed(Dense(3)), Input(("batch", "time", 8))).outputs[0].shape
        ('batch', 'time', 3)
    """

    supports_masking = True

    def __init__(self, layer: Layer, name: str | None = None) -> None:
        super().__init__(name)
        if not isinstance(layer, Layer):
            raise TraceError(f"layer {self.path!r}: expected a layer to apply to every step, got {layer!r}")
        self.layer = layer

    @property
    def input_dtype(self) -> str:
        """The dtype of the input: the layer's."""
        return self.layer.input_dtype

    def children(self) -> Mapping[str, Layer]:
        return {"": self.layer}

    def call(self, x: Tensor) -> Any:
        if x.rank < 2:
            raise ShapeError(f"expected an input [batch, time, ...], got {x.type}")
        if _on_last_axis(self.layer, x.rank - 1):
            return self.layer(x)
        steps = x.shape[1]
        if isinstance(steps, int) and 0 < steps <= MAX_UNROLL and _recurs(self.layer):
            results = [self.layer(x[:, t]) for t in range(steps)]
            return _joined(results)
        _, results = scan(lambda carry, step: (carry, self.layer(step)), (), _turned(x))
        return tuple(map(_turned, results)) if isinstance(results, tuple) else _turned(results)


def _on_last_axis(layer: Layer, rank: int) -> bool:
    """Whether steps of this rank, or any number of them stacked, go through ``layer`` alike."""
    if isinstance(layer, Sequential):
        return all(_on_last_axis(inner, rank) for inner in layer.layers)
    if isinstance(layer, TimeDistributed):
        return rank > 1 and _on_last_axis(layer.layer, rank - 1)
    if isinstance(layer, LayerNormalization):
        return layer.axis == -1 and rank > 1
    if isinstance(layer, Activation):
        return layer.activation in ACTIVATIONS.values()
    return isinstance(layer, Embedding | Dropout) or (isinstance(layer, Dense) and rank > 1)


def _recurs(owner: WeightOwner) -> bool:
    """Whether there is a recurrence in it."""
    own = isinstance(owner, Cell) or (isinstance(owner, Layer) and owner.recurrent_depth > 0)
    return own or any(_recurs(child) for child in owner.children().values())


def _turned(x: Tensor) -> Tensor:
    """[batch, time, ...] as [time, batch, ...], or back."""
    return ops.transpose(x, (1, 0, *range(2, x.rank)))


def _joined(results: list[Any]) -> Any:
    """The results of the steps, one behind the other on a new axis 1."""
    if isinstance(results[0], tuple):
        return tuple(_joined([r[i] for r in results]) for i in range(len(results[0])))
    return ops.concat([ops.reshape(y, (y.shape[0], 1, *y.shape[1:])) for y in results], 1)
