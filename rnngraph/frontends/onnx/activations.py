"""The activations of ONNX's recurrent ops: names, and the scaling values that each consumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from rnngraph.errors import ImportModelError
from rnngraph.frontends.onnx.proto import Node
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor

Activation: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class _Kind:
    """``make(alpha, beta)`` and their defaults; None where the activation takes none."""

    make: Callable[[float, float], Activation]
    alpha: float | None = None
    beta: float | None = None


def _thresholded(alpha: float) -> Activation:
    return lambda x: ops.where(x > alpha, x, 0.0)


_KINDS = {
    "relu": _Kind(lambda a, b: ops.relu),
    "tanh": _Kind(lambda a, b: ops.tanh),
    "sigmoid": _Kind(lambda a, b: ops.sigmoid),
    "softsign": _Kind(lambda a, b: ops.softsign),
    "softplus": _Kind(lambda a, b: ops.softplus),
    "affine": _Kind(lambda a, b: lambda x: x * a + b, 1.0, 0.0),
    "leakyrelu": _Kind(lambda a, b: lambda x: ops.leaky_relu(x, a), 0.01),
    "thresholdedrelu": _Kind(lambda a, b: _thresholded(a), 1.0),
    "scaledtanh": _Kind(lambda a, b: lambda x: ops.tanh(x * b) * a, 1.0, 1.0),
    "hardsigmoid": _Kind(lambda a, b: lambda x: ops.clip(x * a + b, 0.0, 1.0), 0.2, 0.5),
    "elu": _Kind(lambda a, b: lambda x: ops.elu(x, a), 1.0),
}


def activations(node: Node, per_direction: int, directions: int, defaults: tuple[str, ...]) -> list[list[Activation]]:
    """For each direction its functions (f, g, h), in order.

    Values of activation_alpha and activation_beta are consumed by the functions that take them, in order; the others
    have the defaults of the ops of their names.
    """
    names = node.attributes.get("activations") or list(defaults) * directions
    if not isinstance(names, list) or len(names) != per_direction * directions or not all(
            isinstance(n, str) for n in names):
        raise ImportModelError(f"{node}: expected {per_direction * directions} activations, got {names!r}")
    alphas, betas = _values(node, "activation_alpha"), _values(node, "activation_beta")
    found = [_one(node, str(n), alphas, betas) for n in names]
    return [found[d * per_direction : (d + 1) * per_direction] for d in range(directions)]


def _values(node: Node, name: str) -> Iterator[float]:
    values = node.attributes.get(name, [])
    if not isinstance(values, list):
        raise ImportModelError(f"{node}: attribute {name} must be floats, got {values!r}")
    return iter([float(v) for v in values])


def _one(node: Node, name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
    kind = _KINDS.get(name.lower())
    if kind is None:
        raise ImportModelError(f"{node}: unknown activation {name!r}; known: {', '.join(_KINDS)}")
    alpha = 0.0 if kind.alpha is None else next(alphas, kind.alpha)
    beta = 0.0 if kind.beta is None else next(betas, kind.beta)
    return kind.make(alpha, beta)
