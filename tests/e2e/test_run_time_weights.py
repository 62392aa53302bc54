"""Kernels and vectors that come in as inputs, in any layout: what native loops read they copy whole, or leave alone."""

from __future__ import annotations

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.ir import BF16, Literal, evaluate, parse
from rnngraph.nn import Input, ops, trace
from tests.nn.support import Apply, close, some


@pytest.mark.parametrize(("shape", "kernel", "groups"), [
    ((1, 5, 5, 1), (3, 3, 1, 1), 1), ((2, 5, 5, 3), (3, 3, 3, 2), 1), ((2, 8, 4), (3, 1, 4), 4),
    ((2, 8, 4), (3, 2, 6), 2),
])
def test_convolution_by_an_input(shape: tuple[int, ...], kernel: tuple[int, ...], groups: int) -> None:
    model = Apply(lambda t, k: ops.conv(t, k, groups=groups))
    inputs = (Input(shape), Input(kernel, name="k"))
    x, k = some(*shape), some(*kernel, seed=1)
    want = evaluate(trace(model, inputs), {"x": x, "k": k}, float64=True)["y"]
    close(np.asarray(rg.compile(model, inputs)(x, k)), want, 1e-5)


def test_shifted_rows_wait_for_the_loop_that_reads_them() -> None:
    """A depthwise kernel that the reference turns around: the loops come behind it, the padding in front."""
    model = Apply(lambda t, k: ops.conv_transpose(t, k, groups=2))
    inputs = (Input((3, 4, 4, 2)), Input((3, 3, 1, 2), name="k"))
    x, k = some(3, 4, 4, 2), some(3, 3, 1, 2, seed=1)
    want = evaluate(trace(model, inputs), {"x": x, "k": k}, float64=True)["y"]
    close(np.asarray(rg.compile(model, inputs)(x, k)), want, 1e-5)


def test_a_vector_whose_lanes_are_apart() -> None:
    """A row of a transposed input, for more rows than the first dim has lanes."""
    graph = parse("""graph @g(%x: f32[2,11,4], %w: f32[4,4]) {
      %t = transpose %w {perm = [1, 0]} : f32[4,4]
      %s = slice %t {axis = 0, start = 1, size = 1, step = 1} : f32[1,4]
      %v = reshape %s {shape = [4]} : f32[4]
      %b = broadcast %v {shape = [2, 11, 4], axes = [2]} : f32[2,11,4]
      %y = mul %x, %b : f32[2,11,4]
      return y = %y }""")
    x, w = some(2, 11, 4), some(4, 4, seed=1)
    np.testing.assert_array_equal(rg.compile(graph)(x, w), x * w[:, 1])


def test_windows_of_one_lane() -> None:
    """numpy takes a transposed axis of size 1 for contiguous, whatever its stride is."""
    graph = parse("""graph @g(%x: f64[1,1,3,3]) {
      %t = transpose %x {perm = [0, 2, 3, 1]} : f64[1,3,3,1]
      %y = windows %t {size = 2, stride = 1} : f64[1,3,2,2]
      return y = %y }""")
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    want = np.lib.stride_tricks.sliding_window_view(x[:, 0], 2, -1)
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], want)


def test_bf16_scalars_stay_scalars() -> None:
    assert Literal(np.array(1.00390625, np.float32), BF16).type.shape == ()
