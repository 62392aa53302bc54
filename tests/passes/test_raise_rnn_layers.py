"""Layers and users' cells through trace: what becomes one rnn node, what does not, and what the remarks say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnngraph import nn
from rnngraph.ir import Graph, Rnn
from rnngraph.nn import ops, trace
from rnngraph.passes import run
from rnngraph.rewrite import PassContext
from tests.testing import assert_same_numbers

PIPELINE = "canonicalize,fold-constants,cse,dce,hoist-invariant,raise-rnn,merge-bidirectional,merge-stacked"
RECURRENT = ("raise-rnn", "merge-bidirectional", "merge-stacked")


def merged(*layers: nn.Layer, **options: Any) -> tuple[Graph, list[Rnn], list[str]]:
    """The graph, rnn nodes and missed remarks after the recurrent passes; numbers are kept."""
    before = trace(nn.Sequential(list(layers)), nn.Input(("batch", "time", 3)), **options)
    graph, context = before.clone(), PassContext()
    run(PIPELINE, graph, context)
    assert_same_numbers(before, graph, rtol=0, atol=1e-6)
    missed = [str(r) for r in context.remarks if r.kind == "missed" and r.pass_name in RECURRENT]
    return graph, [Rnn(op) for op in graph.walk() if op.name == "rnn"], missed


def bidirectional(name: str, **options: Any) -> nn.Bidirectional:
    return nn.Bidirectional(nn.LSTM(4, return_sequences=True, **options), name=name)


@pytest.mark.parametrize("options", [{}, {"lengths": True}, {"initial_state": True}, {"training": True}], ids=str)
def test_two_bidirectional_lstms_are_one_node(options: dict[str, bool]) -> None:
    graph, nodes, missed = merged(bidirectional("one"), bidirectional("two"), **options)
    assert [(n.attrs.num_layers, n.attrs.direction, n.op.layer) for n in nodes] == [(2, "bidirectional", "one+two")]
    assert all(op.name != "scan" for op in graph.walk())
    assert missed == []


def test_recurrent_dropout_in_training_does_not_merge() -> None:
    layers = bidirectional("one", recurrent_dropout=0.1), bidirectional("two")
    _, nodes, missed = merged(*layers, training=True)
    assert [n.op.layer for n in nodes] == ["two"]
    assert missed == [
        *(f"missed: raise-rnn: one/{d}: recurrent dropout multiplies the state h before the recurrent matmul of gate i"
          for d in ("forward", "backward")),
        "missed: merge-bidirectional: one/backward: layer one/forward is not a fused rnn node: see raise-rnn",
        "missed: merge-stacked: two: layer one/forward and layer one/backward, which layer two reads, are not one "
        "node: see merge-bidirectional"]
    assert len(merged(*layers)[1]) == 1  # at inference there is no dropout


def test_relu_does_not_merge() -> None:
    _, nodes, missed = merged(bidirectional("one"), bidirectional("two", activation="relu"))
    assert [n.op.layer for n in nodes] == ["one"]
    assert missed == [
        "missed: raise-rnn: two/forward: the activation of the output is relu, cuDNN-style nodes need tanh",
        "missed: raise-rnn: two/backward: the activation of the output is relu, cuDNN-style nodes need tanh",
        "missed: merge-bidirectional: two/backward: layer two/forward is not a fused rnn node: see raise-rnn",
        "missed: merge-stacked: two/forward: layer two/forward is not a fused rnn node: see raise-rnn",
        "missed: merge-stacked: two/backward: layer two/backward is not a fused rnn node: see raise-rnn"]


@pytest.mark.parametrize("layer", [
    nn.LSTM(4), nn.LSTM(4, use_bias=False), nn.LSTM(4, go_backwards=True, return_sequences=True),
    nn.GRU(4), nn.GRU(4, reset_after=False), nn.GRU(4, use_bias=False), nn.SimpleRNN(4),
    nn.SimpleRNN(4, activation="relu"), nn.Bidirectional(nn.GRU(4))], ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("lengths", [False, True])
def test_each_layer_is_one_node(layer: nn.Layer, lengths: bool) -> None:
    graph, nodes, missed = merged(layer, lengths=lengths)
    assert len(nodes) == 1
    assert missed == []
    assert all(op.name != "scan" for op in graph.walk())


def test_stack_of_different_sizes() -> None:
    _, nodes, missed = merged(nn.LSTM(4, return_sequences=True, name="lstm"), nn.LSTM(5, name="lstm_1"))
    assert len(nodes) == 2
    assert missed == ["missed: merge-stacked: lstm_1: layer lstm_1 has hidden size 5, layer lstm has 4"]


@st.composite
def layer_lists(draw: st.DrawFn) -> list[nn.Layer]:
    """Stacks that often merge: few sizes, few kinds, sometimes an option that forbids it."""
    layers: list[nn.Layer] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([nn.LSTM, nn.LSTM, nn.GRU, nn.SimpleRNN]))
        options: dict[str, Any] = draw(st.sampled_from([
            {}, {}, {}, {"recurrent_dropout": 0.3}, {"dropout": 0.3}, {"use_bias": False}, {"go_backwards": True}]))
        if kind is nn.GRU:
            options = options | {"reset_after": draw(st.booleans())}
        layer = kind(draw(st.sampled_from([3, 3, 2])), return_sequences=True, **options)
        layers.append(nn.Bidirectional(layer) if draw(st.booleans()) else layer)
        if draw(st.integers(0, 3)) == 0:
            layers.append(nn.Dropout(0.25))
    return layers


@given(layer_lists(), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_random_stacks_keep_their_numbers(layers: list[nn.Layer], training: bool, lengths: bool, states: bool) -> None:
    merged(*layers, training=training, lengths=lengths, initial_state=states)


class SplitLSTM(nn.Cell):
    """A user's LSTM: gates o, g, f, i, a matmul per gate and operand, two biases per gate."""

    def build(self, n: int) -> None:
        u = self.state_size[0]
        self.W = {g: self.add_weight(f"W{g}", (n, u)) for g in "ogfi"}
        self.R = {g: self.add_weight(f"R{g}", (u, u)) for g in "ogfi"}
        self.b = {g: self.add_weight(f"b{g}", (u,), "ones") for g in "ogfi"}
        self.d = {g: self.add_weight(f"d{g}", (u,), "ones") for g in "ogfi"}

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        h, c = state
        a = {g: self.d[g] + h @ self.R[g] + (self.b[g] + x @ self.W[g]) for g in "ogfi"}
        c = 1 / (1 + ops.exp(-a["f"])) * c + ops.tanh(a["g"]) * ops.sigmoid(a["i"])
        h = ops.tanh(c) * (0.5 * ops.tanh(0.5 * a["o"]) + 0.5)
        return h, (h, c)


class JoinedLSTM(nn.Cell):
    """A user's LSTM: one matmul on [x, h], the state c first, forget bias in the step."""

    def build(self, n: int) -> None:
        u = self.state_size["h"]
        self.W, self.b = self.add_weight("W", (n + u, 4 * u)), self.add_weight("b", (4 * u,), "ones")

    def step(self, x: Any, state: Any) -> tuple[Any, Any]:
        j, i, o, f = ops.split(ops.concat([x, state["h"]]) @ self.W + self.b, 4)
        c = ops.sigmoid(f + 1.0) * state["c"] + ops.sigmoid(i) * ops.tanh(j)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, {"c": c, "h": h}


class UserGRU(nn.Cell):
    """A user's GRU: one array of stacked weights, u multiplies the candidate."""

    def build(self, n: int) -> None:
        u = self.state_size
        self.W, self.R = self.add_weight("W", (3, n, u)), self.add_weight("R", (3, u, u))

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        u = ops.sigmoid(x @ self.W[0] + h @ self.R[0])
        r = ops.sigmoid(x @ self.W[1] + h @ self.R[1])
        n = ops.tanh(x @ self.W[2] + r * (h @ self.R[2]))
        h = h + u * (n - h)
        return h, h


class MinimalGatedUnit(nn.Cell):
    """Not a GRU to a fused node: one gate does the work of two."""

    def build(self, n: int) -> None:
        u = self.state_size
        self.Wf, self.Rf = self.add_weight("Wf", (n, u)), self.add_weight("Rf", (u, u))
        self.Wn, self.Rn = self.add_weight("Wn", (n, u)), self.add_weight("Rn", (u, u))

    def step(self, x: Any, h: Any) -> tuple[Any, Any]:
        f = ops.sigmoid(x @ self.Wf + h @ self.Rf)
        h = h + f * (ops.tanh(x @ self.Wn + (f * h) @ self.Rn) - h)
        return h, h


@pytest.mark.parametrize(("cell", "mode"), [
    (SplitLSTM((4, 4)), "lstm"), (JoinedLSTM({"c": 4, "h": 4}), "lstm"), (UserGRU(4), "gru")],
    ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("options", [{}, {"lengths": True, "initial_state": True}], ids=str)
def test_a_users_cell_that_is_a_known_one(cell: nn.Cell, mode: str, sequences: bool, options: dict[str, bool]) -> None:
    layer = nn.RNN(cell, return_sequences=sequences, return_state=True, name="mine")
    graph, nodes, missed = merged(layer, **options)
    assert [(n.attrs.mode, n.op.layer) for n in nodes] == [(mode, "mine")]
    assert missed == []
    assert all(op.name != "scan" for op in graph.walk())


def test_a_minimal_gated_unit_stays_a_scan() -> None:
    _, nodes, missed = merged(nn.RNN(MinimalGatedUnit(4), name="mgu"))
    assert nodes == []
    assert missed == ["missed: raise-rnn: mgu: gates r and z are one gate; a fused node would compute it twice"]
