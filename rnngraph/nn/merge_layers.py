"""Layers of several inputs: Add, Subtract, Multiply, Average, Maximum, Minimum, Concatenate, Dot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Value
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.layer import Layer
from rnngraph.nn.tensor import Tensor, wrap


class Merge(Layer, ABC):
    """Base of the layers that take a list of tensors; the output's mask is made of theirs (Keras)."""

    least = 1

    def call(self, xs: Sequence[Tensor]) -> Tensor:
        if not isinstance(xs, list | tuple) or len(xs) < self.least or not all(isinstance(x, Tensor) for x in xs):
            raise ShapeError(f"expected a list of {self.least} or more tensors, got {xs!r}")
        rank = max(x.rank for x in xs)
        return self.merge([ops.reshape(x, (x.shape[0], *[1] * (rank - x.rank), *x.shape[1:])) for x in xs])

    @abstractmethod
    def merge(self, xs: Sequence[Tensor]) -> Tensor:
        """The output, of inputs of one rank."""

    def pass_mask(self, inputs: Sequence[Tensor], result: Any) -> None:
        masks = [active().time_masks.get(x.value()) for x in inputs]
        mask = self.merged_mask(inputs, masks)
        if mask is not None:
            active().time_masks[result.value()] = mask.value()

    def merged_mask(self, xs: Sequence[Tensor], masks: Sequence[Value | None]) -> Tensor | None:
        """Where any of the inputs counts; none unless all of them have a mask."""
        known = [wrap(m) for m in masks if m is not None]
        return _any_of(known) if known and len(known) == len(masks) else None


def _any_of(masks: Sequence[Tensor]) -> Tensor:
    return _folded(ops.logical_or, list({m.value(): m for m in masks}.values()))


class Add(Merge):
    """The sum of a list of tensors that broadcast (Keras).

    Example:
        >>> from rnngraph.nn import Add, Input, Model, trace
        >>> x, y = Input(("batch", 4), name="x"), Input(("batch", 4), name="y")
        >>> trace(Model([x, y], Add()([x, y]))).outputs[0].shape
        ('batch', 4)
    """

    def merge(self, xs: Sequence[Tensor]) -> Tensor:
        return _folded(lambda a, b: a + b, xs)


class Subtract(Merge):
    """The first tensor less the second (Keras)."""

    least = 2

    def merge(self, xs: Sequence[Tensor]) -> Tensor:
        if len(xs) != 2:
            raise ShapeError(f"expected 2 tensors, got {len(xs)}")
        return xs[0] - xs[1]


class Multiply(Merge):
    """The product of a list of tensors that broadcast, element by element (Keras)."""

    def merge(self, xs: Sequence[Tensor]) -> Tensor:
        return _folded(lambda a, b: a * b, xs)


class Average(Merge):
    """The mean of a list of tensors that broadcast, element by element (Keras)."""

    def merge(self, xs: Sequence[Tensor]) -> Tensor:
        return _folded(lambda a, b: a + b, xs) * (1.0 / len(xs))


class Maximum(Merge):
    """The largest of a list of tensors that broadcast, element by element (Keras)."""

    def merge(self, xs: Sequence[Tensor]) -> Tensor:
        return _folded(ops.maximum, xs)


class Minimum(Merge):
    """The smallest of a list of tensors that broadcast, element by element (Keras)."""

    def merge(self, xs: Sequence[Tensor]) -> Tensor:
        return _folded(ops.minimum, xs)


def _folded(f: Callable[[Tensor, Tensor], Tensor], xs: Sequence[Tensor]) -> Tensor:
    out = xs[0]
    for x in xs[1:]:
        out = f(out, x)
    return out


class Concatenate(Merge):
    """Tensors joined along ``axis`` (Keras; default -1).

    Of inputs that have masks, the output's counts a step where any of them does: ``masks="any"``, as in Keras 3. Keras
    2 wants all of them: "all". Joined along time, the masks are joined too; an input without one counts everywhere.
    """

    def __init__(self, axis: int = -1, masks: str = "any", name: str | None = None) -> None:
        super().__init__(name)
        if masks not in ("any", "all"):
            raise TraceError(f"layer {self.path!r}: masks must be 'any' or 'all', got {masks!r}")
        self.axis = axis
        self.masks = masks

    def call(self, xs: Sequence[Tensor]) -> Tensor:
        if not isinstance(xs, list | tuple) or not xs or not all(isinstance(x, Tensor) for x in xs):
            raise ShapeError(f"expected a list of tensors, got {xs!r}")
        return self.merge(xs)

    def merge(self, xs: Sequence[Tensor]) -> Tensor:
        return ops.concat(list(xs), axis=self.axis)

    def merged_mask(self, xs: Sequence[Tensor], masks: Sequence[Value | None]) -> Tensor | None:
        known = [wrap(m) for m in masks if m is not None]
        if not known:
            return None
        if self.axis % xs[0].rank == 1 and xs[0].rank > 2:
            return ops.concat([_everywhere(x) if m is None else wrap(m) for x, m in zip(xs, masks, strict=True)], 1)
        if self.masks == "any":
            return _any_of(known) if len(known) == len(masks) else None
        return _folded(ops.logical_and, list({m.value(): m for m in known}.values()))


def _everywhere(x: Tensor) -> Tensor:
    first = x[(slice(None), slice(None), *[0] * (x.rank - 2))]
    return ops.ones_like(ops.cast(first, "f32")) > 0.5


class Dot(Merge):
    """The sum of products along an axis of each of two tensors, row by row of the batch (Keras).

    axes       the axis of both, or a pair; none is the batch
    normalize  divide by the Euclidean norms along the axes first: the cosine

    Returns [batch, the first's other axes, the second's other axes], at least [batch, 1].

    Example:
        >>> from rnngraph.nn import Dot, Input, Model, trace
        >>> q, k = Input(("batch", 5, 4), name="q"), Input(("batch", "time", 4), name="k")
        >>> trace(Model([q, k], Dot(axes=2)([q, k]))).outputs[0].shape
        ('batch', 5, 'time')
    """

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.axes = (axes, axes) if isinstance(axes, int) else tuple(axes)
        self.normalize = normalize
        if len(self.axes) != 2 or 0 in self.axes:
            raise TraceError(f"layer {self.path!r}: axes must be an axis behind the batch, or two, got {axes!r}")

    def call(self, xs: Sequence[Tensor]) -> Tensor:
        if not isinstance(xs, list | tuple) or len(xs) != 2:
            raise ShapeError(f"expected a list of 2 tensors, got {xs!r}")
        return self.merge(xs)

    def merge(self, xs: Sequence[Tensor]) -> Tensor:
        terms, labels = [], []
        for x, axis, names in zip(xs, self.axes, ("cdefgh", "ijklmn"), strict=True):
            if not -x.rank < axis < x.rank or x.rank > 1 + len(names):
                raise ShapeError(f"axis {axis} does not fit {x.type}")
            own = ["b", *names[: x.rank - 1]]
            own[axis] = "z"
            if self.normalize:
                x = x / ops.sqrt(ops.maximum(ops.sum(x * x, axis, keepdims=True), 1e-12))
            terms.append(x)
            labels.append("".join(own))
        kept = "b" + "".join(c for part in labels for c in part if c not in "bz")
        y = ops.einsum(f"{labels[0]},{labels[1]}->{kept}", *terms)
        return ops.reshape(y, (y.shape[0], 1)) if y.rank == 1 else y

    def merged_mask(self, xs: Sequence[Tensor], masks: Sequence[Value | None]) -> Tensor | None:
        return None


__all__ = ["Add", "Average", "Concatenate", "Dot", "Maximum", "Merge", "Minimum", "Multiply", "Subtract"]
