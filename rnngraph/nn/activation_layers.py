"""Activations with options or weights as layers: ReLU, LeakyReLU, PReLU, ELU, ThresholdedReLU, Softmax."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.errors import ShapeError
from rnngraph.ir import Dim
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.initializers import Initializer
from rnngraph.nn.layer import Layer
from rnngraph.nn.tensor import Tensor, wrap


class ReLU(Layer):
    """x from ``threshold`` on, at most ``max_value``; negative_slope * (x - threshold) below (Keras)."""

    supports_masking = True

    def __init__(self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0,
                 name: str | None = None) -> None:
        super().__init__(name)
        self.max_value = max_value
        self.negative_slope = negative_slope
        self.threshold = threshold

    def call(self, x: Tensor) -> Tensor:
        if self.threshold == 0.0:
            above = ops.relu(x)
        else:
            above = ops.where(x >= self.threshold, x, 0.0)
        if self.max_value is not None:
            above = ops.minimum(above, self.max_value)
        if self.negative_slope == 0.0:
            return above
        return above + self.negative_slope * ops.minimum(x - self.threshold, 0.0)


class LeakyReLU(Layer):
    """x above 0, negative_slope * x below (Keras; default 0.3)."""

    supports_masking = True

    def __init__(self, negative_slope: float = 0.3, name: str | None = None) -> None:
        super().__init__(name)
        self.negative_slope = negative_slope

    def call(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)


class PReLU(Layer):
    """x above 0, alpha * x below, with a weight alpha per element, but for axes in ``shared_axes`` (Keras)."""

    supports_masking = True

    def __init__(self, alpha_initializer: str | Initializer = "zeros", shared_axes: Sequence[int] | None = None,
                 name: str | None = None) -> None:
        super().__init__(name)
        self.alpha_initializer = alpha_initializer
        self.shared_axes = tuple(shared_axes or ())

    def setup(self, shape: tuple[Dim, ...]) -> None:
        own = [1 if i in self.shared_axes else d for i, d in enumerate(shape)][1:]
        sizes = tuple(d for d in own if isinstance(d, int))
        if len(sizes) < len(own):
            raise ShapeError(f"expected integers as the dims that are not shared, got {list(shape)}; name the others "
                             "in shared_axes")
        self.alpha = self.add_weight("alpha", sizes, self.alpha_initializer)

    def call(self, x: Tensor) -> Tensor:
        return ops.relu(x) + self.alpha * ops.minimum(x, 0.0)


class ELU(Layer):
    """x above 0, alpha (exp x - 1) below (Keras)."""

    supports_masking = True

    def __init__(self, alpha: float = 1.0, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = alpha

    def call(self, x: Tensor) -> Tensor:
        return ops.elu(x, self.alpha)


class ThresholdedReLU(Layer):
    """x above ``theta``, else 0 (Keras 2)."""

    supports_masking = True

    def __init__(self, theta: float = 1.0, name: str | None = None) -> None:
        super().__init__(name)
        self.theta = theta

    def call(self, x: Tensor) -> Tensor:
        return ops.where(x > self.theta, x, 0.0)


class Softmax(Layer):
    """exp(x) over its sum along ``axis`` (Keras). A mask that comes with x does not count: call `nn.ops.softmax` of
    what is masked."""

    supports_masking = True

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(name)
        self.axis = axis

    def call(self, x: Tensor) -> Tensor:
        mask = active().time_masks.get(x.value())
        if mask is not None and mask.type.rank == x.rank:  # Keras asks for a mask that broadcasts from behind
            keep = wrap(mask)
            return ops.where(keep, ops.softmax(ops.where(keep, x, -1e9), self.axis), 0.0)
        return ops.softmax(x, self.axis)


__all__ = ["ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax", "ThresholdedReLU"]
