"""merge-bidirectional: pairs that merge, and for each constraint a pair that does not, with its remark."""

from __future__ import annotations

import pytest

from rnngraph.ir import Value, ops
from rnngraph.passes.merge_bidirectional import CONSTRAINTS
from tests.passes.node_graphs import Body, Nodes, after, node_graph
from tests.testing import assert_rewrites

Values = dict[str, Value]

BEFORE = """
graph @g(%x: f32[T,B,2], %h: f32[1,B,1], %k: f32[1,B,1]) {
  %w = const splat(0.5) : f32[2,1]
  %v = const splat(0.25) : f32[2,1]
  %r = const splat(0.5) : f32[1,1]
  %b = const splat(0.0) : f32[1]
  %y, %n = rnn %x, %h, %w, %r, %b, %b {mode = rnn_tanh, hidden = 1} : f32[T,B,1], f32[1,B,1] <layer = "bi/forward">
  %z, %m = rnn %x, %k, %v, %r, %b, %b {mode = rnn_tanh, hidden = 1, direction = reverse}
    : f32[T,B,1], f32[1,B,1] <layer = "bi/backward">
  %yz = concat %y, %z {axis = 2} : f32[T,B,2] <layer = bi>
  return y = %yz, m = %m
}
"""
AFTER = """
graph @g(%x: f32[T,B,2], %h: f32[1,B,1], %k: f32[1,B,1]) {
  %w = const splat(0.5) : f32[2,1]
  %v = const splat(0.25) : f32[2,1]
  %r = const splat(0.5) : f32[1,1]
  %b = const splat(0.0) : f32[1]
  %s = concat %h, %k {axis = 0} : f32[2,B,1] <layer = bi>
  %y, %n = rnn %x, %s, %w, %r, %b, %b, %v, %r, %b, %b {mode = rnn_tanh, hidden = 1, direction = bidirectional}
    : f32[T,B,2], f32[2,B,1] <layer = bi>
  %m = slice %n {axis = 0, start = 1, size = 1} : f32[1,B,1] <layer = bi>
  return y = %y, m = %m
}
"""


def test_two_directions_become_one_node() -> None:
    assert_rewrites(BEFORE, "merge-bidirectional", AFTER, remarks=[
        "applied: merge-bidirectional: bi: layers bi/forward and bi/backward are one bidirectional rnn node"])


def test_backward_first_does_not_merge() -> None:
    text = BEFORE.replace("concat %y, %z", "concat %z, %y")
    assert_rewrites(text, "merge-bidirectional", None, remarks=[
        "missed: merge-bidirectional: bi/backward: the outputs of layer bi/forward and layer bi/backward are "
        "concatenated backward first; a fused node gives forward first"])


def both(n: Nodes, x: Value, **options: object) -> Values:
    forward = n.rnn(x, "bi/forward", **options)  # type: ignore[arg-type]
    backward = n.rnn(x, "bi/backward", direction="reverse", **options)  # type: ignore[arg-type]
    out = {"y": n.b.concat([forward.y, backward.y], 2), "hf": forward.h_n, "hb": backward.h_n}
    if forward.c_n is not None and backward.c_n is not None:
        out |= {"cf": forward.c_n, "cb": backward.c_n}
    return out


@pytest.mark.parametrize("options", [
    {"mode": "lstm"}, {"mode": "lstm", "proj": 3}, {"mode": "gru"}, {"mode": "gru", "reset_after": False},
    {"mode": "rnn_relu"}], ids=str)
@pytest.mark.parametrize("lengths", [False, True])
def test_every_mode_merges_with_all_states(options: dict[str, object], lengths: bool) -> None:
    graph = node_graph(lambda n, v: both(n, v["x"], lengths=v["lengths"] if lengths else None, **options))
    _, _, nodes = after(graph, "merge-bidirectional")
    assert [(n.attrs.direction, n.op.layer) for n in nodes] == [("bidirectional", "bi")]


def test_only_final_states_read() -> None:
    def body(n: Nodes, v: Values) -> Values:
        a, b = n.rnn(v["x"], "a"), n.rnn(v["x"], "b", direction="reverse")
        return {"h": n.b.concat([a.h_n, b.h_n], 2)}

    _, remarks, nodes = after(node_graph(body), "merge-bidirectional")
    assert len(nodes) == 1
    assert remarks == ["applied: merge-bidirectional: a+b: layers a and b are one bidirectional rnn node"]


def test_concat_behind_transposes() -> None:
    def body(n: Nodes, v: Values) -> Values:
        a, b = n.rnn(v["x"], "a"), n.rnn(v["x"], "b", direction="reverse")
        return {"y": n.b.concat([n.b.transpose(y, (1, 0, 2)) for y in (a.y, b.y)], 2), "also": n.b.tanh(b.y)}

    _, _, nodes = after(node_graph(body), "merge-bidirectional")
    assert len(nodes) == 1


def test_a_scan_is_named() -> None:
    def body(n: Nodes, v: Values) -> Values:
        a = n.rnn(v["x"], "bi/forward")
        with n.b.named("bi/backward"):
            _, ys = n.b.scan({"h": n.b.reshape(v["h"], ("B", 4))}, {"x": v["x"]},
                             lambda b, c, x: ({"h": b.op(ops.ABS, c["h"])}, {"y": c["h"]}), reverse=True)
        return {"y": n.b.concat([a.y, ys["y"]], 2)}

    _, remarks, _ = after(node_graph(body), "merge-bidirectional")
    assert remarks == ["missed: merge-bidirectional: bi/forward: layer bi/backward is not a fused rnn node: "
                       "see raise-rnn"]


def pair(second: dict[str, object], first: dict[str, object] | None = None, x: str = "x") -> Body:
    """Two directions with different options; strings that name inputs stand for them."""
    def body(n: Nodes, v: Values) -> Values:
        def options(o: dict[str, object]) -> dict[str, object]:
            return {k: v[str(o[k])] if k == "lengths" else o[k] for k in o}

        a = n.rnn(v["x"], "a", **options(first or {}))  # type: ignore[arg-type]
        b = n.rnn(v[x], "b", direction="reverse", **options(second))  # type: ignore[arg-type]
        return {"y": n.b.concat([a.y, b.y], 2)}

    return body


def from_the_other(n: Nodes, v: Values) -> Values:
    a = n.rnn(v["x"], "a")
    assert a.c_n is not None
    b = n.rnn(v["x"], "b", direction="reverse", states=[a.h_n, a.c_n])
    return {"y": n.b.concat([a.y, b.y], 2)}


def summed(n: Nodes, v: Values) -> Values:
    a, b = n.rnn(v["x"], "a"), n.rnn(v["x"], "b", direction="reverse")
    return {"y": n.b.add(a.y, b.y)}


MISSES: dict[str, tuple[Body, str]] = {
    "device": (lambda n, v: {"y": n.b.concat([n.rnn(v["x"], "a@gpu").y, n.rnn(v["x"], "b", direction="reverse").y], 2)},
               "layer b is placed on none, layer a@gpu on gpu"),
    "same-x": (pair({}, x="z"), "layer b and layer a read different sequences"),
    "one-layer": (pair({"num_layers": 2}), "layer b is a stack of 2 layers; directions merge layer by layer"),
    "mode": (pair({"mode": "gru"}), "layer b is of kind gru, layer a is of kind lstm"),
    "hidden": (pair({"hidden": 3}), "layer b has hidden size 3, layer a has 4"),
    "projection": (pair({"proj": 2}), "layer b projects h to 2 features, layer a does not project"),
    "reset-after": (pair({"mode": "gru", "reset_after": False}, {"mode": "gru"}),
                    "layer b applies its reset gate before the matmul, layer a after it"),
    "lengths": (pair({"lengths": "lengths"}), "layer b has lengths, layer a has none"),
    "pad": (pair({"lengths": "lengths", "pad": "repeat"}, {"lengths": "lengths"}),
            "layer b pads its output with repeat, layer a with zero"),
    "independent": (from_the_other, "layer b starts from what layer a computes"),
    "joined": (summed, "the outputs of layer a and layer b are not joined by a concat of forward and backward "
                       "features"),
}


@pytest.mark.parametrize("constraint", [c.name for c in CONSTRAINTS])
def test_each_constraint_has_its_remark(constraint: str) -> None:
    body, reason = MISSES[constraint]
    graph = node_graph(body)
    _, remarks, nodes = after(graph, "merge-bidirectional")
    assert remarks == [f"missed: merge-bidirectional: b: {reason}"]
    assert len(nodes) == 2


def test_other_lengths() -> None:
    graph = node_graph(pair({"lengths": "lengths"}, {"lengths": "other"}))
    _, remarks, _ = after(graph, "merge-bidirectional")
    assert remarks == ["missed: merge-bidirectional: b: layer b and layer a have different lengths"]
