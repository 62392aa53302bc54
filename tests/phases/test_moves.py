"""Where moves stand in a schedule: what a stage reads comes before it, views of its values come behind."""

from __future__ import annotations

import pytest

import rnngraph as rg
from rnngraph.ir import Graph, Op, Value, parse
from rnngraph.nn import RNN, GLSTMCell, Input
from rnngraph.phases.stages import Schedule, Stage, build_schedule


def scheduled(text: str) -> tuple[Schedule, Graph]:
    graph = parse(text)
    return build_schedule(graph.block.body, graph.outputs), graph


def assert_in_order(schedule: Schedule, graph: Graph) -> None:
    """Every value that an item reads is an input, a constant, or made by an item before it."""
    known: set[Value] = set(graph.inputs)
    for item in schedule.items:
        reads = item.reads() if isinstance(item, Stage) else item.operands
        for v in reads:
            assert v in known or (v.op is not None and v.op.name == "const"), f"%{v.hint} is read before it is there"
        known.update(item.writes() if isinstance(item, Stage) else item.results)
    assert set(graph.outputs) <= known


def names(schedule: Schedule) -> list[str]:
    return ["stage" if isinstance(item, Stage) else item.name for item in schedule.items]


def test_a_move_that_an_open_stage_reads_through_a_slice_stands_in_front() -> None:
    """The second step of an unrolled loop: its slice is cut from a reshape that is no lane view."""
    schedule, graph = scheduled("""graph @main(%x: f32[B,2,6], %h: f32[B,3]) {
  %a = tanh %h : f32[B,3]
  %s = slice %x {axis = 1, start = 1, size = 1, step = 1} : f32[B,1,6]
  %t = transpose %s {perm = [1, 0, 2]} : f32[1,B,6]
  %r = reshape %t {shape = [B, 6]} : f32[B,6]
  %p = slice %r {axis = 1, start = 3, size = 3, step = 1} : f32[B,3]
  %n = add %a, %p : f32[B,3]
  return y = %n
}""")
    assert names(schedule) == ["slice", "transpose", "reshape", "stage"]
    assert_in_order(schedule, graph)


def test_a_lane_view_of_an_open_stage_stays_within_it() -> None:
    schedule, graph = scheduled("""graph @main(%h: f32[B,6]) {
  %a = tanh %h : f32[B,6]
  %p = slice %a {axis = 1, start = 3, size = 3, step = 1} : f32[B,3]
  %q = slice %p {axis = 1, start = 1, size = 2, step = 1} : f32[B,2]
  %n = relu %q : f32[B,2]
  return y = %n, p = %p
}""")
    assert names(schedule) == ["stage", "slice"]
    assert_in_order(schedule, graph)


def test_another_move_of_its_values_ends_a_stage() -> None:
    schedule, graph = scheduled("""graph @main(%h: f32[B,6]) {
  %a = tanh %h : f32[B,6]
  %r = reshape %a {shape = [B, 1, 6]} : f32[B,1,6]
  %b = relu %h : f32[B,6]
  %n = relu %r : f32[B,1,6]
  return y = %n, b = %b
}""")
    assert names(schedule) == ["stage", "reshape", "stage", "stage"]
    assert_in_order(schedule, graph)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_unrolled_loops_over_slices_of_the_input(steps: int) -> None:
    layer = RNN(GLSTMCell(8, number_of_groups=2), unroll=True, return_sequences=True)
    model = rg.compile(layer, Input(("batch", steps, 6)), target="cpu")
    ops: list[Op] = model.program.graph.block.body
    assert {op.impl.split(".")[0] for op in ops if op.impl} == {"llvm"}
    assert_in_order(build_schedule(ops, model.program.graph.outputs), model.program.graph)
