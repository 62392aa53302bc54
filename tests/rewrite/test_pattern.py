"""The pattern driver: to a fixed point, in a fixed order, within a bound; a pattern that gives up leaves nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rnngraph.errors import PassError
from rnngraph.ir import Builder, Op, Value, ops, parse, to_text, verify
from rnngraph.rewrite import Miss, Pattern, pattern, rewrite

CHAIN = """graph @g(%x: f32[B,4]) {
  %a = neg %x : f32[B,4]
  %b = neg %a : f32[B,4]
  %c = neg %b : f32[B,4]
  %d = exp %x : f32[B,4]
  return y = %c
}"""


@pattern(ops.NEG)
def neg_of_neg(op: Op, b: Builder) -> Sequence[Value] | None:
    """neg(neg x) -> x"""
    inner = op.operands[0].op
    return [inner.operands[0]] if inner is not None and inner.opdef is ops.NEG else None


@pattern(ops.NEG)
def neg_to_abs_and_back(op: Op, b: Builder) -> Sequence[Value] | None:
    """neg x -> abs x"""
    return [b.op(ops.ABS, op.operands[0])]


@pattern(ops.ABS)
def abs_to_neg(op: Op, b: Builder) -> Sequence[Value] | None:
    """abs x -> neg x"""
    return [b.op(ops.NEG, op.operands[0])]


def gives_up(outcome: Miss | None) -> Pattern:
    @pattern(ops.NEG)
    def builds_and_gives_up(op: Op, b: Builder) -> Miss | None:
        """neg x -> nothing after all"""
        b.tanh(b.add(op.operands[0], b.zeros(op.result.type)))
        return outcome

    return builds_and_gives_up


def test_rewrites_to_the_end_and_removes_what_is_dead() -> None:
    graph = parse(CHAIN)
    report = rewrite(graph, [neg_of_neg])
    assert to_text(graph) == "graph @g(%x: f32[B,4]) {\n  %c = neg %x : f32[B,4]\n  return y = %c\n}\n"
    assert report.hits == {"neg_of_neg": 1}
    assert report.changed
    verify(graph)


def test_no_match_says_so() -> None:
    graph = parse(CHAIN.replace("neg %a", "exp %a").replace("%d = exp %x : f32[B,4]", ""))
    before = to_text(graph)
    report = rewrite(graph, [neg_of_neg])
    assert not report.changed
    assert report.misses == []
    assert to_text(graph) == before


@pytest.mark.parametrize("outcome", [None, Miss("not today", "dense")])
def test_a_pattern_that_gives_up_leaves_nothing_behind(outcome: Miss | None) -> None:
    graph = parse(CHAIN.replace("%d = exp %x : f32[B,4]", ""))
    before = to_text(graph)
    report = rewrite(graph, [gives_up(outcome)])
    assert to_text(graph) == before
    verify(graph)
    assert not report.changed
    assert report.misses == ([("builds_and_gives_up", outcome)] * 3 if outcome else [])


def test_patterns_are_tried_in_order() -> None:
    graph = parse(CHAIN)
    report = rewrite(graph, [neg_of_neg, neg_to_abs_and_back])
    assert report.hits == {"neg_to_abs_and_back": 3}
    again = parse(CHAIN)
    assert rewrite(again, [neg_of_neg, neg_to_abs_and_back]).hits == report.hits
    assert to_text(again) == to_text(graph)


def test_a_set_that_does_not_end_is_stopped_and_named() -> None:
    with pytest.raises(PassError) as caught:
        rewrite(parse(CHAIN), [neg_to_abs_and_back, abs_to_neg], max_rewrites=7)
    assert "did not end after 7 rewrites" in str(caught.value)
    assert "'neg_to_abs_and_back', 'abs_to_neg'" in str(caught.value)


def test_the_bound_has_a_default() -> None:
    with pytest.raises(PassError, match="did not end after 1000 rewrites"):
        rewrite(parse(CHAIN), [neg_to_abs_and_back, abs_to_neg])


def test_bodies_are_rewritten_too() -> None:
    graph = parse("""graph @g(%x: f32[T,B]) {
      %y = scan carry() over(x = %x) {steps = T} {
      ^(%xt: f32[B]):
        %a = neg %xt : f32[B]
        %b = neg %a : f32[B]
        yield carry() emit(y = %b)
      } : f32[T,B]
      return y = %y
    }""")
    assert rewrite(graph, [neg_of_neg]).hits == {"neg_of_neg": 1}
    assert len(graph.block.ops[0].blocks[0].ops) == 1


def test_fresh_ops_inherit_the_layer() -> None:
    graph = parse(CHAIN.replace("%c = neg %b : f32[B,4]", "%c = neg %b : f32[B,4] <layer = dense>"))
    rewrite(graph, [neg_to_abs_and_back])
    assert [op.layer for op in graph.block.ops] == ["", "", "dense", ""]


def test_a_pattern_must_say_its_equation_and_return_one_value_per_result() -> None:
    def nameless(op: Op, b: Builder) -> Sequence[Value] | None:
        return None

    with pytest.raises(TypeError, match="pattern nameless needs its equation as docstring"):
        pattern(ops.NEG)(nameless)

    @pattern(ops.NEG)
    def two(op: Op, b: Builder) -> Sequence[Value] | None:
        """neg x -> x, x"""
        return [op.operands[0], op.operands[0]]

    with pytest.raises(PassError, match="pattern two returned 2 values for 1 results"):
        rewrite(parse(CHAIN), [two])


def test_time_grows_no_faster_than_the_graph_by_much() -> None:
    """A chain of 2000 ops: quadratic work would take minutes."""
    lines = "\n".join(f"  %a{i + 1} = neg %a{i} : f32[B]" for i in range(2000))
    graph = parse(f"graph @g(%a0: f32[B]) {{\n{lines}\n  return y = %a2000\n}}")
    assert rewrite(graph, [neg_of_neg]).hits["neg_of_neg"] == 1000
    assert len(graph.block.ops) == 1
