"""Copies of graphs and bodies. Constants are shared: literals are immutable."""

from __future__ import annotations

from rnngraph.ir.core import Block, Graph, Op, Value


def clone_op(op: Op, mapping: dict[Value, Value]) -> Op:
    """A detached copy; operands go through ``mapping`` (values not in it are kept: captures)."""
    blocks = tuple(clone_block(b, mapping) for b in op.blocks)
    new = Op(op.opdef, op.attrs, op.layer, op.impl, blocks)
    for b in blocks:
        b.parent = new
    new.set_operands(mapping.get(v, v) for v in op.operands)
    new.results = tuple(Value(r.type, new, r.index, r.hint) for r in op.results)
    mapping.update(zip(op.results, new.results, strict=True))
    return new


def clone_block(block: Block, mapping: dict[Value, Value]) -> Block:
    new = Block()
    for arg in block.args:
        mapping[arg] = new.add_arg(arg.type, arg.hint)
    for op in block.ops:
        new.append(clone_op(op, mapping))
    return new


def clone_graph(graph: Graph) -> Graph:
    return Graph(graph.name, clone_block(graph.block, {}), dict(graph.longest))


def inline_block(block: Block, args: dict[Value, Value], into: Block, at: int) -> list[Value]:
    """Copy a body's ops (without terminator) into ``into`` at index ``at``; returns what it would have yielded."""
    mapping = dict(args)
    for i, op in enumerate(block.body):
        into.insert(at + i, clone_op(op, mapping))
    return [mapping.get(v, v) for v in block.terminator.operands]
