"""Cuts what follows a chain's states into frames, and finds for each value of a frame its like in the next."""

from __future__ import annotations

from collections.abc import Iterable

from rnngraph.ir import Op, Value
from rnngraph.ir.ops import SliceAttrs
from rnngraph.passes.unrolled.chains import Chain
from rnngraph.passes.unrolled.region import Mismatch, Region, is_commutative

Vector = tuple[Value, ...]


class Frames:
    """``vectors`` has (value in frame 0, its like in frame 1, ...) for each value with a like in every frame.

    An op is in frame t when it depends on state t and on no later one.
    """

    def __init__(self, region: Region, chain: Chain) -> None:
        self.region = region
        self.chain = chain
        self.count = len(chain)
        self._places = {v: t for t, v in enumerate(chain.states)}
        if self.count > 2 and (found := self._differs(1)) is not None and found.final:  # soon said of most networks
            raise found
        self._levels = self._read_levels()
        images = [self._match(t) for t in range(self.count - 1)]
        self.vectors = self._join(images)
        self.slot = {v: (vector[0], t) for vector in self.vectors.values() for t, v in enumerate(vector)}
        if chain.states[1] not in self.vectors:
            raise self._difference()

    def root(self) -> Vector:
        """The new state of each frame."""
        return self.vectors[self.chain.states[1]]

    def _read_levels(self) -> list[list[Op]]:
        state = self._places
        first = self.region.place[self.chain.anchors[0]]
        start = min([first, *(self.region.place[u] for u in self.chain.states[0].users() if u in self.region.place)])
        levels: list[list[Op]] = [[] for _ in range(self.count)]
        level: dict[Op, int] = {}
        for at in range(start, len(self.region.ops)):
            op = self.region.ops[at]
            found = -1
            for v in self.region.reads[at]:
                found = max(found, state.get(v, -1), level.get(v.op, -1) if v.op is not None else -1)
            if found >= 0:
                level[op] = found
                levels[found].append(op)
        return levels

    # --- one frame and the next ----------------------------------------------------------------------------------

    def _match(self, t: int) -> dict[Value, Value]:
        image: dict[Value, Value] = {}
        taken: set[Op] = set()
        states = self.chain.states[t], self.chain.states[t + 1]
        for op in self._levels[t]:
            if op.blocks:
                continue
            likes = [o for o in self._candidates(op, image, *states) if o not in taken and self._agrees(op, o, image)]
            if likes:
                like = max(likes, key=lambda o: self._resemblance(op, o, *states)) if len(likes) > 1 else likes[0]
                taken.add(like)
                image.update(zip(op.results, like.results, strict=True))
        return image

    def _candidates(self, op: Op, image: dict[Value, Value], state: Value, following: Value) -> Iterable[Op]:
        for v in op.operands:
            if v in image:
                return image[v].users()
        return following.users() if state in op.operands else ()

    def _agrees(self, op: Op, like: Op, image: dict[Value, Value]) -> bool:
        """Whether the operands that are known to be alike are."""
        if like.parent is not self.region.block or not self.region.is_alike(op, like):
            return False
        orders = [like.operands]
        if is_commutative(op) and len(like.operands) == 2:
            orders.append(like.operands[::-1])
        return any(all(self._compatible(a, b, image) for a, b in zip(op.operands, order, strict=True))
                   for order in orders)

    def _compatible(self, a: Value, b: Value, image: dict[Value, Value]) -> bool:
        if a in image:
            return image[a] is b
        if self.region.is_fixed(b) and self.region.is_fixed(a):
            return a is b
        return a.type == b.type

    def _resemblance(self, op: Op, like: Op, state: Value, following: Value) -> int:
        """In how many operands an op that agrees is more than that: a step may read its state in several like ops."""
        orders = [like.operands]
        if is_commutative(op) and len(like.operands) == 2:
            orders.append(like.operands[::-1])
        return max(sum((a is b) + ((a is state) == (b is following)) + self._are_computed_alike(a, b)
                       for a, b in zip(op.operands, order, strict=True)) for order in orders)

    def _are_computed_alike(self, a: Value, b: Value) -> bool:
        if a.op is None or b.op is None:
            return a.op is b.op
        return a.index == b.index and self.region.key(a.op) == self.region.key(b.op)

    def _join(self, images: list[dict[Value, Value]]) -> dict[Value, Vector]:
        vectors: dict[Value, Vector] = {}
        for start in images[0]:
            found = [start]
            for image in images:
                if (following := image.get(found[-1])) is None:
                    break
                found.append(following)
            if len(found) == self.count:
                vectors[start] = tuple(found)
        return vectors

    # --- what to say when they differ ----------------------------------------------------------------------------

    def _difference(self) -> Mismatch:
        """The first thing in which two copies differ."""
        found = next((d for t in range(1, self.count - 1) if (d := self._differs(t)) is not None), None)
        return found or Mismatch(f"the last of {self.count} copies is not complete", near=False)

    def _differs(self, t: int) -> Mismatch | None:
        states = self.chain.states
        found = difference(self.region, states[t], states[t + 1], self._places)
        return None if found is None else Mismatch(f"copies {t - 1} and {t} of the step differ: {found.reason}",
                                                   near=found.near, final=found.final)


def difference(region: Region, a: Value, b: Value, states: dict[Value, int]) -> Mismatch | None:
    """In what the computations of two values differ, down to ``states``; None when nothing was found."""
    stack, seen = [(a, b)], set[tuple[Value, Value]]()
    while stack:
        x, y = stack.pop()
        if seen and x in states and y in states and states[y] != states[x] + 1:
            return Mismatch("one reads a state of a copy before the last one")
        if x is y or (x, y) in seen:
            continue
        seen.add((x, y))
        if region.is_fixed(x) and region.is_fixed(y):
            return Mismatch(f"a constant {x.type} has other values", final=True)
        p, q = x.op, y.op
        if p is None or q is None or (len(seen) > 1 and x in states):
            continue
        if p.opdef is not q.opdef or p.blocks:
            return Mismatch(f"a {p.name} stands where a {q.name} stands", near=False)
        if p.attrs != q.attrs and not isinstance(p.attrs, SliceAttrs):
            return Mismatch(f"the attributes of a {p.name} differ")
        stack.extend(zip(p.operands, q.operands, strict=False))
    return None
