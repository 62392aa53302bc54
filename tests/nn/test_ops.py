"""Functions and operators on tensors, each against numpy or PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import evaluate
from rnngraph.nn import Input, Model, ops, trace
from rnngraph.nn.activations import ACTIVATIONS
from tests.nn.support import Apply, Array, checked, close, some

X = Input(("n", 6))
values = np.concatenate([some(3, 6) * 3, np.array([[0.0, -0.0, 3.0, -3.0, 20.0, -20.0]], np.float32)])
wide = values.astype(np.float64)


def result(f: Callable[[Any], Any]) -> Array:
    """f by tracing a layer; the same by composing with symbols, compared."""
    traced = evaluate(checked(trace(Apply(f), X)), {"x": values}, float64=True)["y"]
    composed = evaluate(checked(trace(Model(X, f(X)))), {"x": values}, float64=True)["y"]
    np.testing.assert_array_equal(traced, composed)
    return traced


@pytest.mark.parametrize(("f", "expected"), [
    (lambda x: 1 - x * 2 + x / 4, 1 - wide * 2 + wide / 4),
    (lambda x: 2 / (x * x + 1) - (-x), 2 / (wide * wide + 1) + wide),
    (lambda x: x**2 + ops.square(x), 2 * wide**2),
    (lambda x: ops.abs(x) ** 0.5, np.abs(wide) ** 0.5),
    (lambda x: 2.0 ** ops.minimum(x, 3.0), 2.0 ** np.minimum(wide, 3)),
    (lambda x: x @ np.ones((6, 2), np.float32), wide @ np.ones((6, 2))),
    (lambda x: x + np.arange(6, dtype=np.float32), wide + np.arange(6)),
    (lambda x: np.arange(6, dtype=np.float32) - x, np.arange(6) - wide),
    (lambda x: ops.exp(ops.clip(x, -2.0, 2.0)), np.exp(np.clip(wide, -2, 2))),
    (lambda x: ops.log(ops.abs(x) + 1.0), np.log(np.abs(wide) + 1)),
    (lambda x: ops.sqrt(ops.abs(x)) + ops.floor(x), np.sqrt(np.abs(wide)) + np.floor(wide)),
    (lambda x: ops.sign(x) + ops.erf(x * 0.0), np.sign(wide)),
    (lambda x: ops.where(x > 0, x, 7.0), np.where(wide > 0, wide, 7)),
    (lambda x: ops.where(x > 0, 1.0, 0.0), np.where(wide > 0, 1, 0)),
    (lambda x: ops.where((x >= 0) & ~(x == 3.0) | (x < -4.0), x, -x),
     np.where((wide >= 0) & ~(wide == 3) | (wide < -4), wide, -wide)),
    (lambda x: ops.cast(ops.logical_not(ops.logical_or(x <= 0, x != 3.0)), "f32"), ~((wide <= 0) | (wide != 3))),
    (lambda x: ops.cast(ops.logical_and(ops.equal(x, x), ops.not_equal(x, 3.0)), "f32"), wide != 3),
    (lambda x: ops.concat([x, ops.zeros_like(x), ops.ones_like(x)]),
     np.concatenate([wide, wide * 0, wide * 0 + 1], -1)),
    (lambda x: ops.split(x, 3)[1], wide[:, 2:4]),
    (lambda x: ops.split(x, [1, 5])[1], wide[:, 1:]),
    (lambda x: ops.split(x, [1, "n-1"], axis=0)[1], wide[1:]),
    (lambda x: ops.split(ops.concat([x, x + 1.0], axis=0), 2, axis=0)[1], wide + 1.0),
    (lambda x: x[..., 1:5:2] + x[:, -2:], wide[:, 1:5:2] + wide[:, -2:]),
    (lambda x: x[:, 2], wide[:, 2]),
    (lambda x: x[-1], wide[-1]),
    (lambda x: x - ops.mean(x, axis=-1, keepdims=True), wide - wide.mean(-1, keepdims=True)),
    (lambda x: ops.sum(x, axis=(0, 1)) + ops.sum(x), 2 * wide.sum()),
    (lambda x: ops.max(x, axis=0) - ops.min(x, axis=0, keepdims=True), (wide.max(0) - wide.min(0))[None]),
    (lambda x: ops.reshape(x, ("n", 2, 3)) * 1.0, wide.reshape(-1, 2, 3)),
    (lambda x: ops.transpose(x, (1, 0)) @ x, wide.T @ wide),
    (lambda x: ops.reverse(x, -1) + ops.linear(x), wide[:, ::-1] + wide),
    (lambda x: ops.softmax(x), np.exp(wide) / np.exp(wide).sum(-1, keepdims=True)),
    (lambda x: ops.hard_sigmoid(x), np.clip(wide / 6 + 0.5, 0, 1)),
    (lambda x: ops.hard_sigmoid_keras2(x), np.clip(wide * 0.2 + 0.5, 0, 1)),
    (lambda x: ops.leaky_relu(x), np.where(wide > 0, wide, 0.2 * wide)),
])
def test_against_numpy(f: Callable[[Any], Any], expected: Array) -> None:
    close(result(f), np.asarray(expected, np.float64), 3e-6)  # numbers such as 0.2 are float32 constants


@pytest.mark.parametrize(("name", "reference"), [
    ("elu", "elu"), ("gelu", "gelu"), ("relu", "relu"), ("relu6", "relu6"), ("selu", "selu"), ("sigmoid", "sigmoid"),
    ("silu", "silu"), ("swish", "silu"), ("softplus", "softplus"), ("softsign", "softsign"), ("tanh", "tanh"),
    ("hard_sigmoid", "hardsigmoid"),
])
def test_activations_against_torch(name: str, reference: str) -> None:
    expected = getattr(torch.nn.functional, reference)(torch.from_numpy(wide)).numpy()
    close(result(ACTIVATIONS[name]), expected, 3e-6)  # the constants of selu and gelu are float32


def test_extremes_are_finite() -> None:
    big = np.array([[1e4, -1e4, 88.0, -88.0, 0.0, 1.0]], np.float32)
    for name in ("softplus", "elu", "silu", "gelu", "softsign", "sigmoid"):
        out = evaluate(trace(Apply(ACTIVATIONS[name]), X), {"x": big})["y"]
        assert np.isfinite(out).all(), name


@pytest.mark.parametrize(("f", "error", "message"), [
    (lambda x: x + "a", TraceError, "expected a tensor, number or array, got str"),
    (lambda x: ops.cast(x, "i32") * 0.5, TraceError, r"mul: the number 0.5 does not fit i32\[n,6\]; cast the tensor"),
    (lambda x: ops.where(True, x, x), TraceError,  # type: ignore[arg-type]
     "where: expected a bool tensor as condition"),
    (lambda x: ops.where(x, x, x), TraceError, r"where: expected a bool tensor, got f32\[n,6\]"),
    (lambda x: ops.cast(x, "float32"), TraceError, "cast: expected one of f32, .* got 'float32'"),
    (lambda x: ops.split(x, [1, 2]), TraceError, r"split: sizes \[1, 2\] do not add up to axis 1"),
    (lambda x: ops.split(x, 4), ShapeError, "cannot cut dim 6 .* into 4 equal parts"),
    (lambda x: x[0.5:], TraceError, "a bound is an int or a dim such as 'time-1', got 0.5"),
    (lambda x: x[0:"n+"], ShapeError, r"an expression of identifiers such as 2\*time\+1, got 'n\+'"),
    (lambda x: ops.split(x, 2, axis=0), ShapeError, "cannot cut dim n of .* into 2 equal parts"),
    (lambda x: x[:, 6], TraceError, "index 6 does not fit an axis of size 6"),
    (lambda x: x[:, ::-1], TraceError, "the step must be an int >= 1"),
    (lambda x: x[:, :, 0], TraceError, "3 indices for"),
    (lambda x: x["a"], TraceError, "an index is a slice, an int"),
    (lambda x: ops.sum(x, axis=2), TraceError, "axis 2 does not fit"),
    (lambda x: ops.concat([]), TraceError, "expected at least one tensor"),
    (lambda x: ops.maximum(1.0, 2.0), TraceError, "expected at least one tensor"),
    (lambda x: x + ops.cast(x, "f64"), ShapeError, "one type"),
    (lambda x: float(x), TraceError, "cannot take the number of"),
])
def test_wrong_arguments(f: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        trace(Apply(f), X)


def test_a_layers_shape_error_names_it_once() -> None:
    with pytest.raises(ShapeError, match=r"^layer 'apply': shapes \[n,6\] and \[5\] do not broadcast"):
        trace(Apply(lambda x: x + np.zeros(5, np.float32)), X)


def test_repr_and_shape() -> None:
    y = X * 2.0
    assert (y.shape, y.dtype.name, y.rank, repr(y), repr(X)) == (("n", 6), "f32", 2, "<Symbol f32[n,6]>",
                                                                 "<Input x: f32[n,6]>")
