"""Models that are cut into segments, and graphs made of many moves: found by review, kept from coming back."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.ir import Array


def deviation(got: Array, want: Array) -> float:
    return float(np.abs(got - want).max(initial=0.0))


def compare(layer: Any, shape: tuple[int | str, ...], x: Array, **options: Any) -> None:
    """Native code against the float64 reference, within 1e-6 of numbers of size one."""
    got = rg.compile(rg.Sequential([layer]), rg.Input(shape), target="cpu")(x, **options)
    graph = rg.trace(rg.Sequential([layer]), rg.Input(shape), lengths="lengths" in options)
    inputs: dict[str, Array] = {"x": x}
    if "lengths" in options:
        inputs["lengths"] = np.array(options["lengths"], np.int32)
    (want,) = rg.ir.evaluate(graph, inputs, float64=True).values()
    assert isinstance(got, np.ndarray)
    assert deviation(got, want) <= 1e-6


def data(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_a_view_whose_user_stands_in_another_segment() -> None:
    text = """
graph @g(%h: f32[B,3]) {
  %s = slice %h {axis = 1, start = 0, size = 2, step = 1} : f32[B,2]
  %m = softmax %s {axis = 0} : f32[B,2]
  %y = mul %s, %m : f32[B,2]
  return y = %y
}
"""
    h = data(2, 3)
    want = rg.ir.evaluate(rg.ir.parse(text), {"h": h}, float64=True)["y"]
    assert deviation(np.asarray(rg.compile(text, target="cpu")(h)), want) <= 1e-6


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_unrolled_with_lengths(make: Any, steps: int) -> None:
    layer = make(3, unroll=True, return_sequences=True)
    start = time.perf_counter()
    compare(layer, ("b", steps, 3), data(2, steps, 3), lengths=[steps, 1])
    assert time.perf_counter() - start < 20.0  # it grew as 2^steps


@pytest.mark.parametrize("activation", ["elu", "leaky_relu", "selu", "softmax", "gelu"])
def test_activations_that_are_several_ops(activation: str) -> None:
    compare(nn.GRU(3, activation=activation, unroll=True), ("b", 2, 3), data(2, 2, 3))
    compare(nn.LSTM(4, activation=activation), ("b", "t", 3), data(2, 5, 3))
    model = rg.Sequential([nn.LSTM(4, activation=activation), nn.Dense(3, activation=activation)])
    compiled = rg.compile(model, rg.Input(("b", "t", 3)), target="cpu")
    assert {op.impl.split(".")[0] for op in compiled.program.graph.block.ops if op.impl} == {"llvm"}


def test_a_join_of_very_many_pieces_is_not_looked_through() -> None:
    lines = ["%a0 = tanh %x : f32[B,2]"]
    lines += [f"%a{i} = concat %a{i - 1}, %a{i - 1} {{axis = 1}} : f32[B,{2 ** (i + 1)}]" for i in range(1, 14)]
    text = "graph @g(%x: f32[B,2]) {\n" + "\n".join(lines) + "\n%y = tanh %a13 : f32[B,16384]\nreturn y = %y\n}"
    x = data(2, 2)
    start = time.perf_counter()
    got = np.asarray(rg.compile(text, target="cpu")(x))
    assert time.perf_counter() - start < 20.0
    assert deviation(got, np.tile(np.tanh(np.tanh(x.astype(np.float64))), (1, 8192))) <= 1e-6


def test_moves_between_ops_of_the_reference_make_no_segment_of_their_own() -> None:
    text = """
graph @g(%x: f32[B,3,4], %i: i64[N,2], %w: f32[B,4]) {
  %t = transpose %x {perm = [1, 0, 2]} : f32[3,B,4]
  %r = reverse %t {axis = 2} : f32[3,B,4]
  %g = gather_nd %r, %i {batch_dims = 0} : f32[N,4]
  %s = slice %g {axis = 1, start = 0, size = 2, step = 1} : f32[N,2]
  %k = slice %w {axis = 1, start = 0, size = 2, step = 1} : f32[B,2]
  %y = tanh %k : f32[B,2]
  return s = %s, y = %y
}
"""
    model = rg.compile(text, target="cpu")
    impls = {op.name: op.impl for op in model._program.graph.block.body if op.name not in ("slice", "return")}
    assert impls == {"transpose": "reference.op", "reverse": "reference.op", "gather_nd": "reference.op",
                     "tanh": "llvm.rows"}
    assert "moves data between ops that run there" in str(model.explain())
    x, w, index = data(2, 3, 4), data(2, 4), np.array([[0, 1], [2, 0], [-1, 1]])
    s, y = model(x, index, w)
    np.testing.assert_array_equal(s, x.transpose(1, 0, 2)[:, :, ::-1][index[:, 0], index[:, 1]][:, :2])
    assert deviation(y, np.tanh(w[:, :2])) <= 1e-6
