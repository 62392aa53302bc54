"""Copies of graphs and bodies. Constants are shared: literals are immutable."""

from __future__ import annotations

from collections.abc import Callable

from rnngraph.ir.builder import Builder
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


def alone(op: Op, keep: Callable[[Value], bool]) -> Graph:
    """A graph of ``op`` alone: what it reads are inputs x0, x1, ..., but what ``keep`` holds for is copied with it."""
    graph, mapping = Graph(op.name), dict[Value, Value]()

    def bring(v: Value) -> None:
        if v in mapping:
            return
        if v.op is None or not keep(v):
            mapping[v] = graph.add_input(v.type, f"x{len(graph.inputs)}")
            return
        for operand in v.op.operands:
            bring(operand)
        graph.block.append(clone_op(v.op, mapping))

    for v in (*op.operands, *(v for b in op.blocks for v in b.captures())):
        bring(v)
    new = clone_op(op, mapping)
    graph.block.append(new)
    Builder(graph.block).ret({f"y{i}": r for i, r in enumerate(new.results)})
    return graph


def inline_block(block: Block, args: dict[Value, Value], into: Block, at: int) -> list[Value]:
    """Copy a body's ops (without terminator) into ``into`` at index ``at``; returns what it would have yielded."""
    mapping = dict(args)
    for i, op in enumerate(block.body):
        into.insert(at + i, clone_op(op, mapping))
    return [mapping.get(v, v) for v in block.terminator.operands]
