"""raise-rnn on random ways to write a cell: always raised, always the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnngraph.ir import Graph, Rnn, ops
from rnngraph.passes import run
from rnngraph.rewrite import PassContext
from tests.passes.cell_graphs import GATES, Variant, cell_graph
from tests.testing import assert_same_numbers

ATOL = 1e-6


def raised(graph: Graph, pipeline: str = "raise-rnn") -> Graph:
    """A copy after ``pipeline``, in which the only recurrent op must be one rnn node."""
    copy, context = graph.clone(), PassContext()
    run(pipeline, copy, context)
    found = [op.name for op in copy.walk() if op.name in ("scan", "rnn")]
    assert found == ["rnn"], [str(r) for r in context.remarks]
    return copy


@st.composite
def variants(draw: st.DrawFn) -> Variant:
    mode = draw(st.sampled_from(list(GATES)))
    return Variant(
        mode=mode,
        order="".join(draw(st.permutations(GATES[mode]))),
        bias=draw(st.sampled_from(["none", "one", "two", "number"])),
        bias_form=draw(st.sampled_from(["fused", "gate"])),
        layout=draw(st.sampled_from(["split", "joined", "concat", "slices"])),
        sigmoid=draw(st.sampled_from(["op", "exp", "tanh"])),
        update=draw(st.integers(0, 3)),
        flip=draw(st.booleans()),
        swap=draw(st.booleans()),
        hoisted=draw(st.booleans()),
        reset_after=draw(st.booleans()),
        reverse=draw(st.booleans()),
        lengths=draw(st.booleans()),
        pad=draw(st.sampled_from(["zero", "repeat"])),
        proj=draw(st.sampled_from([0, 3, 4, 6])) if mode == "lstm" else 0,
    )


@given(variants(), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_any_form_of_a_cell_is_raised_and_keeps_its_numbers(variant: Variant, seed: int) -> None:
    graph = cell_graph(variant, seed)
    after = raised(graph)
    (node,) = (Rnn(op) for op in after.walk() if op.name == "rnn")
    assert (node.attrs.mode, node.attrs.proj) == (variant.mode, variant.proj)
    assert node.op.layer == "cell"
    assert node.attrs.direction == ("reverse" if variant.reverse else "forward")
    if variant.mode == "gru":
        assert node.attrs.reset_after == variant.reset_after
    assert_same_numbers(graph, after, rtol=0, atol=ATOL, seed=seed)


@given(variants())
@settings(max_examples=25, deadline=None)
def test_raise_and_expand_are_inverse(variant: Variant) -> None:
    graph = cell_graph(variant)
    back = graph.clone()
    run("raise-rnn,expand-rnn", back)
    assert [op.name for op in back.walk() if op.name in ("scan", "rnn")] == ["scan"]
    assert_same_numbers(graph, back, rtol=0, atol=ATOL)
    again = raised(back)
    assert_same_numbers(graph, again, rtol=0, atol=ATOL)


@pytest.mark.parametrize("mode", list(GATES))
@pytest.mark.parametrize("layout", ["split", "joined"])
def test_raised_also_after_the_passes_that_usually_come_before(mode: str, layout: str) -> None:
    graph = cell_graph(Variant(mode=mode, layout=layout, bias="two"))
    after = raised(graph, "canonicalize,fold-constants,cse,dce,hoist-invariant,raise-rnn,fold-constants,dce")
    assert_same_numbers(graph, after, rtol=0, atol=ATOL)


def mutate(graph: Graph, rng: np.random.Generator) -> None:
    """Break the step: another elementwise op, or another value of the same type as operand."""
    (scan,) = (op for op in graph.walk() if op.name == "scan")
    body = scan.blocks[0]
    op = body.body[rng.integers(len(body.body))]
    swaps = {1: (ops.TANH, ops.SIGMOID, ops.NEG, ops.RELU, ops.EXP), 2: (ops.ADD, ops.SUB, ops.MUL, ops.MAX)}
    if ops.is_elementwise(op) and rng.random() < 0.5:
        op.opdef = swaps[len(op.operands)][rng.integers(len(swaps[len(op.operands)]))]
        return
    if op.operands:
        k = int(rng.integers(len(op.operands)))
        before = [*body.args, *(r for o in body.ops[: body.ops.index(op)] for r in o.results)]
        same = [v for v in before if v.type == op.operands[k].type]
        if same:
            op.set_operand(k, same[rng.integers(len(same))])


@given(variants(), st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_what_is_raised_from_a_broken_cell_still_has_its_numbers(variant: Variant, seed: int, count: int) -> None:
    graph, rng = cell_graph(variant), np.random.default_rng(seed)
    for _ in range(count):
        mutate(graph, rng)
    after = graph.clone()
    run("raise-rnn", after)
    if any(op.name == "rnn" for op in after.walk()):
        assert_same_numbers(graph, after, rtol=1e-6, atol=ATOL)
