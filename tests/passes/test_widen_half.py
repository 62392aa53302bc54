"""widen-half: f16 is computed in f32 where there are products or loops; what is f16 outside stays it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph.ir import Array
from tests.frontends.onnx_graphs import model, runtime
from tests.testing import assert_keeps_numbers, assert_rewrites


def test_products_and_what_is_around_them() -> None:
    before = """graph @g(%x: f16[B,3], %h: f32[B,3]) {
        %w = const [1.0, 2.0, 3.0, 4.0, 0.5, 0.25] : f16[3,2]
        %n = cast %h {dtype = f16} : f16[B,3]
        %s = add %x, %n : f16[B,3]
        %m = matmul %s, %w : f16[B,2]
        %a = cast %m {dtype = f32} : f32[B,2]
        return y = %m, n = %n, a = %a
    }"""
    assert_rewrites(before, "widen-half", """graph @g(%x: f16[B,3], %h: f32[B,3]) {
        %x32 = cast %x {dtype = f32} : f32[B,3]
        %w = const [1.0, 2.0, 3.0, 4.0, 0.5, 0.25] : f32[3,2]
        %n = cast %h {dtype = f16} : f16[B,3]
        %n32 = cast %n {dtype = f32} : f32[B,3]
        %s = add %x32, %n32 : f32[B,3]
        %m = matmul %s, %w : f32[B,2]
        %y = cast %m {dtype = f16} : f16[B,2]
        %n16 = cast %n32 {dtype = f16} : f16[B,3]
        return y = %y, n = %n16, a = %m
    }""", remarks=["applied: widen-half: f16 is computed in f32: 1 products and loops"])
    assert_keeps_numbers(before, "widen-half", rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("text", [
    "graph @g(%x: f16[B,3]) { %y = tanh %x : f16[B,3]  return y = %y }",
    "graph @g(%x: f32[B,3], %w: f32[3,2]) { %y = matmul %x, %w : f32[B,2]  return y = %y }",
])
def test_stays(text: str) -> None:
    assert_rewrites(text, "widen-half", None, remarks=[])


def _half_lstm(rng: np.random.Generator) -> tuple[onnx.ModelProto, Array]:
    """An LSTM between two casts, as converters of whole models write it, and a product."""
    def weights(*shape: int) -> Array:
        return (0.3 * rng.standard_normal(shape)).astype(np.float16)

    nodes = [helper.make_node("MatMul", ["x", "e"], ["p"]), helper.make_node("LSTM", ["p", "w", "r", "b"], ["y"],
                                                                           hidden_size=8, direction="bidirectional")]
    constants = {"e": weights(3, 5), "w": weights(2, 32, 5), "r": weights(2, 32, 8), "b": weights(2, 64)}
    made = model(nodes, [helper.make_tensor_value_info("x", 10, ("time", "batch", 3))],
                 [helper.make_tensor_value_info("y", 10, None)], constants)
    return made, rng.standard_normal((9, 2, 3)).astype(np.float16)


def test_an_lstm_of_f16_is_one_native_node() -> None:
    made, x = _half_lstm(np.random.default_rng(0))
    compiled = rg.compile(made)
    got = np.asarray(compiled(x))
    wide = onnx.ModelProto()
    wide.CopyFrom(made)  # the same network in f32, to which f16 is near
    for t in wide.graph.initializer:
        t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(t).astype(np.float32), t.name))
    del wide.graph.value_info[:]
    for v in (*wide.graph.input, *wide.graph.output):
        v.type.tensor_type.elem_type = 1
    (want,) = runtime(wide, {"x": x.astype(np.float32)})
    assert got.dtype == np.float16
    np.testing.assert_allclose(got.astype(np.float32), want, rtol=0, atol=2**-11)  # half a unit below 1
    (found,) = rg.recurrences(made)
    assert (found.kind, found.direction, found.native) == ("rnn", "bidirectional", True)
