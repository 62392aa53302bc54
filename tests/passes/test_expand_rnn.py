"""expand-rnn: every node becomes scans with its numbers; selected-only looks at the chosen backend."""

from __future__ import annotations

import pytest

from rnngraph.ir import Rnn, Value
from rnngraph.passes import run
from tests.passes.node_graphs import Nodes, after, node_graph
from tests.testing import assert_rewrites, assert_same_numbers

BEFORE = """
graph @g(%x: f32[T,B,2], %h: f32[1,B,1], %w: f32[2,1], %r: f32[1,1], %b: f32[1], %v: f32[1]) {
  %y, %n = rnn %x, %h, %w, %r, %b, %v {mode = rnn_tanh, hidden = 1} : f32[T,B,1], f32[1,B,1] <layer = l>
  return y = %y, h = %n
}
"""
AFTER = """
graph @g(%x: f32[T,B,2], %h: f32[1,B,1], %w: f32[2,1], %r: f32[1,1], %b: f32[1], %v: f32[1]) {
  %s = reshape %h {shape = [B, 1]} : f32[B,1] <layer = "l/l0f">
  %last, %y = scan carry(h = %s) over(x = %x) {steps = T} {
  ^(%c: f32[B,1], %xt: f32[B,2]):
    %p = matmul %xt, %w : f32[B,1] <layer = "l/l0f">
    %bb = broadcast %b {shape = [B, 1], axes = [1]} : f32[B,1] <layer = "l/l0f">
    %px = add %p, %bb : f32[B,1] <layer = "l/l0f">
    %q = matmul %c, %r : f32[B,1] <layer = "l/l0f">
    %bv = broadcast %v {shape = [B, 1], axes = [1]} : f32[B,1] <layer = "l/l0f">
    %qh = add %q, %bv : f32[B,1] <layer = "l/l0f">
    %a = add %px, %qh : f32[B,1] <layer = "l/l0f">
    %t = tanh %a : f32[B,1] <layer = "l/l0f">
    yield carry(h = %t) emit(y = %t) <layer = "l/l0f">
  } : f32[B,1], f32[T,B,1] <layer = "l/l0f">
  %n = reshape %last {shape = [1, B, 1]} : f32[1,B,1] <layer = "l/l0f">
  return y = %y, h = %n
}
"""


def test_a_node_becomes_its_scan() -> None:
    assert_rewrites(BEFORE, "expand-rnn", AFTER, remarks=[
        "applied: expand-rnn: l: the rnn node is expanded into its scans"])


@pytest.mark.parametrize(("impl", "expands"), [
    ("llvm.rnn", True), ("cupy.rnn", True), ("cupy.cudnn.standard", False), ("reference.rnn", False),
    ("cudnn.rnn", False), ("", False)])
def test_selected_only(impl: str, expands: bool) -> None:
    before = BEFORE.replace("<layer = l>", f'<layer = l, impl = "{impl}">' if impl else "<layer = l>")
    assert_rewrites(before, "expand-rnn{selected-only=true}", AFTER if expands else None)


@pytest.mark.parametrize("options", [
    {"mode": "lstm"}, {"mode": "lstm", "proj": 3}, {"mode": "lstm", "proj": 4}, {"mode": "gru"},
    {"mode": "gru", "reset_after": False}, {"mode": "rnn_tanh"}, {"mode": "rnn_relu"}], ids=str)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [False, True])
def test_expanded_raised_and_merged_again(options: dict[str, object], direction: str, lengths: bool) -> None:
    def body(n: Nodes, v: dict[str, Value]) -> dict[str, Value]:
        node = n.rnn(v["x"], "l", num_layers=2, direction=direction, dropout=0.25, seeds=(3,),
                     lengths=v["lengths"] if lengths else None, **options)  # type: ignore[arg-type]
        return {f"r{k}": r for k, r in enumerate(node.op.results)}

    before = node_graph(body)
    (attrs,) = (Rnn(op).attrs for op in before.walk() if op.name == "rnn")
    graph, _, nodes = after(before, "expand-rnn")
    assert nodes == []
    run("raise-rnn,merge-bidirectional,merge-stacked", graph)
    assert [op.attrs for op in graph.walk() if op.name in ("rnn", "scan")] == [attrs]
    assert_same_numbers(before, graph, rtol=0, atol=1e-9)
