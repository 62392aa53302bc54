"""Stacks and directions through layers and the whole default pipeline: what merges, what does not, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.ir import Graph, Rnn, evaluate, parse
from rnngraph.nn import GRU, LSTM, RNN, Bidirectional, Cell, LayerNormalization, SimpleRNN, ops
from rnngraph.report.numeric import deviation, random_inputs
from rnngraph.runtime.model import CompiledModel

INPUTS = rg.Input(("batch", "time", 5))


def compiled(model: Any, **options: Any) -> CompiledModel:
    return rg.compile(model, INPUTS, target="cpu", threads=1, verify="numeric", **options)


def remarks(model: CompiledModel, *passes: str, lengths: bool = False) -> list[str]:
    """What these passes said, in order."""
    report = model.variant(lengths=lengths).report
    return [str(r) for p in report.passes for r in p.remarks if r.pass_name in passes]


def after(model: CompiledModel, name: str) -> Graph:
    """The graph as the pass ``name`` left it."""
    (record,) = [p for p in model.report.passes if p.name == name]
    return parse(record.after, model.report.resources)


def nodes(graph: Graph) -> list[Rnn]:
    return [Rnn(op) for op in graph.block.ops if op.name == "rnn"]


def merged(model: Any, **options: Any) -> list[tuple[str, int, str]]:
    """(layer, layers, direction) of the nodes after merge-stacked."""
    return [(n.op.layer, n.attrs.num_layers, n.attrs.direction)
            for n in nodes(after(compiled(model, **options), "merge-stacked"))]


def bi(make: Any, name: str, **options: Any) -> Bidirectional:
    return Bidirectional(make(4, return_sequences=True, **options), name=name)


def assert_keeps_the_numbers(model: Any, made: CompiledModel, **how: bool) -> None:
    graph = rg.trace(model, INPUTS, **how)
    inputs = random_inputs(graph, {"batch": 3, "time": 8})
    want = evaluate(graph, inputs, float64=True)
    for name, got in made.run(inputs).items():
        error, scale = deviation(got, want[name])
        assert error <= 1e-5 * scale, name


# --- merges ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [LSTM, GRU, SimpleRNN])
def test_two_bidirectional_layers_are_one_node(make: Any) -> None:
    model = rg.Sequential([bi(make, "low"), bi(make, "high")])
    made = compiled(model)
    (node,) = nodes(after(made, "merge-stacked"))
    assert (node.op.layer, node.attrs.num_layers, node.attrs.direction) == ("low+high", 2, "bidirectional")
    assert remarks(made, "merge-bidirectional", "merge-stacked") == [
        "applied: merge-bidirectional: low: layers low/forward and low/backward are one bidirectional rnn node",
        "applied: merge-bidirectional: high: layers high/forward and high/backward are one bidirectional rnn node",
        "applied: merge-stacked: low+high: layers low and high are one rnn node of 2 layers",
    ]
    for line in remarks(made, "merge-stacked"):
        assert line in made.explain()
    for how in ({}, {"lengths": True}, {"initial_state": True}, {"lengths": True, "initial_state": True}):
        assert_keeps_the_numbers(model, made, **how)
    (node,) = nodes(parse(next(p.after for p in made.variant(lengths=True).report.passes if p.name == "merge-stacked"),
                          made.variant(lengths=True).report.resources))
    assert node.lengths is not None


def test_the_top_may_return_its_last_output_only() -> None:
    model = rg.Sequential([bi(LSTM, "low"), Bidirectional(LSTM(4), name="high")])
    made = compiled(model)
    (node,) = nodes(after(made, "merge-stacked"))
    assert (node.attrs.num_layers, node.attrs.direction) == (2, "bidirectional")
    assert_keeps_the_numbers(model, made)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_directions_merge_however_they_are_written(sequences: bool, state: bool, backwards: bool) -> None:
    model = Bidirectional(LSTM(4, return_sequences=sequences, return_state=state, go_backwards=backwards), name="bi")
    made = compiled(model)
    assert_keeps_the_numbers(model, made)
    assert_keeps_the_numbers(model, made, lengths=True, initial_state=True)
    if not backwards:
        assert [n.attrs.direction for n in nodes(after(made, "merge-stacked"))] == ["bidirectional"]


def test_three_layers_of_one_direction() -> None:
    model = rg.Sequential([GRU(4, return_sequences=True, name=n) for n in "abc"])
    assert merged(model) == [("a+b+c", 3, "forward")]


def test_dropout_between_layers_goes_into_the_node() -> None:
    low, high = (LSTM(4, return_sequences=True, name=n) for n in "ab")
    model = rg.Sequential([low, rg.nn.Dropout(0.25), high])
    assert merged(model) == [("a+b", 2, "forward")]
    assert missed(model, training=True) == [
        "missed: merge-stacked: b: dropout between layer a and layer b draws its mask in another layout than "
        "[time, batch, features], in which a fused node draws it"]
    stack = [LSTM(4, return_sequences=True, time_major=True, name=n) for n in "ab"]
    given = rg.Input(("time", "batch", 5))
    made = rg.compile(rg.Sequential([stack[0], rg.nn.Dropout(0.25), stack[1]]), given, target="cpu", training=True,
                      verify="numeric")
    (node,) = nodes(after(made, "merge-stacked"))
    assert (node.attrs.num_layers, node.attrs.dropout) == (2, 0.25)


class Shuffled(Cell):
    """An LSTM that does not look like one: gates in another order, in one matmul of [x, h], two biases on some."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.state_size = {"memory": units, "out": units}

    def build(self, n: int) -> None:
        u = self.units
        self.joined = self.add_weight("joined", (n + u, 3 * u))
        self.Wf, self.Rf = self.add_weight("Wf", (n, u)), self.add_weight("Rf", (u, u))
        self.b = self.add_weight("b", (3 * u,))
        self.b1, self.b2 = self.add_weight("b1", (u,)), self.add_weight("b2", (u,))

    def step(self, x: Any, state: Any) -> Any:
        c, h = state["memory"], state["out"]
        o, i, g = ops.split(self.b + ops.concat([x, h]) @ self.joined, 3)
        f = (h @ self.Rf + self.b2) + (x @ self.Wf + self.b1)
        c = ops.tanh(g) * ops.sigmoid(i) + c * ops.sigmoid(f)
        h = ops.tanh(c) * ops.sigmoid(o)
        return h, {"memory": c, "out": h}


def test_a_user_cell_that_is_an_lstm_merges_with_lstms() -> None:
    mine, ours = RNN(Shuffled(4), return_sequences=True, name="mine"), LSTM(4, return_sequences=True, name="ours")
    model = rg.Sequential([mine, ours])
    model.build((None, None, 5))
    rng = np.random.default_rng(0)
    model.set_weights([np.asarray(rng.standard_normal(w.shape), np.float32) for w in model.weights.values()])
    made = compiled(model)
    assert [(n.op.layer, n.attrs.mode, n.attrs.num_layers) for n in nodes(after(made, "merge-stacked"))] == [
        ("mine+ours", "lstm", 2)]
    assert_keeps_the_numbers(model, made, lengths=True)


# --- no merges ---------------------------------------------------------------------------------------------------


def missed(model: Any, **options: Any) -> list[str]:
    made = compiled(model, **options)
    return [r for r in remarks(made, "raise-rnn", "merge-bidirectional", "merge-stacked") if r.startswith("missed")]


def test_recurrent_dropout_in_training() -> None:
    model = rg.Sequential([bi(LSTM, "low"), bi(LSTM, "high", recurrent_dropout=0.1)])
    assert len(nodes(after(compiled(model), "merge-stacked"))) == 1  # inference: there is no dropout
    reason = "recurrent dropout multiplies the state h before the recurrent matmul of gate i"
    assert missed(model, training=True) == [
        f"missed: raise-rnn: high/forward: {reason}", f"missed: raise-rnn: high/backward: {reason}", *NOT_FUSED]
    made = compiled(model, training=True)
    assert [n.op.layer for n in nodes(after(made, "merge-stacked"))] == ["low"]


NOT_FUSED = [
    "missed: merge-bidirectional: high/backward: layer high/forward is not a fused rnn node: see raise-rnn",
    "missed: merge-stacked: high/forward: layer high/forward is not a fused rnn node: see raise-rnn",
    "missed: merge-stacked: high/backward: layer high/backward is not a fused rnn node: see raise-rnn",
]


@pytest.mark.parametrize(("options", "reason"), [
    ({"activation": "relu"}, "the activation of the output is relu, cuDNN-style nodes need tanh"),
    ({"recurrent_activation": "hard_sigmoid"},
     "the activation of gate o is hard_sigmoid-like (clip), cuDNN-style nodes need sigmoid"),
    ({"peepholes": True}, "peephole: gate i reads the cell state c"),
])
def test_an_option_that_a_node_does_not_have(options: dict[str, Any], reason: str) -> None:
    model = rg.Sequential([bi(LSTM, "low"), bi(LSTM, "high", **options)])
    assert missed(model) == [
        f"missed: raise-rnn: high/forward: {reason}", f"missed: raise-rnn: high/backward: {reason}", *NOT_FUSED]


@pytest.mark.parametrize(("forward", "backward", "reason"), [
    (LSTM(4, return_sequences=True), GRU(4, return_sequences=True, go_backwards=True),
     "layer bi/backward is of kind gru, layer bi/forward is of kind lstm"),
    (GRU(4, return_sequences=True), GRU(3, return_sequences=True, go_backwards=True),
     "layer bi/backward has hidden size 3, layer bi/forward has 4"),
    (GRU(4, return_sequences=True), GRU(4, return_sequences=True, go_backwards=True, reset_after=False),
     "layer bi/backward applies its reset gate before the matmul, layer bi/forward after it"),
], ids=["kind", "hidden", "reset-after"])
def test_directions_that_differ(forward: RNN, backward: RNN, reason: str) -> None:
    model = Bidirectional(forward, backward_layer=backward, name="bi")
    assert missed(model) == [f"missed: merge-bidirectional: bi/backward: {reason}"]


@pytest.mark.parametrize("mode", ["sum", "mul", "ave"])
def test_directions_that_are_not_concatenated(mode: str) -> None:
    assert missed(Bidirectional(LSTM(4, return_sequences=True), merge_mode=mode, name="bi")) == [
        "missed: merge-bidirectional: bi/backward: the outputs of layer bi/forward and layer bi/backward are not "
        "joined by a concat of forward and backward features"]


@pytest.mark.parametrize(("upper", "reason"), [
    ([LSTM(3, name="b")], "layer b has hidden size 3, layer a has 4"),
    ([GRU(4, name="b")], "layer b is of kind gru, layer a is of kind lstm"),
    ([LSTM(4, go_backwards=True, name="b")], "layer b runs reverse, layer a runs forward"),
    ([LayerNormalization(name="norm"), LSTM(4, name="b")], "sub of layer norm stands between layer a and layer b"),
], ids=["hidden", "kind", "direction", "something-between"])
def test_layers_that_do_not_stack(upper: list[rg.nn.Layer], reason: str) -> None:
    model = rg.Sequential([LSTM(4, return_sequences=True, name="a"), *upper])
    assert missed(model) == [f"missed: merge-stacked: b: {reason}"]


def test_a_sequence_that_something_else_reads() -> None:
    low, high = LSTM(4, return_sequences=True, name="low"), LSTM(4, return_sequences=True, name="high")
    y = low(INPUTS)
    above = "missed: merge-stacked: high: layer high reads a sequence of layer low that"
    assert missed(rg.nn.Model(INPUTS, high(y) + y)) == [f"{above} the graph's add also consumes"]
    assert missed(rg.nn.Model(INPUTS, [high(y), y])) == [f"{above} the graph's return also consumes"]
    assert missed(rg.nn.Model(INPUTS, [high(y), rg.nn.Dense(2, name="head")(y)])) == [
        f"{above} layer head also consumes"]


def test_a_state_that_the_lower_layer_computes() -> None:
    low, high = LSTM(4, return_sequences=True, return_state=True, name="low"), LSTM(4, name="high")
    y, h, c = low(INPUTS)
    assert missed(rg.nn.Model(INPUTS, high(y, initial_state=[h, c]))) == [
        "missed: merge-stacked: high: layer high starts from a state that layer low computes; in one node all "
        "states start together"]


def test_lengths_and_reports_of_a_variant() -> None:
    model = rg.Sequential([bi(LSTM, "low"), bi(LSTM, "high", activation="relu")])
    made = compiled(model)
    assert remarks(made, "merge-bidirectional", lengths=True)[0] == (
        "applied: merge-bidirectional: low: layers low/forward and low/backward are one bidirectional rnn node")
    assert_keeps_the_numbers(model, made, lengths=True)
