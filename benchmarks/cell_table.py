"""The cells that `python -m benchmarks.cells` measures: those of rnngraph.nn, and two as a user would write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rnngraph import nn
from rnngraph.nn import Cell, ops

IMAGE = 8  # the side of a convolutional cell's image; H / 16 channels, at least 8


class UserMinimalGatedUnit(Cell):
    """Zhou et al. 2016, as a user would write it."""

    def build(self, n: int) -> None:
        u = self.state_size
        self.Wf, self.Rf = self.add_weight("Wf", (n, u)), self.add_weight("Rf", (u, u))
        self.Wn, self.Rn = self.add_weight("Wn", (n, u)), self.add_weight("Rn", (u, u))

    def step(self, x: Any, h: Any) -> Any:
        f = ops.sigmoid(x @ self.Wf + h @ self.Rf)
        h = h + f * (ops.tanh(x @ self.Wn + (f * h) @ self.Rn) - h)
        return h, h


class UserLayerNormLSTM(Cell):
    """Ba et al. 2016, as a user would write it: both projections and the cell state are normalised."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.state_size = {"h": units, "c": units}

    def build(self, n: int) -> None:
        self.W, self.R = self.add_weight("W", (n, 4 * self.units)), self.add_weight("R", (self.units, 4 * self.units))

    def step(self, x: Any, state: Any) -> Any:
        i, f, g, o = ops.split(ops.layer_norm(x @ self.W) + ops.layer_norm(state["h"] @ self.R), 4)
        c = ops.sigmoid(f) * state["c"] + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(ops.layer_norm(c))
        return h, {"h": h, "c": c}


@dataclass(frozen=True, slots=True)
class Entry:
    """A cell of about ``h`` units, and the shape of a step's input without the batch."""

    make: Callable[[int], Cell]
    features: Callable[[int], tuple[int, ...]] = lambda h: (h,)


def image(make: Callable[[int], Cell]) -> Entry:
    """A convolutional cell; ``make`` takes its channels."""
    return Entry(lambda h: make(channels(h)), lambda h: (IMAGE, IMAGE, channels(h)))


def channels_first(make: Callable[[int], Cell]) -> Entry:
    return Entry(lambda h: make(channels(h)), lambda h: (channels(h), IMAGE, IMAGE))


def channels(h: int) -> int:
    return max(8, h // 16)


def windows(h: int) -> dict[str, Any]:
    """Four windows of a quarter of the input."""
    return {"feature_size": h // 4, "frequency_skip": h // 4}


def square(c: int) -> tuple[int, int, int]:
    return (c, IMAGE, IMAGE)


TABLE: dict[str, Entry] = {
    "LSTM": Entry(nn.LSTMCell),
    "minimal gated unit (user)": Entry(UserMinimalGatedUnit),
    "layer-norm LSTM (user)": Entry(UserLayerNormLSTM),
    "LSTM, peepholes": Entry(lambda h: nn.LSTMCell(h, peepholes=True)),
    "LSTM, clipped": Entry(lambda h: nn.LSTMCell(h, cell_clip=3.0)),
    "LSTMP": Entry(lambda h: nn.LSTMPCell(h, max(1, h // 2))),
    "coupled gates LSTM": Entry(nn.CoupledInputForgetGateLSTMCell),
    "weight-norm LSTM": Entry(nn.WeightNormLSTMCell),
    "layer-norm LSTM": Entry(nn.LayerNormLSTMCell),
    "layer-norm GRU": Entry(nn.LayerNormGRUCell),
    "layer-norm RNN": Entry(nn.LayerNormSimpleRNNCell),
    "GRU, reset after": Entry(nn.GRUCell),
    "GRU, reset before": Entry(lambda h: nn.GRUCell(h, reset_after=False)),
    "SimpleRNN": Entry(nn.SimpleRNNCell),
    "UGRNN": Entry(nn.UGRNNCell),
    "NAS": Entry(nn.NASCell),
    "Intersection": Entry(nn.IntersectionRNNCell),
    "Phased LSTM": Entry(nn.PhasedLSTMCell, lambda h: (h + 1,)),
    "GLSTM, 4 groups": Entry(lambda h: nn.GLSTMCell(h // 4 * 4, number_of_groups=4), lambda h: (h // 4 * 4,)),
    "minimal gated unit": Entry(nn.MinimalGatedUnitCell),
    "MGU of flax": Entry(nn.MGUCell),
    "MinimalRNN": Entry(nn.MinimalRNNCell),
    "CFN": Entry(nn.CFNCell),
    "ESN": Entry(nn.ESNCell),
    "plain echo state": Entry(nn.EchoStateCell),
    "SRU": Entry(nn.SRUCell),
    "SRU v2": Entry(nn.SRUv2Cell),
    "IndRNN": Entry(nn.IndRNNCell),
    "IndyLSTM": Entry(nn.IndyLSTMCell),
    "IndyGRU": Entry(nn.IndyGRUCell),
    "TimeFreqLSTM, 4 windows": Entry(lambda h: nn.TimeFreqLSTMCell(h // 4, **windows(h)), lambda h: (h // 4 * 4,)),
    "GridLSTM, 4 windows": Entry(lambda h: nn.GridLSTMCell(h // 4, num_frequency_blocks=[4], **windows(h)),
                                 lambda h: (h // 4 * 4,)),
    "GridLSTM, both ways": Entry(
        lambda h: nn.BidirectionalGridLSTMCell(h // 4, num_frequency_blocks=[4], **windows(h)),
        lambda h: (h // 4 * 4,)),
    "ConvLSTM2D": image(lambda c: nn.ConvLSTMCell(2, c, 3, padding="same")),
    "ConvGRU2D": image(lambda c: nn.ConvGRUCell(2, c, 3, padding="same")),
    "ConvRNN2D": image(lambda c: nn.ConvRNNCell(2, c, 3, padding="same")),
    "ConvLSTM2D of contrib": image(lambda c: nn.ContribConvLSTMCell(2, (IMAGE, IMAGE, c), c, (3, 3))),
    "ConvLSTM2D of Gluon": channels_first(lambda c: nn.GluonConvLSTMCell(square(c), c, 3, 3, i2h_pad=1)),
    "ConvGRU2D of Gluon": channels_first(lambda c: nn.GluonConvGRUCell(square(c), c, 3, 3, i2h_pad=1)),
    "ConvRNN2D of Gluon": channels_first(lambda c: nn.GluonConvRNNCell(square(c), c, 3, 3, i2h_pad=1)),
    "ConvLSTM2D of MXNet": channels_first(lambda c: nn.MXNetConvLSTMCell(square(c), c)),
    "ConvGRU2D of MXNet": channels_first(lambda c: nn.MXNetConvGRUCell(square(c), c)),
    "ConvRNN2D of MXNet": channels_first(lambda c: nn.MXNetConvRNNCell(square(c), c)),
}

# Not in the table: what has no matmul of its own.
LEFT_OUT: dict[str, str] = {"StackedCells": "runs other cells"}

# Why a cell takes more than the bound, by its name in the table.
ELEMENTWISE = "no recurrent matmul: elementwise-bound"
CHAIN = "windows of H / 4 units, each waits for the one before"
NORMS = "norms: reductions, one after the other"
REASONS: dict[str, str] = {
    **dict.fromkeys(("IndRNN", "IndyLSTM", "IndyGRU", "SRU", "SRU v2"), ELEMENTWISE),
    **dict.fromkeys(("TimeFreqLSTM, 4 windows", "GridLSTM, 4 windows", "GridLSTM, both ways"), CHAIN),
    **dict.fromkeys(("layer-norm LSTM (user)", "layer-norm LSTM", "layer-norm GRU", "layer-norm RNN"), NORMS),
    "GLSTM, 4 groups": "groups of H / 4 units: narrow matmuls",
}
LATENCY = "fewer flops than an LSTM in no more time: latency-bound"
