"""merge-stacked: chains that merge, and for each constraint a chain that does not, with its remark."""

from __future__ import annotations

from typing import Any

import pytest

from rnngraph.ir import Value, ops
from rnngraph.passes.merge_stacked import CONSTRAINTS
from tests.passes.node_graphs import Body, Nodes, after, node_graph
from tests.testing import assert_rewrites

Values = dict[str, Value]

BEFORE = """
graph @g(%x: f32[T,B,2], %h: f32[1,B,1], %k: f32[1,B,1]) {
  %w = const splat(0.5) : f32[2,1]
  %r = const splat(0.5) : f32[1,1]
  %b = const splat(0.0) : f32[1]
  %y, %n = rnn %x, %h, %w, %r, %b, %b {mode = rnn_tanh, hidden = 1} : f32[T,B,1], f32[1,B,1] <layer = one>
  %s = neg %n : f32[1,B,1]
  %z, %m = rnn %y, %k, %r, %r, %b, %b {mode = rnn_tanh, hidden = 1} : f32[T,B,1], f32[1,B,1] <layer = two>
  return y = %z, s = %s, m = %m
}
"""
AFTER = """
graph @g(%x: f32[T,B,2], %h: f32[1,B,1], %k: f32[1,B,1]) {
  %w = const splat(0.5) : f32[2,1]
  %r = const splat(0.5) : f32[1,1]
  %b = const splat(0.0) : f32[1]
  %hk = concat %h, %k {axis = 0} : f32[2,B,1] <layer = "one+two">
  %y, %n = rnn %x, %hk, %w, %r, %b, %b, %r, %r, %b, %b {mode = rnn_tanh, hidden = 1, num_layers = 2}
    : f32[T,B,1], f32[2,B,1] <layer = "one+two">
  %n0 = slice %n {axis = 0, start = 0, size = 1} : f32[1,B,1] <layer = "one+two">
  %s = neg %n0 : f32[1,B,1]
  %n1 = slice %n {axis = 0, start = 1, size = 1} : f32[1,B,1] <layer = "one+two">
  return y = %y, s = %s, m = %n1
}
"""


def test_two_layers_become_one_node() -> None:
    assert_rewrites(BEFORE, "merge-stacked", AFTER, remarks=[
        "applied: merge-stacked: one+two: layers one and two are one rnn node of 2 layers"])


def test_an_intermediate_sequence_with_another_reader_stays() -> None:
    text = BEFORE.replace("return y = %z", "%t = tanh %y : f32[T,B,1] <layer = act>\n  return t = %t, y = %z")
    assert_rewrites(text, "merge-stacked", None, remarks=[
        "missed: merge-stacked: two: layer two reads a sequence of layer one that layer act also consumes"])


def stack(n: Nodes, x: Value, count: int, rates: tuple[float, ...] = (), **options: Any) -> Values:
    out: Values = {}
    for k in range(count):
        node = n.rnn(x, f"l{k}", **options)
        out |= {f"{r}{k}": v for r, v in zip("yhc", node.op.results, strict=False) if r != "y"}
        x = n.mask(node.y, rates[k], 7 + k) if k < len(rates) and rates[k] else node.y
    return out | {"y": x}


@pytest.mark.parametrize("options", [
    {"mode": "lstm"}, {"mode": "gru"}, {"mode": "gru", "reset_after": False}, {"mode": "rnn_tanh"},
    {"mode": "lstm", "direction": "reverse"}, {"mode": "lstm", "direction": "bidirectional"},
    {"mode": "lstm", "proj": 3}, {"mode": "lstm", "proj": 3, "direction": "bidirectional"}], ids=str)
@pytest.mark.parametrize("lengths", [False, True])
def test_chains_of_three(options: dict[str, Any], lengths: bool) -> None:
    graph = node_graph(lambda n, v: stack(n, v["x"], 3, lengths=v["lengths"] if lengths else None, **options))
    _, _, nodes = after(graph, "merge-stacked")
    assert [(n.attrs.num_layers, n.op.layer) for n in nodes] == [(3, "l0+l1+l2")]


def test_dropout_between_is_absorbed() -> None:
    graph = node_graph(lambda n, v: stack(n, v["x"], 3, (0.25, 0.25)))
    _, _, nodes = after(graph, "merge-stacked")
    assert [(n.attrs.num_layers, n.attrs.dropout, n.attrs.seeds) for n in nodes] == [(3, 0.25, (7, 8))]


def test_a_mask_that_is_transposed_with_its_sequence() -> None:
    def body(n: Nodes, v: Values) -> Values:
        y = n.rnn(v["x"], "a").y
        drawn = n.b.op(ops.RANDOM_MASK, attrs=ops.RandomMaskAttrs(5, 0.5, y.shape))
        dropped = n.b.mul(n.b.transpose(drawn, (1, 0, 2)), n.b.transpose(y, (1, 0, 2)))
        return {"y": n.rnn(n.b.transpose(dropped, (1, 0, 2)), "b").y}

    _, _, nodes = after(node_graph(body), "merge-stacked")
    assert [(n.attrs.num_layers, n.attrs.dropout, n.attrs.seeds) for n in nodes] == [(2, 0.5, (5,))]


def test_the_upper_pad_is_kept() -> None:
    def body(n: Nodes, v: Values) -> Values:
        a = n.rnn(v["x"], "a", lengths=v["lengths"])
        return {"y": n.rnn(a.y, "b", lengths=v["lengths"], pad="repeat").y}

    _, _, nodes = after(node_graph(body), "merge-stacked")
    assert [n.attrs.pad for n in nodes] == ["repeat"]


def test_pairs_of_transposes_are_seen_through() -> None:
    def body(n: Nodes, v: Values) -> Values:
        a = n.rnn(v["x"], "a")
        x = n.b.transpose(n.b.transpose(a.y, (1, 0, 2)), (1, 0, 2))
        return {"y": n.rnn(x, "b").y}

    graph, _, nodes = after(node_graph(body), "merge-stacked")
    assert len(nodes) == 1
    assert all(op.name != "transpose" for op in graph.walk())


def test_two_stacks_of_two_become_one_of_four() -> None:
    def body(n: Nodes, v: Values) -> Values:
        a = n.rnn(v["x"], "a", num_layers=2, dropout=0.5, seeds=(1,))
        b = n.rnn(n.mask(a.y, 0.5, 2), "b", num_layers=2, dropout=0.5, seeds=(3,))
        return {"y": b.y, "h": a.h_n, "g": b.h_n}

    _, _, nodes = after(node_graph(body), "merge-stacked")
    assert [(n.attrs.num_layers, n.attrs.seeds) for n in nodes] == [(4, (1, 2, 3))]


def chain(upper: dict[str, object], lower: dict[str, object] | None = None) -> Body:
    def body(n: Nodes, v: Values) -> Values:
        def options(o: dict[str, object]) -> dict[str, object]:
            return {k: v[str(o[k])] if k == "lengths" else o[k] for k in o}

        a = n.rnn(v["x"], "a", **options(lower or {}))  # type: ignore[arg-type]
        return {"y": n.rnn(a.y, "b", **options(upper)).y}  # type: ignore[arg-type]

    return body


def consumed(n: Nodes, v: Values) -> Values:
    a = n.rnn(v["x"], "a")
    return {"y": n.rnn(a.y, "b").y, "also": a.y}


def decoder(n: Nodes, v: Values) -> Values:
    a = n.rnn(v["x"], "a")
    assert a.c_n is not None
    return {"y": n.rnn(a.y, "b", states=[n.b.tanh(a.h_n), a.c_n]).y}


def dropped(n: Nodes, v: Values) -> Values:
    a = n.rnn(v["x"], "a", num_layers=2, dropout=0.5, seeds=(1,))
    return {"y": n.rnn(n.mask(a.y, 0.25, 1), "b").y}


def batch_first(n: Nodes, v: Values) -> Values:
    dropped = n.mask(n.b.transpose(n.rnn(v["x"], "a").y, (1, 0, 2)), 0.5, 1)
    return {"y": n.rnn(n.b.transpose(dropped, (1, 0, 2)), "b").y}


MISSES: dict[str, tuple[Body, str]] = {
    "device": (lambda n, v: {"y": n.rnn(n.rnn(v["x"], "a@gpu").y, "b").y},
               "layer b is placed on none, layer a@gpu on gpu"),
    "mode": (chain({"mode": "gru"}), "layer b is of kind gru, layer a is of kind lstm"),
    "hidden": (chain({"hidden": 3}), "layer b has hidden size 3, layer a has 4"),
    "projection": (chain({"proj": 2}, {"proj": 3}), "layer b projects h to 2 features, layer a to 3"),
    "direction": (chain({"direction": "reverse"}), "layer b runs reverse, layer a runs forward"),
    "reset-after": (chain({"mode": "gru"}, {"mode": "gru", "reset_after": False}),
                    "layer b applies its reset gate after the matmul, layer a before it"),
    "lengths": (chain({}, {"lengths": "lengths"}), "layer a has lengths, layer b has none"),
    "sole-consumer": (consumed, "layer b reads a sequence of layer a that the graph's return also consumes"),
    "independent": (decoder, "layer b starts from a state that layer a computes; in one node all states start "
                             "together"),
    "dropout": (dropped, "dropout between layer a and layer b is 0.25, inside layer a it is 0.5"),
    "mask-layout": (batch_first, "dropout between layer a and layer b draws its mask in another layout than "
                                 "[time, batch, features], in which a fused node draws it"),
}


@pytest.mark.parametrize("constraint", [c.name for c in CONSTRAINTS])
def test_each_constraint_has_its_remark(constraint: str) -> None:
    body, reason = MISSES[constraint]
    _, remarks, nodes = after(node_graph(body), "merge-stacked")
    assert remarks == [f"missed: merge-stacked: b: {reason}"]
    assert len(nodes) == 2


def test_what_stands_between_is_named() -> None:
    def body(n: Nodes, v: Values) -> Values:
        a = n.rnn(v["x"], "a")
        with n.b.named("act"):
            y = n.b.tanh(a.y)
        return {"y": n.rnn(y, "b").y}

    _, remarks, _ = after(node_graph(body), "merge-stacked")
    assert remarks == ["missed: merge-stacked: b: tanh of layer act stands between layer a and layer b"]


def test_unmerged_directions_are_named() -> None:
    def body(n: Nodes, v: Values) -> Values:
        a, b = n.rnn(v["x"], "bi/forward"), n.rnn(v["x"], "bi/backward", direction="reverse")
        return {"y": n.rnn(n.b.concat([a.y, b.y], 2), "top").y}

    _, remarks, _ = after(node_graph(body), "merge-stacked")
    assert remarks == ["missed: merge-stacked: top: layer bi/forward and layer bi/backward, which layer top reads, are "
                       "not one node: see merge-bidirectional"]


def test_a_scan_below_is_named() -> None:
    def body(n: Nodes, v: Values) -> Values:
        with n.b.named("odd"):
            _, ys = n.b.scan({"h": n.b.reshape(v["h"], ("B", 4))}, {"x": v["x"]},
                             lambda b, c, x: ({"h": b.op(ops.ABS, c["h"])}, {"y": c["h"]}))
        return {"y": n.rnn(ys["y"], "b").y}

    _, remarks, _ = after(node_graph(body), "merge-stacked")
    assert remarks == ["missed: merge-stacked: b: layer odd is not a fused rnn node: see raise-rnn"]
