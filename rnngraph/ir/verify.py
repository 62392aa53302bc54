"""The verifier: types re-derived by each op's rule, use lists, dominance, acyclic dataflow (by networkx)."""

from __future__ import annotations

from rnngraph.errors import IRError
from rnngraph.ir.core import Block, Graph, Op, Value
from rnngraph.ir.sizes import check_bound


def verify(graph: Graph) -> None:
    """Raise IRError at the first broken invariant; the message names the op, what was expected and found."""
    _verify_block(graph.block, set(), None)
    if graph.block.terminator.name != "return":
        raise IRError(f"graph {graph.name!r} must end with return, got {graph.block.terminator.name}")
    names = graph.input_names
    if len(set(names)) != len(names):
        raise IRError(f"graph {graph.name!r} has two inputs of one name: {list(names)}")
    check_bound(graph)
    _verify_acyclic(graph)


def _verify_acyclic(graph: Graph) -> None:
    import networkx as nx  # here, because it takes longer to import than the whole package

    from rnngraph.ir.networkx_view import to_networkx

    dataflow = to_networkx(graph)
    if not nx.is_directed_acyclic_graph(dataflow):
        cycle = [dataflow.nodes[n]["label"] for n, *_ in nx.find_cycle(dataflow)]
        raise IRError(f"graph {graph.name!r} has a dataflow cycle: {' -> '.join(cycle)}")


def _verify_block(block: Block, outer: set[Value], parent: Op | None) -> None:
    visible = set(outer)
    if block.parent is not parent:
        raise IRError(f"a body's parent is {block.parent!r}, expected {parent!r}")
    for i, arg in enumerate(block.args):
        if arg.owner is not block or arg.index != i:
            raise IRError(f"block argument {i} ({arg!r}) has owner or index wrong")
        _verify_uses(arg)
        visible.add(arg)
    for i, op in enumerate(block.ops):
        if op.parent is not block:
            raise IRError(f"op {op!r} stands in a block that is not its parent")
        if op.opdef.terminator != (i == len(block.ops) - 1):
            raise IRError(f"op {op!r} (position {i}): a block has exactly one terminator, at its end")
        _verify_op(op, visible)
        visible.update(op.results)
    if not block.ops:
        raise IRError("a block must end with a terminator, got an empty block")


def _verify_op(op: Op, visible: set[Value]) -> None:
    for i, v in enumerate(op.operands):
        if v not in visible:
            raise IRError(f"op {op!r}: operand {i} ({v!r}) is not defined before it")
        if (op, i) not in v.uses:
            raise IRError(f"op {op!r}: operand {i} ({v!r}) does not list this use")
    for b in op.blocks:
        _verify_block(b, visible, op)
    types = op.opdef.infer(tuple(v.type for v in op.operands), op.attrs, op.blocks)
    got = tuple(r.type for r in op.results)
    if types != got:
        raise IRError(f"op {op!r}: results should be ({', '.join(map(str, types))}), "
                      f"got ({', '.join(map(str, got))})")
    for i, r in enumerate(op.results):
        if r.owner is not op or r.index != i:
            raise IRError(f"op {op!r}: result {i} has owner or index wrong")
        _verify_uses(r)


def _verify_uses(value: Value) -> None:
    for op, i in value.uses:
        if i >= len(op.operands) or op.operands[i] is not value:
            raise IRError(f"{value!r} lists a use as operand {i} of {op!r}, which has another operand there")
        if op.parent is None:
            raise IRError(f"{value!r} is used by {op!r}, which stands in no block")
