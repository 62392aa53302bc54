"""Activations as Keras's configurations name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rnngraph.frontends.keras.config import Config
from rnngraph.nn import ops
from rnngraph.nn.activations import ACTIVATIONS, Activation
from rnngraph.nn.tensor import Tensor


def _log_softmax(x: Tensor) -> Tensor:
    shifted = x - ops.max(x, -1, keepdims=True)
    return shifted - ops.log(ops.sum(ops.exp(shifted), -1, keepdims=True))


def _celu(x: Tensor) -> Tensor:
    return ops.elu(x)


def _hard_shrink(x: Tensor) -> Tensor:
    return ops.where(ops.abs(x) > 0.5, x, 0.0)


def _soft_shrink(x: Tensor) -> Tensor:
    return ops.sign(x) * ops.relu(ops.abs(x) - 0.5)


# Beside those of `rnngraph.nn.activations`: the others of Keras 3, with their defaults.
MORE: dict[str, Activation] = {
    "celu": _celu,
    "glu": lambda x: _glu(x),
    "hard_shrink": _hard_shrink,
    "hard_silu": lambda x: x * ops.hard_sigmoid(x),
    "hard_swish": lambda x: x * ops.hard_sigmoid(x),
    "hard_tanh": lambda x: ops.clip(x, -1.0, 1.0),
    "log_sigmoid": lambda x: -ops.softplus(-x),
    "log_softmax": _log_softmax,
    "mish": lambda x: x * ops.tanh(ops.softplus(x)),
    "soft_shrink": _soft_shrink,
    "sparse_sigmoid": lambda x: ops.clip(0.5 * (x + 1.0), 0.0, 1.0),
    "squareplus": lambda x: 0.5 * (x + ops.sqrt(x * x + 4.0)),
    "tanh_shrink": lambda x: x - ops.tanh(x),
}


def _glu(x: Tensor) -> Tensor:
    first, gate = ops.split(x, 2)
    return first * ops.sigmoid(gate)


# Layers that stand as an activation -> their function of a config.
LAYERS: dict[str, Callable[[Config], Activation]] = {
    "LeakyReLU": lambda c: _leaky(slope(c)),
    "ELU": lambda c: _elu(c.number("alpha", 1.0)),
    "ReLU": lambda c: relu_of(c),
    "Softmax": lambda c: _softmax(c.axis("axis", -1)),
}


def slope(c: Config) -> float:
    """The slope of a LeakyReLU below 0: its name is ``alpha`` in Keras 2."""
    return c.number("negative_slope", c.number("alpha", 0.3))


def _leaky(value: float) -> Activation:
    return lambda x: ops.leaky_relu(x, value)


def _elu(value: float) -> Activation:
    return lambda x: ops.elu(x, value)


def _softmax(axis: int) -> Activation:
    return lambda x: ops.softmax(x, axis)


def relu_of(c: Config) -> Activation:
    """A ReLU with its options."""
    most = c.number("max_value") if c.has("max_value") else None
    below, threshold = c.number("negative_slope", 0.0), c.number("threshold", 0.0)

    def relu(x: Tensor) -> Tensor:
        above = ops.relu(x) if threshold == 0.0 else ops.where(x >= threshold, x, 0.0)
        if most is not None:
            above = ops.minimum(above, most)
        return above if below == 0.0 else above + below * ops.minimum(x - threshold, 0.0)

    return relu


def activation(c: Config, key: str = "activation", default: str = "linear") -> Activation:
    """The activation that an option of a layer names. Keras 2's hard_sigmoid has another slope than Keras 3's."""
    return named(c, c.get(key, default), key)


def named(c: Config, value: Any, key: str = "activation") -> Activation:
    if isinstance(value, Mapping):
        inner = value.get("config")
        if value.get("class_name") == "function" and isinstance(inner, str):
            value = inner
        elif value.get("class_name") in LAYERS:
            layer = c.inner(value)
            made = LAYERS[layer.class_name](layer)
            layer.done()
            return made
        else:
            raise c.fail(f"its {key} {str(value.get('class_name'))[:60]!r} is code that the file does not hold")
    if not isinstance(value, str):
        raise c.fail(f"its {key} must be a name, got {str(value)[:60]}")
    name = value.rsplit(">", 1)[-1]
    if name == "hard_sigmoid" and c.keras < 3:
        return ACTIVATIONS["hard_sigmoid_keras2"]
    if name in ("softmax_v2", "relu_v2", "gelu_v2"):
        name = name.removesuffix("_v2")
    found = ACTIVATIONS.get(name) or MORE.get(name)
    if found is None:
        raise c.fail(f"its {key} {name[:60]!r} is not known; known are {', '.join(sorted({**ACTIVATIONS, **MORE}))}")
    return found
