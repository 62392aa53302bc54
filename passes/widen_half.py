"""widen-half: networks of f16 compute in f32."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Final

from rnngraph.ir import F16, F32, Builder, Graph, Literal, Op, Value, ops
from rnngraph.ir.ops import ConstAttrs
from rnngraph.passes.select_implementation import expected_dims
from rnngraph.rewrite import Pass, PassContext

HEAVY: Final = frozenset({"matmul", "conv", "conv_transpose", "scan", "rnn"})


@dataclass(frozen=True)
class WidenHalf(Pass):
    """In a graph with products or loops of f16, every value of f16 becomes one of f32.

    CPUs have no arithmetic of f16; numpy's is slow, and rounds after each op. On a GPU a graph stays as it is where
    an implementation takes each of its products and loops in f16, as cuDNN does. What is f16 to the model's owner,
    inputs, outputs and the results of casts, is rounded as before. Graphs of f16 without products and loops stay as
    they are.
    """

    name: ClassVar[str] = "widen-half"

    def run(self, graph: Graph, context: PassContext) -> None:
        heavy = [op for op in graph.walk() if op.name in HEAVY and any(v.type.dtype is F16 for v in op.operands)]
        if not heavy or _runs_as_it_is(graph, heavy, context):
            return
        end = graph.block.terminator
        rounded = [v.type.dtype is F16 for v in end.operands]
        for op in list(graph.walk()):
            for block in op.blocks:
                for arg in block.args:
                    _widen(arg)
            _widen_op(op)
        start = Builder(graph.block, graph.block.ops[0])
        for x in graph.inputs:
            if x.type.dtype is F16:
                _read_as(x, start)
        b = Builder(graph.block, end, end.layer)
        end.set_operands([b.cast(v, F16) if narrow and v.type.dtype is not F16 else v
                          for v, narrow in zip(end.operands, rounded, strict=True)])
        for op in list(graph.walk()):
            if op.opdef is ops.CAST and op.result.type == op.operands[0].type:  # of what was f16
                op.result.replace_by(op.operands[0])
                op.erase()
        context.applied(heavy[0].layer, f"f16 is computed in f32: {len(heavy)} products and loops")


def _runs_as_it_is(graph: Graph, heavy: list[Op], context: PassContext) -> bool:
    """Whether a GPU has an implementation for f16 of every one: it is fast with f16, and sums in f32."""
    if context.target != "gpu" or context.registry is None or any(op.parent is not graph.block for op in heavy):
        return False
    dims = expected_dims(graph, context.dims)
    return all(any(not c.failures and not c.implementation.last for c in context.registry.consider(op, "gpu", dims))
               for op in heavy)


def _widen(value: Value) -> None:
    if value.type.dtype is F16:
        value.type = value.type.with_dtype(F32)


def _widen_op(op: Op) -> None:
    if op.opdef is ops.CAST and op.result.type.dtype is F16:
        assert op.parent is not None
        _read_as(op.result, Builder(op.parent, op.parent.ops[op.parent.ops.index(op) + 1], op.layer))
        return
    if isinstance(op.attrs, ConstAttrs) and op.attrs.value.dtype is F16:
        op.attrs = ConstAttrs(Literal(op.attrs.value.array, F32))
    changed: dict[str, Any] = {f.name: F32 for f in fields(op.attrs) if getattr(op.attrs, f.name) is F16}
    if changed:
        op.attrs = replace(op.attrs, **changed)
    for result in op.results:
        _widen(result)


def _read_as(value: Value, b: Builder) -> None:
    """Whatever reads the value of f16 reads it as f32."""
    readers = list(value.uses)
    wide = b.cast(value, F32)
    for op, i in readers:
        op.set_operand(i, wide)
