"""Models, options and IR text that cannot be compiled: a clear error, naming the layer or op, expected and got."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import backends
from rnngraph.backends.registry import Device, Registry
from rnngraph.errors import (
    CompileError,
    ImportModelError,
    ParseError,
    RnngraphError,
    SelectionError,
    ShapeError,
    TraceError,
)
from rnngraph.ir import evaluate
from rnngraph.nn import GRU, LSTM, RNN, Bidirectional, Cell, ops

INPUTS = rg.Input(("batch", "time", 5))
X = np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)


def stack() -> rg.Sequential:
    return rg.Sequential([LSTM(4, return_sequences=True, name="low"), GRU(3, return_state=True, name="high")])


def raises(error: type[Exception], message: str) -> Any:
    return pytest.raises(error, match=re.escape(message))


class Grows(Cell):
    def step(self, x: Any, h: Any) -> Any:
        return h, ops.concat([h, h])


class Casts(Cell):
    def step(self, x: Any, h: Any) -> Any:
        return h, ops.cast(h, "i32")


class Forgets(Cell):
    def step(self, x: Any, h: Any) -> Any:
        return h


class Branches(Cell):
    def step(self, x: Any, h: Any) -> Any:
        return (h, h) if h > 0 else (x, h)


class Mismatch(Cell):
    def build(self, n: int) -> None:
        self.W = self.add_weight("W", (n + 1, 4))

    def step(self, x: Any, h: Any) -> Any:
        return x @ self.W, h


@pytest.mark.parametrize(("cell", "error", "message"), [
    (Grows, TraceError, "cell Grows: state 'h' enters a step as f32[batch,4] and leaves it as f32[batch,8]"),
    (Casts, TraceError, "cell Casts: state 'h' enters a step as f32[batch,4] and leaves it as i32[batch,4]"),
    (Forgets, TraceError, "cell Forgets: step must return (y, new_state) with a tensor y, got a tensor f32[batch,4]"),
    (Branches, TraceError, "cell Branches: cannot take the truth value of the traced <Traced bool[batch,4]>"),
    (Mismatch, ShapeError, "cell Mismatch: matmul: inner dims differ: f32[batch,5] has 5, f32[6,4] has 6"),
])
def test_cells_that_break_the_contract(cell: type[Cell], error: type[RnngraphError], message: str) -> None:
    with raises(error, f"layer 'mine': {message}"):
        rg.compile(RNN(cell(4), name="mine"), INPUTS, target="cpu")


@pytest.mark.parametrize(("given", "error", "message"), [
    (rg.Input(("batch", 5)), ShapeError,
     "layer 'l': expected an input of rank 3, [batch, time, features], got f32[batch,5]"),
    (rg.Input(("batch", "time", "n")), ShapeError, "layer 'l': expected an integer number of features"),
    (rg.Input(("batch", "time", 5), "i32"), ShapeError, "layer 'l': expected a float input, got i32[batch,time,5]"),
    (rg.Input(("batch", "time", 5), "f64"), ShapeError, "got f64[batch,5] and f32[5,4]"),
    (None, TraceError, "expected an Input or a tuple of them"), (3, TraceError, "expected an Input or a tuple of them"),
])
def test_inputs_that_a_layer_does_not_take(given: Any, error: type[RnngraphError], message: str) -> None:
    with raises(error, message):
        rg.compile(LSTM(4, name="l"), given, target="cpu")


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: rg.Sequential(None), TraceError, "Sequential: expected a list of layers, got None"),  # type: ignore[arg-type]
    (lambda: rg.Input(3), TraceError, "expected a shape such as"),  # type: ignore[arg-type]
    (lambda: rg.Input(("batch", -1)), ShapeError, "a dim is in 0..2**48, got -1"),
    (lambda: rg.Input(("b",), name="a b"), TraceError, "an Input's name is made of letters, digits"),
    (lambda: LSTM(0), ShapeError, "units must be an int >= 1, got 0"),
    (lambda: LSTM("4"), ShapeError, "units must be an int >= 1, got '4'"),  # type: ignore[arg-type]
    (lambda: LSTM(4, name=3), TraceError, "a layer's name is made of"),  # type: ignore[arg-type]
    (lambda: LSTM(4, activation="soft"), TraceError, "unknown activation 'soft'"),
    (lambda: LSTM(4, dropout=2), TraceError, "dropout must be in 0..1, got 2"),
    (lambda: Bidirectional(LSTM(4), merge_mode="max"), TraceError, "merge_mode must be one of"),
])
def test_arguments_of_layers(make: Callable[[], object], error: type[RnngraphError], message: str) -> None:
    with raises(error, message):
        make()


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"threads": 0}, CompileError, "threads must be a whole number >= 1 or None, got 0"),
    ({"threads": "2"}, CompileError, "threads must be a whole number >= 1 or None, got '2'"),
    ({"threads": 10**9}, CompileError, "threads must be at most 1024, got 1000000000"),
    ({"threads": True}, CompileError, "threads must be a whole number >= 1 or None, got True"),
    ({"target": "tpu"}, CompileError, "target 'tpu' is not available; choose from cpu, gpu, auto"),
    ({"target": ["cpu"]}, CompileError, "target ['cpu'] is not available"),
    ({"precision": "f16"}, CompileError, "precision 'f16' is not available; choose from f32, tf32, bf16"),
    ({"verify": True}, CompileError, "verify True is not available; choose from None, each, numeric"),
    ({"seed": "a"}, CompileError, "seed must be a whole number >= 0, got 'a'"),
    ({"dims": {"batch": "2"}}, CompileError, "dims gives sizes >= 0 by symbol, got {'batch': '2'}"),
    ({"dims": 5}, CompileError, "dims gives sizes >= 0 by symbol, got 5"),
    ({"pipeline": 3}, CompileError, "pipeline must be a name of rnngraph.passes.PIPELINES"),
    ({"pipeline": "canonicalize,polish"}, ParseError, "unknown pass 'polish'; the passes are canonicalize, "),
    ({"pipeline": "dce{deep=true}"}, ParseError, "pass dce has no option 'deep'"),
    ({"pipeline": "canonicalize,dce"}, CompileError,
     "of layer 'low' has no implementation; a pipeline must end with select-implementation"),
    ({"pipeline": "select-implementation"}, CompileError, "a pipeline for the cpu ends with "
                                                          "select-implementation,schedule-phases,plan-memory"),
])
def test_options_of_compile(options: dict[str, Any], error: type[RnngraphError], message: str) -> None:
    with raises(error, message):
        rg.compile(stack(), INPUTS, **{"target": "cpu", **options})


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Device("gpu", "none", present=False, missing={"gpu": "no driver"})
    registry = Registry([i for n in backends.BACKENDS for i in backends.load(n).implementations()],
                        devices={"gpu": lambda: absent})
    monkeypatch.setattr(backends, "default_registry", lambda **_: registry)
    layers = rg.Sequential([GRU(4, return_sequences=True, name="low"), GRU(4, name="high")])
    with raises(SelectionError, "no implementation of rnn (layer 'low+high') for target gpu: cupy.cudnn.standard: "):
        rg.compile(layers, INPUTS, target="gpu")


@pytest.mark.parametrize("given", [None, 3, object(), LSTM, b"graph", "", "model.tflite", "/nowhere/model.rg", X])
def test_models_that_are_none(given: Any) -> None:
    with raises(ImportModelError, "cannot read"):
        rg.compile(given, target="cpu")


@pytest.mark.parametrize(("text", "message"), [
    ("graph @g(%x: f32[B,4]) { return y = %z }", "1:37: %z is not defined before its use"),
    ("graph @g(%x: f32[B,4]) {\n  %y = nope %x : f32[B,4]\n  return y = %y }", "2:8: unknown op 'nope'"),
    ("graph @g(%x: f32[B,4]) {\n  %y = tanh %x : f32[B,5]\n  return y = %y }",
     "2:18: result 0 of tanh is f32[B,4], the text says f32[B,5]"),
    ("graph @g(%x: f32[B,4) { }", "1:21: expected ',', got ')'"),
    ("graph @g(%x: q8[B]) { return y = %x }", "1:14: unknown dtype 'q8'; expected one of f32, "),
    ("graph @g(%x: f32[B]) {\n\n  %y = é }", "3:8: unexpected character 'é'"),
    ("graph @g(%x: f32[99999999999999999]) { return y = %x }", "1:18: a dim is at most 2**48"),
    ("graph @g(%x: f32[2]) { %c = const [true, 2.5] : f32[2]  return y = %c }",
     "1:35: a constant of type f32[2] holds numbers"),
    ("graph @g(%x: bool[2]) { %c = const [true, 1] : bool[2]  return y = %c }",
     "1:36: a constant of type bool[2] holds true and false"),
    ('graph @g(%x: f32[B]) { return y = %x }\nresource @0a f32[0] base64 ""\nresource @0a f32[0] base64 ""',
     "3:10: resource @0a stands in the text twice"),
    ("graph @g(%x: f32[B]) { return y = %x } more", "1:40: expected end of text, got 'more'"),
])
def test_text_that_does_not_parse(text: str, message: str) -> None:
    with raises(ParseError, message) as e:
        rg.compile(text, target="cpu")
    line, column = message.split(":")[:2]
    assert (e.value.line, e.value.column) == (int(line), int(column))


class Numpy(Cell):
    def step(self, x: Any, h: Any) -> Any:
        return np.tanh(x), h


def test_a_numpy_function_on_a_traced_tensor() -> None:
    with raises(TraceError, "layer 'rnn': cell Numpy: cannot call np.tanh on the traced <Traced f32[batch,5]>"):
        rg.trace(RNN(Numpy(5)), INPUTS)


class Left(Cell):
    """Every operator with an array on its left side."""

    def step(self, x: Any, h: Any) -> Any:
        a = np.full(5, 2, np.float32)
        new = a + x - (a - h) * (a * x) / (a / (a + x * x)) + a**h
        new = ops.where((a < x) & ((a >= h) | (a != x)), new, a @ np.eye(5, dtype=np.float32) + h)
        return new, new


def test_an_array_on_the_left_of_an_operator() -> None:
    x = np.abs(X)
    h = np.zeros((2, 5))
    a = np.full(5, 2.0)
    for t in range(x.shape[1]):
        xt = x[:, t].astype(np.float64)
        new = a + xt - (a - h) * (a * xt) / (a / (a + xt * xt)) + a**h
        h = np.where((a < xt) & ((a >= h) | (a != xt)), new, a + h)
    got = evaluate(rg.trace(RNN(Left(5)), INPUTS), {"x": x}, float64=True)["y"]
    np.testing.assert_allclose(got, h, rtol=1e-12)


@pytest.mark.parametrize("units", [10**7, 10**12])
def test_weights_beyond_any_memory(units: int) -> None:
    with raises(ShapeError, "layer 'lstm': weight"):
        rg.trace(LSTM(units), INPUTS)


def test_a_dim_beyond_any_address() -> None:
    with raises(ShapeError, "a dim is in 0..2**48, got a larger number"):
        rg.Input(("batch", "time", 10**30))
