"""Edits of scans leave graphs that verify and compute what they say."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.errors import IRError
from rnngraph.ir import Builder, Scan, evaluate, parse, verify
from rnngraph.rewrite.scan_edit import (
    add_carry,
    add_x,
    add_y,
    fresh_name,
    keep,
    prune,
    set_next,
    simplify,
    sweep,
    unreverse,
)

TEXT = """graph @g(%x: f32[T,B], %z: f32[T,B], %h0: f32[B], %n: i32[B]) {
  %h, %y = scan carry(h = %h0) over(x = %x) lengths(%n) {steps = T} {
  ^(%hh: f32[B], %xt: f32[B]):
    %a = add %hh, %xt : f32[B]
    yield carry(h = %a) emit(y = %a)
  } : f32[B], f32[T,B]
  return h = %h, y = %y
}"""


def test_fresh_names() -> None:
    assert fresh_name("h", []) == "h"
    assert fresh_name("h", ["h", "h_1"]) == "h_2"


def test_add_a_sequence_a_carry_and_an_output() -> None:
    graph = parse(TEXT)
    op = graph.block.ops[0]
    z_t = add_x(op, "x", graph.inputs[1])
    count, final = add_carry(op, "h", graph.inputs[2])
    b = Builder(op.blocks[0], op.blocks[0].terminator)
    set_next(op, "h_1", b.mul(count, z_t))
    out = add_y(op, "y", count)
    end = graph.block.terminator
    end.set_operands([final, out])
    verify(graph)
    assert (Scan(op).attrs.carries, Scan(op).attrs.xs, Scan(op).attrs.ys) == (("h", "h_1"), ("x", "x_1"), ("y", "y_1"))
    assert Scan(op).lengths is graph.inputs[3]
    x, z, h0 = np.zeros((3, 2)), np.full((3, 2), 2.0), np.ones(2)
    got = evaluate(graph, {"x": x, "z": z, "h0": h0, "n": np.array([3, 1])}, float64=True)
    np.testing.assert_array_equal(got["h"], [8, 2])
    np.testing.assert_array_equal(got["y"], [[1, 1], [2, 0], [4, 0]])


def test_a_sequence_must_have_the_steps() -> None:
    graph = parse(TEXT)
    with pytest.raises(IRError, match=r"sequence x_1 must have leading dim T, got f32\[B\]"):
        add_x(graph.block.ops[0], "x", graph.inputs[2])


def test_keep_refuses_to_drop_what_is_used() -> None:
    graph = parse(TEXT)
    op = graph.block.ops[0]
    with pytest.raises(IRError, match="cannot drop an output that is used"):
        keep(op, [0], [0], [])
    with pytest.raises(IRError, match="cannot drop the argument"):
        keep(op, [0], [], [0])


def test_prune_after_an_edit() -> None:
    graph = parse(TEXT)
    op = graph.block.ops[0]
    add_x(op, "z", graph.inputs[1])
    _, final = add_carry(op, "k", graph.inputs[2])
    assert not final.uses
    assert prune(op)
    assert not prune(op)
    assert graph.to_text() == parse(TEXT).to_text()


def test_sweep_erases_chains() -> None:
    graph = parse(TEXT.replace("%a = add", "%u = neg %xt : f32[B]  %v = exp %u : f32[B]  %a = add"))
    body = graph.block.ops[0].blocks[0]
    assert sweep(body) == 2
    assert sweep(body) == 0
    verify(graph)


def test_nothing_to_simplify_changes_nothing() -> None:
    graph = parse(TEXT)
    assert not simplify(graph.block.ops[0])
    assert not unreverse(graph.block.ops[0])
    assert graph.to_text() == parse(TEXT).to_text()
