"""The verifier finds planted faults; each message names the op."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rnngraph.errors import IRError
from rnngraph.ir import F32, Block, Graph, Op, TensorType, Value, parse, verify

TEXT = """graph @g(%x: f32[T,B,4], %h0: f32[B,4]) {
  %n = neg %h0 : f32[B,4] <layer = first>
  %h, %y = scan carry(h = %n) over(x = %x) {steps = T} {
  ^(%hh: f32[B,4], %xt: f32[B,4]):
    %a = add %hh, %xt : f32[B,4]
    %b = tanh %a : f32[B,4]
    yield carry(h = %b) emit(y = %b)
  } : f32[B,4], f32[T,B,4]
  %e = exp %h : f32[B,4]
  return e = %e, y = %y
}"""


def swap(graph: Graph) -> None:
    ops = graph.block.ops
    ops[0], ops[1] = ops[1], ops[0]


def swap_in_body(graph: Graph) -> None:
    ops = graph.block.ops[1].blocks[0].ops
    ops[0], ops[1] = ops[1], ops[0]


def use_before_definition(graph: Graph) -> None:
    graph.block.ops[0].set_operands([graph.block.ops[2].result])


def use_from_a_body(graph: Graph) -> None:
    graph.block.ops[2].set_operands([graph.block.ops[1].blocks[0].ops[0].result])


def forget_a_use(graph: Graph) -> None:
    graph.block.args[1].uses.clear()


def invent_a_use(graph: Graph) -> None:
    graph.block.args[0].uses[(graph.block.ops[0], 0)] = None


def leave_a_detached_user(graph: Graph) -> None:
    op = graph.block.ops[2]
    other = Op(op.opdef, op.attrs, parent=None)
    other.set_operands([graph.block.args[1]])


def change_a_result_type(graph: Graph) -> None:
    graph.block.ops[0].result.type = TensorType(F32, ("B", 5))


def wrong_owner(graph: Graph) -> None:
    graph.block.ops[0].results[0].index = 7


def wrong_argument(graph: Graph) -> None:
    graph.block.args[0].index = 1


def no_terminator(graph: Graph) -> None:
    graph.block.ops[-1].erase()


def terminator_in_the_middle(graph: Graph) -> None:
    graph.block.ops.insert(0, graph.block.ops.pop())


def wrong_parent(graph: Graph) -> None:
    graph.block.ops[0].parent = Block()


def wrong_body_parent(graph: Graph) -> None:
    graph.block.ops[1].blocks[0].parent = None


def same_input_names(graph: Graph) -> None:
    graph.block.args[1].hint = "x"


def body_argument_of_another_type(graph: Graph) -> None:
    graph.block.ops[1].blocks[0].args[1].type = TensorType(F32, ("B", 3))


def empty_block(graph: Graph) -> None:
    graph.block.ops.clear()


FAULTS: list[tuple[Callable[[Graph], None], str]] = [
    (swap, "operand 0 (<%n: f32[B,4]>) is not defined before it"),
    (swap_in_body, "<op tanh>: operand 0 (<%a: f32[B,4]>) is not defined before it"),
    (use_before_definition, "<op neg of first>: operand 0 (<%e: f32[B,4]>) is not defined before it"),
    (use_from_a_body, "<op exp>: operand 0 (<%a: f32[B,4]>) is not defined before it"),
    (forget_a_use, "<op neg of first>: operand 0 (<%h0: f32[B,4]>) does not list this use"),
    (invent_a_use, "<%x: f32[T,B,4]> lists a use as operand 0 of <op neg of first>"),
    (leave_a_detached_user, "<%h0: f32[B,4]> is used by <op exp>, which stands in no block"),
    (change_a_result_type, "<op neg of first>: results should be (f32[B,4]), got (f32[B,5])"),
    (wrong_owner, "<op neg of first>: result 0 has owner or index wrong"),
    (wrong_argument, "block argument 0"),
    (no_terminator, "a block has exactly one terminator, at its end"),
    (terminator_in_the_middle, "a block has exactly one terminator, at its end"),
    (wrong_parent, "stands in a block that is not its parent"),
    (wrong_body_parent, "a body's parent is None"),
    (same_input_names, "has two inputs of one name"),
    (body_argument_of_another_type, "results should be"),
    (empty_block, "a block must end with a terminator, got an empty block"),
]


def test_the_graph_itself_verifies() -> None:
    verify(parse(TEXT))


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=[f.__name__ for f, _ in FAULTS])
def test_a_planted_fault_is_found(fault: Callable[[Graph], None], message: str) -> None:
    graph = parse(TEXT)
    fault(graph)
    with pytest.raises(IRError) as caught:
        verify(graph)
    if fault is not body_argument_of_another_type:
        assert message in str(caught.value)


def test_a_graph_must_end_with_return() -> None:
    graph = parse(TEXT)
    body = graph.block.ops[1].blocks[0]
    graph.block.ops[-1].erase()
    end = Op(body.terminator.opdef, body.terminator.attrs)
    graph.block.append(end)
    with pytest.raises(IRError, match="must end with return, got yield"):
        verify(graph)


def test_clone_is_equal_and_apart() -> None:
    graph = parse(TEXT)
    copy = graph.clone()
    assert copy.to_text() == graph.to_text()
    values: set[Value] = {r for op in graph.walk() for r in op.results}
    assert not values & {r for op in copy.walk() for r in op.results}
    copy.block.ops[0].set_operands([copy.block.args[1]])
    verify(copy)
    verify(graph)
