"""Two copies, the first simplified because its state is zero: no op repeats along a path, so both are read together."""

from __future__ import annotations

from collections.abc import Iterator

from rnngraph.ir import Op, Value
from rnngraph.ir.ops import SliceAttrs
from rnngraph.passes.unrolled.chains import PRODUCTS
from rnngraph.passes.unrolled.frames import Vector
from rnngraph.passes.unrolled.region import Mismatch, Region, is_commutative
from rnngraph.passes.unrolled.template import Node, Template

MAX_PRODUCTS = 64  # products that are looked at, so that no graph is slow to read
WINDOW = 400  # ops behind a product among which its step ends
MAX_ENDS = 4


def candidates(region: Region) -> Iterator[tuple[Value, Value]]:
    """(h1, h0): a product reads h0, and h1 depends on the product and is computed by an op of the same kind."""
    looked = 0
    for op in region.ops:
        if op.name not in PRODUCTS or not region.is_fixed(op.operands[1]):
            continue
        before = op.operands[0]
        if before.op is None or before.op not in region.place or before.op.name == "slice":
            continue
        if (looked := looked + 1) > MAX_PRODUCTS:
            return
        for end in _ends(region, op, before.op):
            yield end.results[before.index], before


def _ends(region: Region, product: Op, like: Op) -> list[Op]:
    start = region.place[product]
    reached = {start}
    found: list[Op] = []
    for at in range(start + 1, min(start + WINDOW, len(region.ops))):
        if not reached.isdisjoint(region.before[at]):
            reached.add(at)
            op = region.ops[at]
            if region.is_alike(op, like):
                found.append(op)
                if len(found) == MAX_ENDS:
                    break
    return found


class TwoFrames:
    """The second of two copies, and for each of its values the like in the first."""

    count = 1

    def __init__(self, region: Region, second: Value, first: Value) -> None:
        self.region = region
        self.end = second
        self.like: dict[Value, Value] = {}
        self.vectors: dict[Value, Vector] = {}
        self.slot: dict[Value, tuple[Value, int]] = {}
        stack = [(second, first)]
        while stack:
            v, w = stack.pop()
            if v is w or v in self.like or region.is_fixed(v) or region.is_fixed(w):
                continue
            self.like[v] = w
            p, q = v.op, w.op
            if p is not None and q is not None and v.index == w.index and _alike(region, p, q):
                stack.extend(zip(p.operands, _ordered(p, q), strict=True))
        self.following = {w: v for v, w in self.like.items()}
        self.earlier = self._cone(first)

    def _cone(self, value: Value) -> set[Value]:
        """What ``value`` is computed from, and it."""
        found, stack = {value}, [value]
        while stack and len(found) < 2 * WINDOW:
            op = stack.pop().op
            if op in self.region.place and op is not None:
                stack.extend(v for v in op.operands if v not in found)
                found.update(op.operands)
        return found

    def before(self, value: Value) -> Value | None:
        """The like of ``value`` in the first copy; of an element of a sequence, the one that the first copy reads."""
        if value in self.like or value.op is None or not isinstance(a := value.op.attrs, SliceAttrs):
            return self.like.get(value)
        slices = [(v, v.op.attrs) for v in self.earlier
                  if v.op is not None and v.op.name == "slice" and v.op.operands[0] is value.op.operands[0]]
        others = [v for v, b in slices if isinstance(b, SliceAttrs) and (b.axis, b.size) == (a.axis, a.size)]
        return others[0] if len(others) == 1 else None

    def root(self) -> Vector:
        return (self.end,)


class TwoCopies(Template):
    """The step of the second copy; what the first one computes alike is the state."""

    def __init__(self, frames: TwoFrames) -> None:
        self.two = frames
        super().__init__(frames, heads=False)

    def _classify(self, values: Vector) -> Node:
        (value,) = values
        if (following := self.two.following.get(value)) is not None:
            return Node("state", values, following=(following,))
        if self.region.is_fixed(value) or value in self.two.earlier:
            return Node("same", values)
        before, op = self.two.before(value), value.op
        if op is not None and before is not None and (found := _element(op, before)) is not None:
            return found
        return Node("stack" if op is None or op.blocks else "op", values)


def _element(op: Op, before: Value) -> Node | None:
    a, b = op.attrs, before.op.attrs if before.op is not None else None
    if not isinstance(a, SliceAttrs) or not isinstance(b, SliceAttrs) or before.op is None \
            or before.op.operands[0] is not op.operands[0]:
        return None
    if a.size != 1 or not isinstance(a.start, int) or not isinstance(b.start, int) or (a.axis, 1) != (b.axis, b.size):
        return None
    if a.start == b.start or min(a.start, b.start) < 0:
        return None
    return Node("sequence", (op.result,), source=op.operands[0], axis=a.axis, start=a.start, stride=a.start - b.start)


def _alike(region: Region, p: Op, q: Op) -> bool:
    if isinstance(p.attrs, SliceAttrs) and isinstance(q.attrs, SliceAttrs) and p.attrs.start != q.attrs.start:
        return False
    return region.is_alike(p, q)


def _ordered(p: Op, q: Op) -> Vector:
    """The operands of ``q`` in the order of the operands of ``p`` that they resemble."""
    if not is_commutative(p) or len(p.operands) != 2:
        return q.operands

    def resemblance(order: Vector) -> int:
        return sum((x is y) + (x.op is not None and y.op is not None and x.op.opdef is y.op.opdef)
                   for x, y in zip(p.operands, order, strict=True))

    return max((q.operands, q.operands[::-1]), key=resemblance)


def two_copies(region: Region) -> Iterator[Template]:
    """Templates of second copies; each holds only with the first copy that `find_first_copy` finds for it."""
    shared = _shared(region)
    if not shared:
        return
    for second, first in candidates(region):
        frames = TwoFrames(region, second, first)
        if shared.isdisjoint(frames.earlier):
            continue
        try:
            yield TwoCopies(frames)
        except Mismatch:
            continue


def _shared(region: Region) -> set[Value]:
    """Products of one weight, and elements of one sequence: without them there are no two copies of a step."""
    groups: dict[object, list[Value]] = {}
    for op in region.ops:
        if op.name in PRODUCTS and region.is_fixed(op.operands[1]):
            groups.setdefault(op.operands[1], []).append(op.result)
        elif isinstance(op.attrs, SliceAttrs) and op.attrs.size == 1:
            groups.setdefault((op.operands[0], op.attrs.axis), []).append(op.result)
    return {v for group in groups.values() if len(group) > 1 for v in group}
