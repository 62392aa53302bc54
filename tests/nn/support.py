"""What the tests of rnngraph.nn share: trace, check, evaluate in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rnngraph.ir import Graph, evaluate, parse, verify
from rnngraph.ir.types import dtype_of
from rnngraph.nn import Input, Layer, Tensor, trace

Array = np.ndarray[Any, np.dtype[Any]]
B, T, I, U = 3, 5, 4, 6  # noqa: E741
X = Input(("batch", "time", I))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def some(*shape: int, seed: int = 0) -> Array:
    return rng(seed).normal(size=shape).astype(np.float32)


def randomize(layer: Layer, shape: tuple[int | str | None, ...] = (None, None, I), seed: int = 1) -> Layer:
    """Build the layer and give all its weights, biases too, random values."""
    layer.build(shape)
    layer.set_weights([some(*w.shape, seed=seed + i) * np.float32(0.5) for i, w in enumerate(layer.weights.values())])
    return layer


def checked(graph: Graph) -> Graph:
    """The graph, verified and equal to its text read back."""
    verify(graph)
    text = graph.to_text()
    assert parse(text).to_text() == text
    return graph


def outputs(model: Layer, feeds: Mapping[str, Array], inputs: Any = X, **options: Any) -> dict[str, Array]:
    """The outputs of the traced model, by name, in float64."""
    return evaluate(checked(trace(model, inputs, **options)), feeds, float64=True)


def output(model: Layer, feeds: Mapping[str, Array], inputs: Any = X, **options: Any) -> Array:
    return outputs(model, feeds, inputs, **options)["y"]


def close(got: Array, expected: Array, tolerance: float) -> None:
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=tolerance)


class Apply(Layer):
    """A function as a layer: it runs on traced tensors, not on symbols."""

    def __init__(self, f: Callable[..., Any]) -> None:
        super().__init__()
        self.f = f

    def call(self, *xs: Tensor) -> Any:
        return self.f(*xs)


def applied(f: Callable[..., Any], *arrays: Array, symbolic: bool = True, float64: bool = True) -> Any:
    """``f`` on arrays, evaluated; sizes of axes are symbols (one for each size) unless not ``symbolic``."""
    shapes = [tuple(f"n{d}" if symbolic and d > 1 else d for d in a.shape) for a in arrays]
    return applied_as(f, shapes, *arrays, float64=float64)


def applied_as(f: Callable[..., Any], shapes: Sequence[tuple[int | str, ...]], *arrays: Array,
               float64: bool = True) -> Any:
    """``f`` on arrays whose types have the given shapes: one array, or a tuple of them."""
    inputs = [Input(s, dtype=dtype_of(a), name=f"x{i}") for i, (s, a) in enumerate(zip(shapes, arrays, strict=True))]
    graph = checked(trace(Apply(f), inputs))
    got = evaluate(graph, {f"x{i}": a for i, a in enumerate(arrays)}, float64=float64)
    for value, array in zip(graph.outputs, got.values(), strict=True):
        assert float64 or array.dtype == value.type.dtype.numpy
    return tuple(got.values()) if len(got) > 1 else got["y"]
