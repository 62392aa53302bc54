"""The reference backend against the interpreter, and the segments that backends are given."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph import backends
from rnngraph.errors import CompileError
from rnngraph.ir import OPS, Graph, evaluate, parse
from rnngraph.rewrite import PassContext
from rnngraph.runtime.segments import segment

SCAN = """graph @g(%x: f32[T,B,3], %h0: f32[B,3]) {
  %w = const [0.5, -0.25, 0.0, 0.0, 1.0, 0.5, -0.5, 0.0, 0.25] : f32[3,3]
  %a = neg %x : f32[T,B,3]
  %h, %y = scan carry(h = %h0) over(x = %a) {steps = T} {
  ^(%c: f32[B,3], %s: f32[B,3]):
    %m = matmul %c, %w : f32[B,3]
    %n = add %m, %s : f32[B,3]
    yield carry(h = %n) emit(y = %n)
  } : f32[B,3], f32[T,B,3]
  %z = tanh %y : f32[T,B,3]
  return z = %z, h = %h, w = %w
}"""


def assign(graph: Graph, **impls: str) -> Graph:
    for op in graph.block.body:
        if op.name != "const":
            op.impl = impls.get(op.name, "reference.op")
    return graph


def test_registers_every_op_without_constraints() -> None:
    (only,) = backends.load("reference").implementations()
    assert only.constraints == ()
    assert only.ops == {n for n, d in OPS.items() if not d.terminator} - {"const"}


def test_one_segment_runs_as_the_interpreter_does() -> None:
    graph = assign(parse(SCAN))
    (part,) = segment(graph)
    assert [op.name for op in part.ops] == ["neg", "scan", "tanh"]
    assert part.inputs == tuple(graph.inputs)
    assert [v.hint for v in part.constants] == ["w"]  # captured by the body
    assert part.outputs == graph.outputs[:2]
    kernel = backends.load("reference").build(graph, part, PassContext())
    rng = np.random.default_rng(0)
    x, h0 = rng.standard_normal((4, 2, 3)).astype(np.float32), rng.standard_normal((2, 3)).astype(np.float32)
    z, h = kernel.run({"T": 4, "B": 2}, [x, h0])
    want = evaluate(graph, {"x": x, "h0": h0})
    np.testing.assert_array_equal(h, want["h"])
    np.testing.assert_array_equal(z, want["z"])
    assert kernel.artifacts() == {}


def test_outputs_are_arrays_of_their_own() -> None:
    graph = assign(parse("""graph @g(%x: f32[B,2]) {
      %t = transpose %x {perm = [1, 0]} : f32[2,B]
      %b = broadcast %x {shape = [3,B,2], axes = [1, 2]} : f32[3,B,2]
      return t = %t, b = %b
    }"""))
    kernel = backends.load("reference").build(graph, segment(graph)[0], PassContext())
    x = np.ones((2, 2), np.float32)
    for out in kernel.run({"B": 2}, [x]):
        assert not np.may_share_memory(out, x)
        assert out.flags.writeable


def test_segments_are_maximal_runs_of_one_backend() -> None:
    graph = assign(parse(SCAN), scan="llvm.scan")
    first, second, third = segment(graph)
    assert [s.backend for s in (first, second, third)] == ["reference", "llvm", "reference"]
    assert first.inputs == (graph.inputs[0],)
    assert second.inputs == (graph.inputs[1], *first.outputs)  # in order of first use
    assert third.inputs == (second.outputs[1],)
    assert first.constants == third.constants == ()


def test_a_value_that_only_a_later_body_captures_is_an_output() -> None:
    graph = parse("""graph @g(%x: f32[T,B,2], %k: f32[B,2]) {
      %n = neg %k : f32[B,2]
      %h, %y = scan carry(h = %k) over(x = %x) {steps = T} {
      ^(%c: f32[B,2], %s: f32[B,2]):
        %m = add %c, %n : f32[B,2]
        yield carry(h = %m) emit(y = %s)
      } : f32[B,2], f32[T,B,2]
      return y = %y
    }""")
    first, second = segment(assign(graph, neg="other.op"))
    assert [v.hint for v in first.outputs] == ["n"]
    assert [v.hint for v in second.inputs] == ["k", "x", "n"]
    assert [v.hint for v in second.outputs] == ["y"]


def test_an_op_without_implementation() -> None:
    graph = parse("graph @g(%x: f32[B]) { %y = neg %x : f32[B] <layer = act>  return y = %y }")
    with pytest.raises(CompileError, match="op 'neg' of layer 'act' has no implementation; a pipeline must"):
        segment(graph)
