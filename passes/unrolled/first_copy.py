"""Recognises a first copy that was simplified because its state is zero (no recurrent matmul, constants folded)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnngraph.ir import Array, Builder, Graph, Interpreter, Op, Value, ops
from rnngraph.ir.clone import clone_op
from rnngraph.ir.ops import BroadcastAttrs, ConstAttrs, ReturnAttrs, SliceAttrs
from rnngraph.passes._layout_patterns import LAYOUT_PATTERNS
from rnngraph.passes._move_patterns import MOVE_PATTERNS
from rnngraph.passes._scalar_patterns import SCALAR_PATTERNS, elementwise_of_broadcasts, producer, splat_of
from rnngraph.passes.cse import Cse
from rnngraph.passes.fold_constants import FoldConstants
from rnngraph.passes.recognize.pairs import depends_on
from rnngraph.passes.unrolled.region import Region, is_commutative
from rnngraph.passes.unrolled.template import LEAVES, Node, Template
from rnngraph.rewrite import PassContext, pattern, rewrite

MAX_ELEMENTS = 2**22
BOUNDED = frozenset({"sigmoid", "tanh"})


@pattern(ops.MATMUL)
def matmul_of_zero(op: Op, b: Builder) -> list[Value] | None:
    """0 @ w -> 0   for a constant w of finite numbers"""
    x, w = op.operands
    weight = producer(w, ops.CONST)
    if splat_of(x) != 0 or weight is None or not isinstance(weight.attrs, ConstAttrs):
        return None
    return [b.zeros(op.result.type)] if np.isfinite(weight.attrs.value.array).all() else None


@pattern(ops.MUL)
def product_with_zero(op: Op, b: Builder) -> list[Value] | None:
    """f(x) * 0 -> 0   for f = sigmoid, tanh, and 1 - sigmoid: what is bounded"""
    x, y = op.operands
    if splat_of(y) != 0 and splat_of(x) == 0:
        x, y = y, x
    if splat_of(y) != 0:
        return None
    source = x.op
    if source is not None and source.name == "sub" and splat_of(source.operands[0]) is not None:
        source = source.operands[1].op
    return [y] if source is not None and source.name in BOUNDED else None


@pattern(ops.ADD)
def zero_to_the_left(op: Op, b: Builder) -> list[Value] | None:
    """0 + x -> x"""
    return [op.operands[1]] if splat_of(op.operands[0]) == 0 else None


PATTERNS = (matmul_of_zero, product_with_zero, zero_to_the_left, *SCALAR_PATTERNS, *MOVE_PATTERNS, *LAYOUT_PATTERNS)
# What was a constant array in the copy may be a broadcast in the step, so that only one of the two sinks below it.
WITHOUT_SINKING = tuple(p for p in PATTERNS if p is not elementwise_of_broadcasts)


@dataclass(slots=True)
class FirstCopy:
    """What the leaves of the step are in the first copy, and the copy's own ops."""

    leaves: dict[Node, Value]
    ops: set[Op]


def find_first_copy(template: Template) -> FirstCopy | None:
    """The copy that computes what the states start with, out of zeros; None when there is none."""
    region = template.region
    starts = [node.values[0] for node in template.states]
    if any(v.op is None or region.is_fixed(v) for v in starts):
        return None
    for patterns in (PATTERNS, WITHOUT_SINKING):
        step, named = _step_on_zeros(template)
        found, cut, own = _copy(template, starts)
        for graph in (step, found):
            for _ in range(2):
                rewrite(graph, patterns)
                FoldConstants().run(graph, PassContext())
            Cse().run(graph, PassContext())
        matching = _Matching(named, cut, 20 * len(template.nodes) + 200)
        if all(map(matching.match, step.outputs, found.outputs)):
            leaves = {n: v for n, v in matching.bound.items() if n.kind in LEAVES}
            return FirstCopy(leaves, own) if _fits(template, leaves, starts) else None
    return None


def _step_on_zeros(template: Template) -> tuple[Graph, dict[Value, Node]]:
    """The step whose states are zero; its inputs are what it reads besides them."""
    graph, image, named = Graph("step"), dict[Value, Value](), dict[Value, Node]()
    for i, node in enumerate(template.nodes.values()):
        if node.kind == "state":
            image[node.last] = Builder(graph.block).zeros(node.last.type)
        elif node.kind in ("sequence", "stack") or (node.kind == "same" and not template.region.is_fixed(node.last)):
            image[node.last] = arg = graph.add_input(node.last.type, f"v{i}")
            named[arg] = node
    needed = [node.last for node in template.nodes.values() if node.kind == "op"]
    needed += [n.last for n in template.nodes.values() if n.kind == "same"]
    _clone(template.region, needed, image, graph)
    _end(graph, [image[node.following[-1]] for node in template.states])
    return graph, named


def _copy(template: Template, starts: list[Value]) -> tuple[Graph, dict[Value, Value], set[Op]]:
    """What computes ``starts``, down to values that leaves of the step may be: (graph, its inputs' values, its ops)."""
    region, graph = template.region, Graph("copy")
    same = {n.last for n in template.nodes.values() if n.kind == "same"}
    before = {(n.source, n.axis, n.start - n.stride) for n in template.leaves if n.source is not None}
    kinds = {region.key(n.values[0].op) for n in template.leaves if n.kind == "stack" and n.values[0].op is not None}
    image: dict[Value, Value] = {}
    cut: dict[Value, Value] = {}
    seen, stack = set[Op](), list(starts)
    limit = 4 * len(template.nodes) + 100
    while stack:
        value = stack.pop()
        op = value.op
        if value in image or op in seen:
            continue
        ends = op is None or op.blocks or (value in same and not region.is_fixed(value)) or len(seen) >= limit
        if op is not None and isinstance(op.attrs, SliceAttrs):
            ends = ends or (op.operands[0], op.attrs.axis, op.attrs.start) in before
        if op is None or ends or region.key(op) in kinds:
            image[value] = graph.add_input(value.type, f"v{len(cut)}")
            cut[image[value]] = value
            continue
        seen.add(op)
        stack.extend(op.operands)
    _clone(region, starts, image, graph)
    _end(graph, [image[v] for v in starts])
    return graph, cut, seen


def _clone(region: Region, values: list[Value], image: dict[Value, Value], graph: Graph) -> None:
    """Append the ops that compute ``values``, down to values that have an image."""
    needed, stack = set[Op](), [v.op for v in values if v not in image]
    while stack:
        op = stack.pop()
        if op is not None and op not in needed and op in region.place:
            needed.add(op)
            stack.extend(v.op for v in op.operands if v not in image)
    for op in sorted(needed, key=region.place.__getitem__):
        graph.block.append(clone_op(op, image))


def _end(graph: Graph, values: list[Value]) -> None:
    op = Op(ops.RETURN, ReturnAttrs(tuple(f"y{i}" for i in range(len(values)))))
    op.set_operands(values)
    graph.block.append(op)


class _Matching:
    """Compares the step with the copy, both simplified; leaves of the step are bound on the way."""

    def __init__(self, named: dict[Value, Node], cut: dict[Value, Value], tries: int) -> None:
        self.named = named
        self.cut = cut
        self.bound: dict[Node, Value] = {}
        self._tries = tries

    def match(self, a: Value, v: Value) -> bool:
        self._tries -= 1
        if self._tries < 0 or a.type != v.type:
            return False
        if (node := self.named.get(a)) is not None:
            real = self.cut.get(v)
            if real is None or node.kind == "same":
                return real is node.values[0]
            return self.bound.setdefault(node, real) is real
        p, q = a.op, v.op
        if p is None or q is None:
            return False
        if _same_constant(a, v):
            return True
        if p.opdef is not q.opdef or p.attrs != q.attrs or a.index != v.index or not p.operands:
            return False
        orders = [q.operands]
        if is_commutative(q) and len(q.operands) == 2:
            orders.append(q.operands[::-1])
        for order in orders:
            bound = dict(self.bound)
            if all(map(self.match, p.operands, order)):
                return True
            self.bound = bound
        return False


def _same_constant(a: Value, v: Value) -> bool:
    x, y = constant(a), constant(v)
    if x is not None and y is not None:
        return bool(np.array_equal(x, y))
    p, q = producer(a, ops.BROADCAST), producer(v, ops.BROADCAST)
    return p is not None and q is not None and p.attrs == q.attrs and _same_constant(p.operands[0], q.operands[0])


def constant(value: Value) -> Array | None:
    """The array that a constant, or a broadcast of one, holds; None for others, symbolic and large ones."""
    op = value.op
    if op is None:
        return None
    if isinstance(op.attrs, ConstAttrs):
        return op.attrs.value.array
    sizes = [d for d in value.shape if isinstance(d, int)]
    if not isinstance(op.attrs, BroadcastAttrs) or len(sizes) < value.type.rank or np.prod(sizes) > MAX_ELEMENTS:
        return None
    inner = constant(op.operands[0])
    return None if inner is None else np.asarray(op.opdef.evaluate(Interpreter({}), op, [inner])[0])


def _fits(template: Template, leaves: dict[Node, Value], starts: list[Value]) -> bool:
    """Whether every leaf has a value in front of its first one, and none is computed from the copy."""
    for node in template.leaves:
        value = leaves.get(node)
        if not (value is not None if node.kind == "stack" else _is_before(node, value)):
            return False
    given = list(leaves.values())
    return not any(depends_on(given, v.op) for v in starts if v.op is not None)


def _is_before(node: Node, value: Value | None) -> bool:
    assert node.source is not None
    dim, at = node.source.shape[node.axis], node.start - node.stride
    if at < 0 or (isinstance(dim, int) and at >= dim):
        return False
    if value is None:
        return True
    op = value.op
    return (op is not None and isinstance(op.attrs, SliceAttrs) and op.operands[0] is node.source
            and (op.attrs.axis, op.attrs.size, op.attrs.start) == (node.axis, 1, at))
