"""What cannot run step by step says so, with the layer and the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import StreamError
from rnngraph.ir import parse
from rnngraph.nn import ops
from rnngraph.runtime.streaming import streaming

X = rg.Input(("batch", "time", 8))


def gru(**options: Any) -> nn.GRU:
    return nn.GRU(8, return_sequences=True, **options)


def after(function: Callable[[Any], Any]) -> nn.Layer:
    """A GRU over what ``function`` makes of x."""
    x = nn.Input(("batch", "time", 8))
    return nn.Model(x, gru(name="gru")(function(x)))


class Attention(nn.Layer):
    """Each step attends to all steps of its input."""

    def call(self, x: Any) -> Any:
        scores = ops.softmax(x @ ops.transpose(x, (0, 2, 1)))
        return scores @ x


class ReadsAll(nn.Cell):
    """A step that reads a whole sequence from outside of the loop."""

    def __init__(self, owner: list[Any]) -> None:
        super().__init__(8)
        self.owner = owner

    def step(self, x: Any, h: Any) -> Any:
        h = ops.tanh(x + h + ops.sum(self.owner[0], 1))
        return h, h


class Attending(nn.Layer):
    def __init__(self) -> None:
        super().__init__("attending")
        self.memory: list[Any] = []
        self.rnn = nn.RNN(ReadsAll(self.memory), return_sequences=True, name="rnn")

    def call(self, x: Any) -> Any:
        self.memory[:] = [x]
        return self.rnn(x)


class FinalToAll(nn.Layer):
    def call(self, x: Any) -> Any:
        last = nn.GRU(8, name="inner")(x)
        return x + ops.reshape(last, ("batch", 1, 8))


class Chained(nn.Layer):
    def call(self, x: Any) -> Any:
        return gru(name="second")(x, initial_state=nn.GRU(8, name="first")(x))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "bidirectional": (lambda: nn.Bidirectional(gru(), name="both"), "layer 'both/backward'.*last step to the first"),
    "backwards": (lambda: gru(go_backwards=True, name="back"), "layer 'back'.*last step to the first"),
    "reverse": (lambda: after(lambda x: ops.reverse(x, 1)), "reverse along time"),
    "sum": (lambda: after(lambda x: x + ops.sum(x, 1, keepdims=True)), "reduce_sum over time"),
    "softmax": (lambda: after(lambda x: ops.softmax(x, 1)), "reduce_max over time"),
    "first": (lambda: after(lambda x: x + ops.reshape(x[:, 0], ("batch", 1, 8))), "slice along time"),
    "attention": (lambda: nn.Sequential([Attention(name="attention"), gru()]), "layer 'attention'.*'time' twice"),
    "captured": (Attending, "layer 'attending/rnn'.*reads the whole sequence"),
    "final": (lambda: nn.Sequential([FinalToAll(name="final"), gru()]), "layer 'final'.*behind the last one"),
    "chained": (lambda: Chained(name="chained"), "layer 'chained/second'.*initial state"),
    "no recurrence": (lambda: nn.Dense(4), "no layer recurs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_layer_and_the_reason_are_named(name: str) -> None:
    make, message = REFUSED[name]
    model = make()
    compiled = rg.compile(model) if isinstance(model, nn.Model) else rg.compile(model, X)
    with pytest.raises(StreamError, match=message):
        compiled.stream()


def test_a_fixed_number_of_steps() -> None:
    for layer in (gru(), gru(unroll=True)):
        with pytest.raises(StreamError, match="time as a symbol"):
            rg.compile(layer, rg.Input(("batch", 5, 8))).stream()


def test_two_time_dims() -> None:
    a, b = nn.Input(("batch", "frames", 8)), nn.Input(("batch", "words", 8), name="b")
    model = rg.compile(nn.Model([a, b], [gru(name="low")(a), gru(name="high")(b)]))
    with pytest.raises(StreamError, match=r"'low' over 'frames'.*'high' over 'words'"):
        model.stream()


def test_dropout_in_training() -> None:
    layer = nn.Sequential([gru(dropout=0.5, name="gru")])
    with pytest.raises(StreamError, match=r"dropout.*training=False"):
        rg.compile(nn.Sequential([nn.Dropout(0.5, name="drop"), gru()]), X, training=True).stream()
    assert rg.compile(layer, X, training=False).stream() is not None


GRAPH = """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {{
  %h_n, %y = scan carry(h = %h0) over(x = %x) {{steps = T{options}}} {{
  ^(%h: f32[B,4], %xt: f32[B,4]):
    %n = tanh %h : f32[B,4]
    %m = add %n, %xt : f32[B,4]
    yield carry(h = %m) emit(y = %m)
  }} : f32[B,4], f32[T,B,4]
  return y = {result}
}}
"""


def test_a_graph_streams_or_says_why_not() -> None:
    plan = streaming(parse(GRAPH.format(options="", result="%y")))
    assert [s.name for s in plan.states] == ["h"]
    assert plan.graph.input_names == ("x", "h0_1")
    with pytest.raises(StreamError, match="the graph cannot run step by step: it runs from the last step"):
        streaming(parse(GRAPH.format(options=", reverse = true", result="%y")))


def test_the_streams_graph_in_full() -> None:
    plan = streaming(parse(GRAPH.format(options="", result="%y")))
    assert plan.graph.to_text() == """graph @g(%x: f32[T,B,4], %h0_1: f32[B,4]) {
  %h_n, %y = scan carry(h = %h0_1) over(x = %x) {steps = T} {
  ^(%h: f32[B,4], %xt: f32[B,4]):
    %n = tanh %h : f32[B,4]
    %m = add %n, %xt : f32[B,4]
    yield carry(h = %m) emit(y = %m)
  } : f32[B,4], f32[T,B,4]
  return y = %y, h = %h_n
}
"""
    assert plan.start.input_names == ()
    assert (plan.time, plan.inputs, plan.axes) == ("T", (0,), (0,))


def test_an_initial_state_without_a_name() -> None:
    x = nn.Input(("batch", "time", 8))
    start = nn.GRU(8)(x) * 2.0
    last, _ = nn.while_loop(lambda v: ops.sum(v, -1) < 3.0, lambda v: v + 1.0, start, "time")
    with pytest.raises(StreamError, match="layer 'while_loop' cannot run step by step: its initial state") as e:
        rg.compile(nn.Model(x, last), X).stream()
    assert "% " not in str(e.value)
