"""The models that are checked: every kind of recurrence that the backend has a path for, and what is around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rnngraph import nn

Sizes = tuple[tuple[int, int], ...]  # (batch, time)


@dataclass(frozen=True, slots=True)
class Model:
    """``make(units)`` gives the layer; its input has ``features``, or is of token numbers."""

    name: str
    make: Callable[[int], nn.Layer]
    features: int = 24
    tokens: bool = False
    lengths: bool = False
    plain: bool = True  # its numbers pass through nothing but recurrences


class Gated(nn.Cell):
    """A user's cell: a minimal gated unit, whose second product reads what the first has made."""

    def __init__(self, units: int) -> None:
        super().__init__({"h": units})
        self.units = units

    def build(self, input_size: int) -> None:
        u = self.units
        self.w, self.r = self.add_weight("w", (input_size, 2 * u)), self.add_weight("r", (u, u))
        self.q = self.add_weight("q", (u, u))

    def step(self, x: Any, state: Any) -> Any:
        h = state["h"]
        gate, new = nn.ops.split(x @ self.w, 2, -1)
        keep = nn.ops.sigmoid(gate + h @ self.r)
        h = keep * h + (1.0 - keep) * nn.ops.tanh(new + (keep * h) @ self.q)
        return h, {"h": h}


def _sequence(cell: Callable[[int], nn.Cell]) -> Callable[[int], nn.Layer]:
    return lambda units: nn.RNN(cell(units), return_sequences=True)


MODELS = (
    Model("LSTM", lambda u: nn.LSTM(u, return_sequences=True, return_state=True)),
    Model("GRU, reset after", lambda u: nn.GRU(u, return_sequences=True)),
    Model("GRU, reset before", lambda u: nn.GRU(u, return_sequences=True, reset_after=False)),
    Model("RNN tanh", lambda u: nn.SimpleRNN(u, return_sequences=True)),
    Model("RNN relu", lambda u: nn.SimpleRNN(u, activation="relu", return_sequences=True)),
    Model("LSTM x2, both directions", lambda u: nn.FusedRNN("lstm", u, 2, bidirectional=True)),
    Model("GRU x3", lambda u: nn.FusedRNN("gru", u, 3)),
    Model("LSTM, projected", lambda u: nn.FusedRNN("lstm", u, projection=max(1, u // 2))),
    Model("LSTM, lengths", lambda u: nn.LSTM(u, return_sequences=True), lengths=True),
    Model("GRU x2, both directions, lengths", lambda u: nn.FusedRNN("gru", u, 2, bidirectional=True, layout="NTC"),
          lengths=True),
    Model("LSTM, backwards", lambda u: nn.LSTM(u, go_backwards=True)),
    Model("LSTM, peepholes", lambda u: nn.LSTM(u, peepholes=True, return_sequences=True)),
    Model("LSTM, layer norm", _sequence(nn.LayerNormLSTMCell)),
    Model("GRU, layer norm", _sequence(nn.LayerNormGRUCell)),
    Model("a user's cell", _sequence(Gated)),
    Model("tagger, lengths", lambda u: nn.Sequential([
        nn.Embedding(50, 16), nn.Bidirectional(nn.LSTM(u, return_sequences=True)), nn.Dense(7, activation="softmax")]),
          tokens=True, lengths=True, plain=False),
    Model("ConvLSTM", lambda u: nn.Sequential([nn.Reshape((-1, 4, 3, 2)), nn.ConvLSTM2D(max(2, u // 32), 3,
                                                                                        padding="same")]), plain=False),
    Model("convolutions", lambda u: nn.Sequential([nn.Conv1D(12, 3, activation="relu"), nn.MaxPooling1D(2),
                                                   nn.LayerNormalization(), nn.GRU(u)]), plain=False),
)


SMALL = ("LSTM x2, both directions", "tagger, lengths")  # what the stand-in runs unless it is given time


def sized(shim: bool, full: bool) -> Iterator[tuple[Model, int, Sizes]]:
    """(model, units, sizes): units that no tile divides and such that every tile does; rows and steps likewise."""
    for model in MODELS:
        if shim:
            if full or model.name in SMALL:
                yield model, 10, ((3, 5),)
            continue
        yield model, 37, ((1, 9), (5, 7), (33, 4))
        yield model, 256, ((1, 20), (4, 12), (16, 6))
        if full and model.plain:
            yield model, 1024, ((1, 20), (3, 10))


__all__ = ["MODELS", "Model", "sized"]
