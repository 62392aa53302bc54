"""The step that all frames share: each vector of values is a state, an op, a step of a sequence, or one fixed value."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, Protocol

from rnngraph.ir import Op, Value
from rnngraph.ir.ops import SliceAttrs
from rnngraph.passes.unrolled.chains import PRODUCTS
from rnngraph.passes.unrolled.frames import Vector, difference
from rnngraph.passes.unrolled.region import Mismatch, Region, is_commutative

LEAST_STACKED = 3  # copies whose inputs are neither of one sequence nor the graph's own
JOINS = ("concat", "return")
LEAVES = ("sequence", "stack")
Kind = Literal["op", "state", "sequence", "stack", "same"]


@dataclass(eq=False, slots=True)
class Node:
    """What one value of the step is, in every frame.

    op        the result of the like ops of all frames; ``operands`` are their nodes, in the last frame's order
    state     what ``following`` was a frame ago, ``values[0]`` in the first
    sequence  elements ``start``, ``start + stride``, ... along ``axis`` of ``source``
    stack     values from outside, one a frame
    same      one value from outside
    """

    kind: Kind
    values: Vector
    operands: list[Node] = field(default_factory=list)
    following: Vector = ()
    source: Value | None = None
    axis: int = 0
    start: int = 0
    stride: int = 0

    @property
    def last(self) -> Value:
        """The value in the last frame, which stands for all: the first may be written differently."""
        return self.values[-1]


class CopiesFound(Protocol):
    """What `Frames` gives: values by frame."""

    region: Region
    count: int
    vectors: dict[Value, Vector]
    slot: dict[Value, tuple[Value, int]]

    def root(self) -> Vector: ...


class Template:
    """The nodes that the states of ``frames`` need. Mismatch when the frames are not copies of one step."""

    def __init__(self, frames: CopiesFound, *, heads: bool = True) -> None:
        self.region = frames.region
        self.frames = frames
        self.count = frames.count
        self.nodes: dict[Vector, Node] = {}
        self._queue: list[Node] = []
        self._need(frames.root())
        self.states = [n for n in self.nodes.values() if n.kind == "state"]
        if heads:
            self._take_heads()
        self.leaves = [n for n in self.nodes.values() if n.kind in LEAVES]
        self.steps = self._varying()
        if not self.states:
            raise Mismatch("the copies do not depend on each other", near=False)
        self._check_worth()
        self._check_roles()
        self._check_sources()

    # --- nodes ---------------------------------------------------------------------------------------------------

    def _need(self, values: Vector) -> None:
        """Add the node of ``values`` and all that it needs."""
        self._node(values)
        while self._queue:
            self._expand(self._queue.pop())

    def _take_heads(self) -> None:
        """Add what every copy computes from its states for an output of each step, and for nothing else."""
        nodes = {n.last: n for n in self.nodes.values()}
        varying = {n.last for n in self._varying()}
        start = min(self.region.place[v.op] for v in varying if v.op is not None)
        found: dict[Op, Node] = {}
        for op in self.region.ops[start:]:
            if len(op.results) == 1 and op.result not in nodes and any(v in varying for v in op.operands):
                head = self._head(op, nodes, next(v for v in op.operands if v in varying))
                if head is not None:
                    found[op] = nodes[op.result] = head
                    varying.add(op.result)
        ends: set[Op] = {v.op for v in varying if v.op is not None and v.op not in found}
        for op in reversed(list(found)):
            users = op.result.users()
            if all(u in ends or _is_joined(u) for u in users) and \
                    ("move" not in op.opdef.tags or any(u in found and u in ends for u in users)):
                ends.add(op)
        for op, head in found.items():
            if op in ends:
                for node in (*head.operands, head):
                    self.nodes[node.values] = node

    def _head(self, op: Op, nodes: dict[Value, Node], along: Value) -> Node | None:
        """The node of ``op``, of the last copy, with its likes in all other copies; None where one has none."""
        operands = [nodes.get(v) or (Node("same", (v,) * self.count) if self.region.is_fixed(v) else None)
                    for v in op.operands]
        known = [n for n in operands if n is not None]
        if len(known) < len(operands) or op.blocks or not self.region.is_alike(op, op):
            return None
        values: list[Value] = []
        for t in range(self.count):
            want = tuple(n.values[t] for n in known)
            orders = (want, want[::-1]) if is_commutative(op) else (want,)
            users = (u for u in nodes[along].values[t].users() if u.parent is self.region.block)
            like = next((u for u in users if u.operands in orders and self.region.is_alike(u, op)), None)
            if like is None:
                return None
            values.append(like.result)
        return Node("op", tuple(values), operands=known)

    def _node(self, values: Vector) -> Node:
        if values not in self.nodes:
            node = self.nodes[values] = self._classify(values)
            self._queue.append(node)
        return self.nodes[values]

    def _classify(self, values: Vector) -> Node:
        first = values[0]
        if all(v is first for v in values):
            return Node("same", values)
        if self.frames.vectors.get(first) == values:
            return Node("op", values)
        following = self.frames.vectors.get(values[1])
        if following is not None and following[:-1] == values[1:]:
            return Node("state", values, following=following)
        if any(v.type != first.type for v in values):
            raise Mismatch("the copies compute on different shapes")
        if (found := _sequence(values)) is not None:
            return found
        if self._alike(values):
            return Node("op", values)
        return self._stack(values)

    def _alike(self, values: Vector) -> bool:
        ops = [v.op for v in values]
        last = ops[-1]
        if last is None or last.parent is not self.region.block or not last.operands:
            return False
        return all(op is not None and op.parent is self.region.block and self.region.is_alike(op, last)
                   and op.results[v.index] is v and v.index == values[-1].index
                   for op, v in zip(ops, values, strict=True))

    def _stack(self, values: Vector) -> Node:
        if any(map(self.region.is_fixed, values)):
            a, b = next((x, y) for x, y in pairwise(values) if x is not y)
            found = difference(self.region, a, b, {})
            raise Mismatch(f"the copies differ: {found.reason if found is not None else 'a constant'}")
        slices = [v.op for v in values if v.op is not None and isinstance(v.op.attrs, SliceAttrs)]
        if len(slices) == len(values) and len({s.operands[0] for s in slices}) == 1:
            raise Mismatch("the copies do not read the steps of their sequence one after another")
        if not self._are_independent(values):
            raise Mismatch("the copies read the states of a recurrence that is not a scan", near=False)
        return Node("stack", values)

    def _expand(self, node: Node) -> None:
        if node.kind == "state":
            self._node(node.following)
        elif node.kind == "op":
            ops = [v.op for v in node.values]
            last = ops[-1]
            assert last is not None
            columns: list[Vector] = []
            rows = [op.operands if op is not None and op is not last else last.operands for op in ops]
            if is_commutative(last) and len(last.operands) == 2:
                want = self._roles(last.operands, self.count - 1)
                rows = [row if self._roles(row, t) == want or self._roles(row[::-1], t) != want else row[::-1]
                        for t, row in enumerate(rows)]
            columns = [tuple(row[i] for row in rows) for i in range(len(last.operands))]
            node.operands = [self._node(c) for c in columns]

    def _roles(self, operands: Vector, frame: int) -> list[object]:
        """What kinds of operands these are, to tell the order of a commutative op."""
        found: list[object] = []
        for v in operands:
            where = self.frames.slot.get(v)
            if where is not None and frame - where[1] in (0, 1):
                found.append((where[0], frame - where[1]))
            elif self.region.is_fixed(v):
                found.append(v)
            else:
                found.append(v.op.name if v.op is not None else "")
        return found

    # --- checks --------------------------------------------------------------------------------------------------

    def _varying(self) -> set[Node]:
        """The ops that depend on a state."""
        users: dict[Node, list[Node]] = {}
        for node in self.nodes.values():
            for operand in node.operands:
                users.setdefault(operand, []).append(node)
        found: set[Node] = set()
        stack: list[Node] = list(self.states)
        while stack:
            for user in users.get(stack.pop(), ()):
                if user not in found:
                    found.add(user)
                    stack.append(user)
        return found

    def _check_worth(self) -> None:
        """No sum of many terms, and no few layers in a row, is a recurrence."""
        kinds = [n.last.op.opdef for n in self.steps if n.last.op is not None and "move" not in n.last.op.opdef.tags]
        if not self.leaves and not self._gives_sequence():
            raise Mismatch("the copies neither read a sequence nor give one", near=False)
        if len(kinds) < 2:
            raise Mismatch("the copies are one op each", near=False)
        if self.leaves and all(n.kind == "stack" for n in self.leaves):
            given = all(v.op is None for n in self.leaves for v in n.values)
            if not given and (self.count < LEAST_STACKED or not any(k.name in PRODUCTS for k in kinds)):
                raise Mismatch("the copies read no sequence", near=False)

    def _gives_sequence(self) -> bool:
        """Whether other ops read a value of several copies."""
        own = {v.op for node in self.steps for v in node.values}
        return any(sum(any(u not in own for u in v.users()) for v in node.values) > 1 for node in self.steps)

    def _check_roles(self) -> None:
        """One value of the last frame is one thing in the step."""
        seen: set[Value] = set()
        for node in self.nodes.values():
            if node.last in seen:
                raise Mismatch("the first copy reads another state than the following ones")
            seen.add(node.last)
        for node in self.states:
            if self.nodes[node.following] not in self.steps:
                raise Mismatch("a state does not depend on the states before it")

    def _check_sources(self) -> None:
        """Nothing that the scan is given may depend on what it replaces."""
        replaced = {v.op for node in self.steps for v in node.values}
        places = [self.region.place[op] for op in replaced if op is not None]
        late = set[Op]()
        for at in range(min(places, default=0), len(self.region.ops)):
            op = self.region.ops[at]
            if op in replaced or any(v.op in late for v in self.region.reads[at]):
                late.add(op)
        given = [v for n in self.leaves for v in ((n.source,) if n.source is not None else n.values)]
        given += [n.values[0] for n in (*self.states, *(m for m in self.nodes.values() if m.kind == "same"))]
        if any(v.op in late for v in given if v is not None and v.op is not None):
            raise Mismatch("a copy reads a value that is computed from a copy before the last one")

    def _are_independent(self, values: Vector) -> bool:
        """Whether none of ``values`` is computed from another."""
        own = {v.op for v in values if v.op is not None}
        places = [self.region.place[op] for op in own if op in self.region.place]
        reached = set[Op]()
        for at in range(min(places, default=0), max(places, default=-1) + 1):
            op = self.region.ops[at]
            if any(v.op in own or v.op in reached for v in self.region.reads[at]):
                if op in own:
                    return False
                reached.add(op)
        return True


def _is_joined(op: Op) -> bool:
    """Whether the op puts a value beside those of other copies, or gives it out."""
    return op.name in JOINS or (op.name == "reshape" and all(u.name in JOINS for u in op.result.users()))


def _sequence(values: Vector) -> Node | None:
    """A node of kind sequence where ``values`` are elements of one value, at equal distances."""
    ops = [v.op for v in values]
    attrs = [op.attrs for op in ops if op is not None and isinstance(op.attrs, SliceAttrs)]
    if len(attrs) < len(values):
        return None
    sources = {op.operands[0] for op in ops if op is not None}
    starts = [a.start for a in attrs if isinstance(a.start, int)]
    first = attrs[0]
    if len(sources) > 1 or len(starts) < len(values) or any((a.axis, a.size) != (first.axis, 1) for a in attrs):
        return None
    (source,) = sources
    if any(s < 0 for s in starts):
        return None
    stride = starts[1] - starts[0]
    if not stride or any(b - a != stride for a, b in pairwise(starts)):
        return None
    return Node("sequence", values, source=source, axis=first.axis, start=starts[0], stride=stride)
