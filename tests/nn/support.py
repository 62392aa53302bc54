"""What the tests of rnngraph.nn share: trace, check, evaluate in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnngraph.ir import Graph, evaluate, parse, verify
from rnngraph.nn import Input, Layer, trace

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
