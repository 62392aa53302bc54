"""Elementwise functions and those along an axis, against numpy; integers against Python's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import rnngraph as rg
from rnngraph.errors import InputError, ShapeError, TraceError
from rnngraph.nn import Input, ops
from tests.nn.support import Apply, Array, applied, close, some

x = np.concatenate([some(7, 5) * 2, np.array([[0.0, -0.0, 0.5, 1.5, -2.5]], np.float32)])
unit = np.tanh(x)
ints = np.array([[-7, -3, -1, 0, 1], [2, 5, 7, 9, 100]], np.int32)
divisors = np.array([[2, -2, 3, -3, 5], [-7, 4, 7, -8, 9]], np.int32)


@pytest.mark.parametrize(("f", "expected", "at"), [
    (ops.ceil, np.ceil, x), (ops.round, np.rint, x), (ops.sin, np.sin, x), (ops.cos, np.cos, x), (ops.tan, np.tan, x),
    (ops.asin, np.arcsin, unit), (ops.acos, np.arccos, unit), (ops.atan, np.arctan, x), (ops.sinh, np.sinh, x),
    (ops.cosh, np.cosh, x), (ops.asinh, np.arcsinh, x), (ops.acosh, np.arccosh, 1 + abs(x)),
    (ops.atanh, np.arctanh, unit * np.float32(0.9)),
])
def test_functions_of_one_float(f: Callable[..., Any], expected: Callable[..., Any], at: Array) -> None:
    close(applied(f, at), expected(at.astype(np.float64)), 1e-12)


def test_tests_of_floats() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], np.float32)
    assert applied(ops.isnan, odd).tolist() == [True, False, False, False, False]
    assert applied(ops.isinf, odd).tolist() == [False, True, True, False, False]


def test_remainders() -> None:
    a, b = x, some(8, 5, seed=3)
    close(applied(ops.mod, a, b), np.mod(a.astype(np.float64), b), 1e-12)
    close(applied(ops.fmod, a, b), np.fmod(a.astype(np.float64), b), 1e-12)
    assert applied(ops.mod, ints, divisors).tolist() == [[p % q for p, q in zip(r, s, strict=True)]
                                                         for r, s in zip(ints.tolist(), divisors.tolist(), strict=True)]
    assert (applied(ops.fmod, ints, divisors) == np.fmod(ints, divisors)).all()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64])
def test_integers(dtype: Any) -> None:
    a, b = np.abs(ints).astype(dtype), np.abs(divisors).astype(dtype)
    signed = np.dtype(dtype).kind == "i"
    if signed:
        a, b = ints.astype(dtype), divisors.astype(dtype)
    quotients = applied(lambda p, q: p / q, a, b, float64=False)
    assert quotients.tolist() == np.trunc(a.astype(np.float64) / b).astype(dtype).tolist()
    assert applied(lambda p, q: p / q, a, b * 0, float64=False).tolist() == (a * 0).tolist()
    assert (applied(ops.abs, a, float64=False) == np.abs(a)).all()
    assert (applied(ops.sign, a, float64=False) == np.sign(a)).all()
    assert (applied(lambda p: -p, a, float64=False) == -a).all()
    assert (applied(ops.maximum, a, b) == np.maximum(a, b)).all()
    assert (applied(lambda p: p**3, a, float64=False) == a**3).all()
    for f, g in ((ops.bitwise_and, np.bitwise_and), (ops.bitwise_or, np.bitwise_or), (ops.bitwise_xor, np.bitwise_xor)):
        assert (applied(f, a, b) == g(a, b)).all()
    assert (applied(ops.bitwise_not, a) == ~a).all()
    places = np.array([[0, 1, 2, 3, 4], [5, 6, 7, 1, 0]], dtype)
    assert (applied(ops.shift_left, a, places, float64=False) == a << places).all()
    assert (applied(ops.shift_right, a, places, float64=False) == a >> places).all()
    far = np.full_like(a, 100)
    assert not applied(ops.shift_left, a, far, float64=False).any()
    assert (applied(ops.shift_right, a, far, float64=False) == (a >> (np.dtype(dtype).itemsize * 8 - 1)
                                                               if signed else 0)).all()


def test_integers_to_negative_powers() -> None:
    base, exponent = np.array([2, 1, -1, -1, 0], np.int64), np.array([-1, -5, -3, -4, -1], np.int64)
    assert applied(lambda p, q: p**q, base, exponent).tolist() == [0, 1, -1, 1, 0]


def test_exclusive_or() -> None:
    p, q = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert applied(ops.logical_xor, p, q).tolist() == [False, True, True, False]


def test_integer_functions_refuse_floats() -> None:
    with pytest.raises(ShapeError, match="bit_and: operand 0 must be an integer tensor, got f32"):
        ops.bitwise_and(Input((3,)), Input((3,), name="y"))
    with pytest.raises(ShapeError, match="neg: operand 0 must be a tensor of numbers, got bool"):
        -Input((3,), dtype="bool")


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_reductions(axis: int, dtype: Any) -> None:
    a = (x * 2).astype(dtype)
    for f, g in ((ops.sum, np.sum), (ops.prod, np.prod), (ops.max, np.max), (ops.min, np.min)):
        got = applied(lambda t, f=f: f(t, axis), a)
        np.testing.assert_allclose(got, g(a.astype(np.float64), axis=axis), rtol=1e-12)
    assert (applied(lambda t: ops.any(t > 1, axis), a) == (a > 1).any(axis)).all()
    assert (applied(lambda t: ops.all(t > -1, axis, keepdims=True), a) == (a > -1).all(axis, keepdims=True)).all()


def test_integer_reductions_over_nothing() -> None:
    nothing = np.zeros((3, 0), np.int32)
    assert applied(lambda t: ops.max(t, 1), nothing).tolist() == [-(2**31)] * 3
    assert applied(lambda t: ops.prod(t, 1), nothing).tolist() == [1] * 3


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("last", [False, True])
def test_places_of_extremes(axis: int, last: bool) -> None:
    a = np.round(x)  # with ties
    for f, g in ((ops.arg_largest, np.argmax), (ops.argmin, np.argmin)):
        expected = a.shape[axis] - 1 - g(np.flip(a, axis), axis) if last else g(a, axis)
        assert applied(lambda t, f=f: f(t, axis, last=last), a).tolist() == expected.tolist()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("largest", [False, True])
def test_top_k(axis: int, largest: bool) -> None:
    a = np.round(some(6, 7))  # with ties
    values, indices = applied(lambda t: ops.top_k(t, 4, axis, largest=largest), a)
    expected, _ = torch.topk(torch.from_numpy(a), 4, axis, largest)
    assert (values == expected.numpy()).all()
    assert (np.take_along_axis(a, indices, axis) == values).all()
    tied = np.diff(values, axis=axis) == 0
    assert (np.diff(indices, axis=axis)[tied] > 0).all()  # of equals the first comes first


def test_top_k_of_integers_and_of_all() -> None:
    a = np.array([[3, -(2**63), 2**63 - 1, 3]], np.int64)
    values, indices = applied(lambda t: ops.top_k(t, t.shape[1]), a)
    assert values.tolist() == [[2**63 - 1, 3, 3, -(2**63)]]
    assert indices.tolist() == [[2, 0, 3, 1]]


def test_top_k_with_a_wrong_k() -> None:
    with pytest.raises(ShapeError, match=r"top_k: k must be in 0..3, the size of axis 0 of f32\[3\], got 4"):
        ops.top_k(Input((3,)), 4)
    compiled = rg.compile(Apply(lambda t: ops.top_k(t, 4, 0)[0]), Input(("n",)))
    with pytest.raises(InputError, match="top_k: k must be at most 3, the size of axis 0, got 4"):
        compiled(np.zeros(3, np.float32))


@pytest.mark.parametrize("axis", [0, 1])
def test_cumulative_sums(axis: int) -> None:
    a = x.astype(np.float64)
    close(applied(lambda t: ops.cumsum(t, axis), x), a.cumsum(axis), 1e-12)
    close(applied(lambda t: ops.cumsum(t, axis, reverse=True), x), np.flip(np.flip(a, axis).cumsum(axis), axis), 1e-12)
    close(applied(lambda t: ops.cumsum(t, axis, exclusive=True), x), a.cumsum(axis) - a, 1e-12)
    close(applied(lambda t: ops.cumsum(t, axis, exclusive=True, reverse=True), x),
          np.flip(np.flip(a, axis).cumsum(axis), axis) - a, 1e-12)
    assert applied(lambda t: ops.cumsum(t, exclusive=True), np.zeros((2, 0), np.float32)).shape == (2, 0)


def test_axes_that_do_not_exist() -> None:
    with pytest.raises(TraceError, match=r"cumsum: axis 2 does not fit f32\[3\] of rank 1"):
        ops.cumsum(Input((3,)), 2)
    with pytest.raises(ShapeError, match=r"argmin: axis 0 of f32\[0\] has no elements"):
        ops.argmin(Input((0,)))
