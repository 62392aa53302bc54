"""Finds chains: an op that comes again and again, each time computed from the time before."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from rnngraph.ir import Op, Value
from rnngraph.passes.unrolled.region import Region

MAX_SEARCHES = 64  # groups of equal ops that are searched for chains, so that no graph is slow to read
PRODUCTS = frozenset({"matmul", "conv"})


@dataclass(frozen=True, slots=True)
class Chain:
    """``anchors[t]`` reads the state ``states[t]``, which for t > 0 depends on ``anchors[t-1]``."""

    anchors: tuple[Op, ...]
    states: tuple[Value, ...]

    def __len__(self) -> int:
        return len(self.anchors)

    def without_first(self) -> Chain:
        return Chain(self.anchors[1:], self.states[1:])


def chains(region: Region) -> Iterator[Chain]:
    """Chains of at least two anchors: products first, then others with a constant operand, each from the front.

    Those that are only a part of the equal ops come last: each may stand for every second copy only.
    """
    groups: dict[Hashable, list[Op]] = {}
    for op in region.ops:
        if op.results and not op.blocks and op.opdef.pure and not all(map(region.is_fixed, op.operands)):
            groups.setdefault(region.key(op), []).append(op)
    repeated = [g for g in groups.values() if len(g) > 1 and g[0].name not in ("slice", "reshape", "concat")]
    repeated.sort(key=lambda g: (_rank(region, g[0]), region.place[g[0]]))
    parts: list[Chain] = []
    for group in repeated[:MAX_SEARCHES]:
        for chain in _chains_of(region, group):
            if len(chain) == len(group):
                yield chain
            else:
                parts.append(chain)
    yield from parts


def _rank(region: Region, op: Op) -> int:
    if op.name in PRODUCTS:
        return 0
    return 1 if any(map(region.is_fixed, op.operands)) else 2


def _chains_of(region: Region, group: list[Op]) -> Iterator[Chain]:
    """The paths through ``group`` by dependence; none where an op has two followers."""
    first, last = region.place[group[0]], region.place[group[-1]]
    members = set(group)
    nearest: list[tuple[int, Op] | None] = [None] * (last - first + 1)  # the last member on the longest path to an op
    follower: dict[Op, Op | None] = {}
    starts: list[Op] = []
    for at in range(first, last + 1):
        found = max((n for i in region.before[at] if i >= first and (n := nearest[i - first]) is not None),
                    key=lambda n: n[0], default=None)
        op = region.ops[at]
        if op in members:
            if found is None:
                starts.append(op)
            else:
                follower[found[1]] = None if found[1] in follower else op
            found = (1 if found is None else found[0] + 1, op)
        nearest[at - first] = found
    if None in follower.values():
        return
    for start in starts:
        path = [start]
        while (following := follower.get(path[-1])) is not None:
            path.append(following)
        if (chain := _chain(region, path, nearest, first)) is not None:
            yield chain


def _chain(region: Region, path: list[Op], nearest: list[tuple[int, Op] | None], first: int) -> Chain | None:
    if len(path) < 2:
        return None
    places = [region.place.get(v.op, -1) if v.op is not None else -1 for v in path[1].operands]
    along = [i for i, at in enumerate(places) if at >= first and (n := nearest[at - first]) is not None
             and n[1] is path[0]]
    if not along:
        return None
    states = tuple(op.operands[along[0]] for op in path)
    return Chain(tuple(path), states) if len(set(states)) == len(states) else None
