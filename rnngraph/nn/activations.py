"""Activation functions by name, with the names of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from rnngraph.errors import TraceError
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

Activation: TypeAlias = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "elu": ops.elu,
    "exponential": ops.exponential,
    "gelu": ops.gelu,
    "hard_sigmoid": ops.hard_sigmoid,
    "hard_sigmoid_keras2": ops.hard_sigmoid_keras2,
    "leaky_relu": ops.leaky_relu,
    "linear": ops.linear,
    "relu": ops.relu,
    "relu6": ops.relu6,
    "selu": ops.selu,
    "sigmoid": ops.sigmoid,
    "silu": ops.silu,
    "softmax": ops.softmax,
    "softplus": ops.softplus,
    "softsign": ops.softsign,
    "swish": ops.silu,
    "tanh": ops.tanh,
}


def to_activation(which: str | Activation | None) -> Activation:
    """The function of a name; a function stays itself, None is "linear". TraceError for unknown names."""
    if which is None:
        return ops.linear
    if callable(which):
        return which
    if which not in ACTIVATIONS:
        raise TraceError(f"unknown activation {which!r}; expected a function or one of "
                         f"{', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[which]
