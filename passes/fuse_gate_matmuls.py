"""fuse-gate-matmuls: matmuls (or convolutions) that share their left operand become one, with their weights side by
side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import Block, Builder, Graph, Op, Value
from rnngraph.ir.grid_ops import ConvAttrs
from rnngraph.ir.ops import CONST, MATMUL
from rnngraph.rewrite import Miss, Pass, PassContext


@dataclass(frozen=True, slots=True)
class Plan:
    """Matmuls of one left operand, in order, that become one."""

    matmuls: tuple[Op, ...]

    @property
    def layer(self) -> str:
        return common_layer([op.layer for op in self.matmuls])


@dataclass(frozen=True)
class FuseGateMatmuls(Pass):
    """x@W1, x@W2, ... -> slices of x@concat(W1, W2, ...), in the order of first appearance.

    In a scan body the weights must come from outside it, elsewhere they must be computed from constants. The concat
    stands in front of the scan; fold-constants makes it one array.
    """

    name: ClassVar[str] = "fuse-gate-matmuls"

    def run(self, graph: Graph, context: PassContext) -> None:
        _run(graph.block, context)


def _run(block: Block, context: PassContext) -> None:
    for op in block.body:
        for body in op.blocks:
            _run(body, context)
    for group in groups(block):
        plan = find(group)
        if isinstance(plan, Miss):
            context.missed(plan)
            continue
        left = [op for op in group if op not in plan.matmuls]
        if left:
            context.missed(_computed(left))
        context.applied(plan.layer, apply(plan))


def groups(block: Block) -> list[list[Op]]:
    """The matmuls by a matrix, by left operand; only where there are two or more."""
    by_left: dict[tuple[object, ...], list[Op]] = {}
    for op in block.body:
        if _is_product(op) and isinstance(op.result.shape[-1], int):
            by_left.setdefault((op.operands[0], op.opdef.name, op.attrs, op.operands[1].shape[:-1]), []).append(op)
    return [group for group in by_left.values() if len(group) > 1]


def _is_product(op: Op) -> bool:
    """A matmul by a matrix, or a convolution of all channels."""
    if isinstance(op.attrs, ConvAttrs):
        return op.attrs.groups == 1
    return op.opdef is MATMUL and op.operands[1].type.rank == 2


def find(group: Sequence[Op]) -> Plan | Miss:
    """The members whose weights are ready before the block starts."""
    ready = tuple(op for op in group if _ready(op.operands[1], op))
    if len(ready) > 1:
        return Plan(ready)
    return _computed([op for op in group if op not in ready])


def _computed(matmuls: Sequence[Op]) -> Miss:
    weights = ", ".join(dict.fromkeys(_named(op.operands[1]) for op in matmuls))
    left = _named(matmuls[0].operands[0])
    why = "not constants" if enclosing(matmuls[0]) is None else "computed inside the step"
    return Miss(f"the weights {weights} of matmuls of {left} are {why}: they cannot stand side by side beforehand",
                common_layer([m.layer for m in matmuls]))


def enclosing(op: Op) -> Op | None:
    """The scan in whose body an op stands."""
    return op.parent.parent if op.parent is not None else None


def _ready(weights: Value, user: Op) -> bool:
    """From outside the scan body, or computed from constants alone."""
    block = user.parent
    if block is not None and block.parent is not None and weights.block is not block:
        return True
    stack = [weights]
    while stack:
        op = stack.pop().op
        if op is None or op.blocks or not op.opdef.pure or (op.opdef is not CONST and not op.operands):
            return False
        stack.extend(op.operands)
    return True


def apply(plan: Plan) -> str:
    """Build the fused matmul in place of the first; returns what was done, as a sentence."""
    first = plan.matmuls[0]
    x = first.operands[0]
    weights = list(dict.fromkeys(op.operands[1] for op in plan.matmuls))
    anchor = enclosing(first) or first
    for w in weights:
        _raise_above(w, anchor, first)
    outside, b = Builder.at(anchor), Builder.at(first)
    outside.layer = b.layer = plan.layer
    joined = outside.concat(weights, -1)
    fused = b.op(first.opdef, x, joined, attrs=first.attrs, hint="gates")
    at: dict[Value, int] = {}
    offset = 0
    for w in weights:
        at[w] = offset
        offset += _size(w)
    for op in plan.matmuls:
        w = op.operands[1]
        op.result.replace_by(Builder.at(op).slice(fused, -1, at[w], _size(w)))
        op.erase()
    what = "matmuls" if first.opdef is MATMUL else "convolutions"
    return f"{len(plan.matmuls)} {what} of {_named(x)} became one by {joined.type}"


def _size(weights: Value) -> int:
    size = weights.shape[-1]
    assert isinstance(size, int)
    return size


def _raise_above(value: Value, anchor: Op, user: Op) -> None:
    """Move the computation of a constant in front of ``anchor``: out of the user's body, or up in its block."""
    op, block = value.op, user.parent
    if op is None or block is None or op.parent is not block:
        return
    if anchor is user and block.ops.index(op) < block.ops.index(anchor):
        return
    for operand in op.operands:
        _raise_above(operand, anchor, user)
    op.move_before(anchor)


def _named(value: Value) -> str:
    return f"%{value.hint}" if value.hint else str(value.type)


def common_layer(layers: Sequence[str]) -> str:
    """The deepest layer path that holds all of them: "enc/forward" and "enc/backward" -> "enc"."""
    common = layers[0].split("/") if layers else []
    for layer in layers[1:]:
        parts = layer.split("/")
        n = 0
        while n < min(len(common), len(parts)) and common[n] == parts[n]:
            n += 1
        common = common[:n]
    return "/".join(common)
