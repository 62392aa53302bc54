"""Typing rules, text and evaluation on computed sizes, against numpy on the sizes that come out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnngraph.errors import InputError, IRError, ParseError, ShapeError
from rnngraph.ir import F32, Array, Dim, Shape, TensorType, Value, build_graph, evaluate, grid_ops, ops, parse, verify
from rnngraph.ir.builder import Builder, broadcast_shapes
from rnngraph.ir.sizes import expressions, sizes_for
from rnngraph.nn import Input, Layer, Tensor, trace


def run(shape: Shape, body: Callable[[Builder, Value], Value], array: Array) -> tuple[TensorType, Array]:
    """The type and the value of ``body(builder, x)`` for x of ``shape``; the graph's text parses back to it."""
    graph = build_graph({"x": TensorType(F32, shape)}, lambda b, v: {"y": body(b, v["x"])})
    verify(graph)
    assert parse(graph.to_text()).to_text() == graph.to_text()
    got = evaluate(graph, {"x": array})["y"]
    return graph.outputs[0].type, got


def numbers(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@given(st.integers(2, 9), st.integers(-4, 4), st.integers(1, 3), st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_slices_of_a_symbolic_axis(time: int, start: int, step: int, cut: int) -> None:
    """From ``start`` to ``cut`` before the end; what does not fit is an InputError."""
    class Cut(Layer):
        def call(self, x: Tensor) -> Tensor:
            return x[:, start : -cut if cut else None : step]

    x = numbers(2, time)
    graph = trace(Cut(), Input(("batch", "time")))
    low = start if start >= 0 else time + start
    fits = low >= 0 and low <= time - cut
    if fits:
        np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], x[:, low : time - cut : step])
    elif low < 0 or (start >= 0 and low - (time - cut) >= step):
        with pytest.raises(InputError):
            evaluate(graph, {"x": x})


def test_reshape_compares_products() -> None:
    x = numbers(2, 3, 8)
    t, y = run(("B", "T", 8), lambda b, v: b.reshape(v, ("B*T", 8)), x)
    assert str(t) == "f32[B*T,8]"
    np.testing.assert_array_equal(y, x.reshape(6, 8))
    t, y = run(("B", "T", 8), lambda b, v: b.reshape(b.reshape(v, ("B", "2*T", 4)), ("8*B*T",)), x)
    np.testing.assert_array_equal(y, x.reshape(-1))
    with pytest.raises(ShapeError, match=r"cannot turn f32\[B,T,8\] into \[B\*T,9\]: sizes differ"):
        run(("B", "T", 8), lambda b, v: b.reshape(v, ("B*T", 9)), x)


def test_concat_adds_symbolic_dims() -> None:
    x = numbers(3, 4)
    t, y = run(("T", 4), lambda b, v: b.concat([v, b.zeros(TensorType(F32, (2, 4))), b.slice(v, 0, 1, "T-1")], 0), x)
    assert t.shape == ("2*T+1", 4)
    np.testing.assert_array_equal(y, np.concatenate([x, np.zeros((2, 4)), x[1:]]))


def test_starts_may_be_computed() -> None:
    x = numbers(7, 2)
    t, y = run(("T", 2), lambda b, v: b.slice(v, 0, "T//2", "(T+1)//2"), x)
    np.testing.assert_array_equal(y, x[3:])
    assert t.shape == ("(T+1)//2", 2)
    with pytest.raises(ShapeError, match="do not fit dim T"):
        run(("T", 2), lambda b, v: b.slice(v, 0, "S", "T-S+1"), x)
    with pytest.raises(ShapeError, match="start T-3, size 5, step 1 do not fit dim T"):
        run(("T", 2), lambda b, v: b.slice(v, 0, "T-3", 5), x)
    with pytest.raises(InputError, match="slice: start T//2, size 5 do not fit axis 0 of size 7"):
        run(("T", 2), lambda b, v: b.slice(v, 0, "T//2", 5), x)


def test_pad_and_broadcast() -> None:
    x = numbers(3, 2)
    t, y = run(("T", 2), lambda b, v: b.op(grid_ops.PAD, v, attrs=grid_ops.PadAttrs((1, 0), ("T", 3))), x)
    assert t.shape == ("2*T+1", 5)
    np.testing.assert_array_equal(y, np.pad(x, ((1, 3), (0, 3))))
    t, y = run(("T", 2), lambda b, v: b.broadcast(v, ("T+2", "T", 2), (1, 2)), x)
    np.testing.assert_array_equal(y, np.broadcast_to(x, (5, 3, 2)))
    assert broadcast_shapes([("B*T", 1), (4,)]) == ("B*T", 4)
    with pytest.raises(ShapeError, match="do not broadcast"):
        broadcast_shapes([("T+1",), ("T",)])


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3), st.integers(1, 3),
       st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_conv_sizes_are_those_of_numpy(time: int, stride: int, low: int, high: int, dilation: int, size: int) -> None:
    kernel = numbers(size, 2, 3)
    x = numbers(2, time, 2)

    def body(b: Builder, v: Value) -> Value:
        return b.op(grid_ops.CONV, v, b.const(kernel),
                    attrs=grid_ops.ConvAttrs((stride,), (low,), (high,), (dilation,)))

    window = dilation * (size - 1) + 1
    if (time + low + high - window) // stride + 1 < 0:
        with pytest.raises(InputError, match="give longer inputs"):
            run(("B", "T", 2), body, x)
        return
    _, y = run(("B", "T", 2), body, x)
    padded = np.pad(x, ((0, 0), (low, high), (0, 0)))
    places = range(0, time + low + high - window + 1, stride)
    want = np.array([[sum(row[t + k * dilation] @ kernel[k] for k in range(size)) for t in places] for row in padded])
    np.testing.assert_allclose(y, want.reshape(2, len(places), 3), rtol=1e-5, atol=1e-5)


def test_scans_run_over_computed_steps() -> None:
    text = """graph @g(%x: f32[T,2]) {
      %s = slice %x {axis = 0, start = 1, size = "T-1", step = 1} : f32[T-1,2]
      %h0 = const [0.0, 0.0] : f32[2]
      %h, %y = scan carry(h = %h0) over(x = %s) {steps = "T-1"} {
      ^(%c: f32[2], %xt: f32[2]):
        %n = add %c, %xt : f32[2]
        yield carry(h = %n) emit(y = %n)
      } : f32[2], f32[T-1,2]
      return y = %y, h = %h
    }"""
    graph = parse(text)
    assert parse(graph.to_text()).to_text() == graph.to_text()
    x = numbers(5, 2)
    got = evaluate(graph, {"x": x})
    np.testing.assert_allclose(got["y"], np.cumsum(x[1:], 0), rtol=1e-6)


@pytest.mark.parametrize(("text", "message"), [
    ("f32[T+0]", "the size T+0 is spelled T"), ("f32[1+T]", "the size 1+T is spelled T+1"),
    ("f32[T+]", "expected a dim"), ("f32[T 2]", "expected ','"), ("f32[S//T]", "expected"),
    ("f32[(T+1]", "expected a dim"), ("f32[T**2]", "expected a dim"), ("f32[T-T]", "expected a dim"),
])
def test_text_has_one_spelling(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message.replace("+", r"\+").replace("*", r"\*")):
        parse(f"graph @g(%x: f32[T], %y: {text}) {{ return }}")


def test_divisions_in_text_are_no_comments() -> None:
    graph = parse("graph @g(%t: f32[T], %x: f32[(T+1)//2]) { // a comment\n return y = %x // one more\n}")
    assert graph.outputs[0].shape == ("(T+1)//2",)


def test_computed_dims_of_inputs_are_checked() -> None:
    graph = parse("graph @g(%x: f32[T], %y: f32[2*T+1]) { return y = %y }")
    x, y = numbers(3), numbers(7)
    np.testing.assert_array_equal(evaluate(graph, {"x": x, "y": y})["y"], y)
    with pytest.raises(InputError, match=r"input 'y': dim 2\*T\+1 is 7, expected 9 for T = 4 \(input 'x'\)"):
        evaluate(graph, {"x": numbers(4), "y": y})
    unbound = parse("graph @g(%y: f32[2*T+1]) { return y = %y }")
    with pytest.raises(IRError, match=r"computes the size 2\*T\+1, but 'T' is a dim of no input"):
        verify(unbound)


def test_what_a_graph_computes() -> None:
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        inner: Dim = "T-3"
        return {"y": b.slice(b.reshape(v["x"], ("B*T",)), 0, 4, 2), "z": b.slice(v["x"], 1, 1, inner)}

    graph = build_graph({"x": TensorType(F32, ("B", "T"))}, body)
    assert set(expressions(graph)) == {"B*T", "T-3"}
    assert graph.symbols() == ["B", "T"]
    found = sizes_for(graph, {"B": 1, "T": 1}, {"B": 1})
    assert found["B"] == 1
    assert found["T"] >= 6
    evaluate(graph, {"x": numbers(found["B"], found["T"])})
    assert ops.SLICE.name == "slice"


def test_iota_refuses_what_does_not_fit() -> None:
    graph = parse('graph @g(%x: f32[T]) { %i = iota {size = "100*T", dtype = u8} : u8[100*T] return y = %i }')
    assert evaluate(graph, {"x": numbers(2)})["y"].dtype == np.uint8
    with pytest.raises(InputError, match="iota: 299 does not fit u8"):
        evaluate(graph, {"x": numbers(3)})


@pytest.mark.parametrize("name", ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"])
def test_integer_dtypes(name: str) -> None:
    dtype = np.dtype({"i": "int", "u": "uint"}[name[0]] + name[1:])
    info = np.iinfo(dtype)
    graph = parse(f"graph @g(%x: {name}[N]) {{ %c = const [{info.min}, {info.max}] : {name}[2]\n"
                  f"%s = slice %c {{axis = 0, start = 0, size = 1}} : {name}[1]\n"
                  f"%b = concat %x, %s {{axis = 0}} : {name}[N+1]\n"
                  f"%g = lt %b, %b : bool[N+1]  %f = cast %b {{dtype = f64}} : f64[N+1]  return y = %b, f = %f }}")
    assert parse(graph.to_text()).to_text() == graph.to_text()
    got = evaluate(graph, {"x": np.array([info.max, 0], dtype)})
    assert got["y"].dtype == dtype
    np.testing.assert_array_equal(got["y"], np.array([info.max, 0, info.min], dtype))
    np.testing.assert_array_equal(got["f"], [float(info.max), 0.0, float(info.min)])
