"""What the layout of a system leaves open."""

from __future__ import annotations

from typing import TypedDict


class FlatOptions(TypedDict, total=False):
    """What a flat array leaves open; layers is 1, directions 1 and projection 0 where they are not said."""

    mode: str
    hidden: int
    layers: int
    directions: int
    projection: int


class Options(FlatOptions, total=False):
    """Options of `load`, `convert` and `RecurrentWeights.to`; which of them a system takes is in its `Format`.

    mode         "lstm", "gru", "rnn_tanh" or "rnn_relu", where the arrays do not show it
    reset_after  of a GRU, where the arrays do not show it
    forget_bias  what the graph of the system adds to the forget gate
    prefix       what stands in front of every name
    bias_mode    of cuDNN: "double", "single_input", "single_recurrent" or "none"
    hidden, layers, directions, projection
                 the geometry of a flat array
    fold_bias    whether two biases may be added where a system has one (default); else that is an error
    """

    reset_after: bool
    forget_bias: float
    prefix: str
    bias_mode: str
    fold_bias: bool
