"""Partition of a body into phases: loop nests over (row, lane) between which all threads must agree.

The only cuts are a computed value that feeds a matmul and a reduction that feeds its users; every other edge fuses.
A phase is a (level, lane extent); levels run in order, matmuls and cheap ops sink to the level of their users so that
little crosses, and what crosses is recomputed when cheap, else spilled to memory.

A reduction of what stands in memory (spilled, a state, a step of a sequence), or is a few cheap ops away from it, gets
a fold: a phase in which every thread reads all lanes for itself, so that nobody waits for the others' part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from rnngraph.ir import BOOL, Value
from rnngraph.phases.instances import ROW, Instance, Kind, Leaf, Piece, postorder, walk
from rnngraph.phases.lanes import LaneAnalysis, NeedsStore, Unsupported

MAX_FOLDED = 8  # elementwise ops that each thread repeats for a reduction of memory, rather than wait for the others
MAX_PARTS = 4  # accumulator vectors per row that one microkernel call keeps in registers


@dataclass(frozen=True, slots=True)
class Store:
    """Lanes [pos, pos + n) of buffer ``dest`` take the instance's value. ``value`` is what the buffer holds."""

    dest: str
    pos: int
    instance: Instance
    value: Value


@dataclass(frozen=True, slots=True)
class Group:
    """Matmuls of one phase with the same left side, accumulated side by side by one microkernel."""

    pieces: tuple[Piece, ...]
    parts: tuple[Instance, ...]

    @property
    def k(self) -> int:
        return sum(p.k for p in self.pieces)


@dataclass(slots=True)
class Phase:
    """One loop nest over lanes [0, n): groups accumulate, then the stores and reductions are evaluated.

    fold: it has reductions only, and each thread computes them over all lanes, for itself.
    """

    level: int
    n: int
    fold: bool = False
    stores: list[Store] = field(default_factory=list)
    reduces: list[Instance] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    row_scalars: list[Instance] = field(default_factory=list)  # evaluated per row before the lanes


@dataclass(slots=True)
class Partition:
    """A body as phases. ``temporaries`` are buffers (name -> lanes) that live for one step."""

    rows: tuple[int | str, ...]
    phases: list[Phase]
    temporaries: dict[str, int]
    spilled: dict[Instance, str]
    reductions: dict[Instance, int]  # REDUCE instance -> its number among the partial-sum buffers

    @property
    def folded(self) -> frozenset[Instance]:
        """The reductions of which each thread has a result of its own."""
        return frozenset(r for p in self.phases if p.fold for r in p.reduces)

    @property
    def matmuls(self) -> list[Instance]:
        return [m for p in self.phases for g in p.groups for m in g.parts]


def partition(rows: Sequence[int | str], leaves: Mapping[Value, Leaf], roots: Sequence[tuple[str, Value]]) -> Partition:
    """Phases that compute ``roots`` (buffer name, value) from ``leaves``. Raises Unsupported with the reason."""
    stored = _matmul_operands(tuple(rows), leaves, [v for _, v in roots])
    while True:
        analysis = LaneAnalysis(tuple(rows), leaves, tuple(stored))
        try:
            stores = [Store(dest, pos, i, v) for dest, v in roots for pos, i in analysis.roots(v)]
            stores += [Store(f"tmp{k}", pos, i, v) for k, v in enumerate(stored) for pos, i in analysis.roots(v)]
            _check_windows([s.instance for s in stores])
            break
        except NeedsStore as e:
            if e.value in stored:
                raise Unsupported(f"value %{e.value.hint} depends on itself within a step") from None
            stored.append(e.value)
    temporaries = {f"tmp{k}": analysis.lanes_of(v) for k, v in enumerate(stored)}
    return _Phases(tuple(rows), stores, temporaries).build()


def _matmul_operands(rows: tuple[int | str, ...], leaves: Mapping[Value, Leaf], roots: Sequence[Value]) -> list[Value]:
    """The computed values that feed a matmul, operands first: they are always kept in memory, and the analysis, which
    starts over for every value that it finds so, need not find them one by one."""
    analysis = LaneAnalysis(rows, leaves)
    found: dict[Value, None] = {}
    seen: set[Value] = set()
    stack = [(v, False) for v in reversed(roots)]
    while stack:
        v, ready = stack.pop()
        if v.op is None or v in leaves or (v in seen and not ready):
            continue
        if not ready:
            seen.add(v)
            stack.append((v, True))
            stack.extend((a, False) for a in reversed(v.op.operands))
        elif v.op.name == "matmul":
            left = v.op.operands[0]
            with suppress(Unsupported):  # the analysis itself will say so, with the op that needs it
                found |= {base: None for base in analysis.bases(left) if base not in leaves}
    return list(found)


def _check_windows(roots: Sequence[Instance]) -> None:
    """A matmul seen through overlapping windows would be computed twice: store it instead."""
    windows: dict[Value, list[tuple[int, int]]] = {}
    for i in walk(roots):
        if i.kind is Kind.MATMUL:
            for off, n in windows.setdefault(i.value, []):
                if i.off < off + n and off < i.off + i.n:
                    raise NeedsStore(i.value)
            windows[i.value].append((i.off, i.n))


class _Phases:
    def __init__(self, rows: tuple[int | str, ...], stores: list[Store], temporaries: dict[str, int]) -> None:
        self.rows = rows
        self.stores = stores
        self.temporaries = temporaries
        self.instances = walk([s.instance for s in stores])
        self.users: dict[Instance, list[Instance]] = {i: [] for i in self.instances}
        for i in self.instances:
            for a in i.args:
                self.users[a].append(i)
        self.rooted = {s.instance for s in stores}
        self.spilled: dict[Instance, str] = {}

    def build(self) -> Partition:
        self.sink()
        self.cross()
        phases: dict[tuple[int, bool, int], Phase] = {}

        def phase(level: int, n: int, fold: bool = False) -> Phase:
            return phases.setdefault((level, fold, n), Phase(level, n, fold))

        for s in self.stores:
            phase(s.instance.level, s.instance.n).stores.append(s)
        for i, name in self.spilled.items():
            phase(i.level, i.n).stores.append(Store(name, 0, i, i.value))
        reductions = [i for i in self.instances if i.kind is Kind.REDUCE]
        for i in reductions:
            phase(i.args[0].level, i.args[0].n, self.is_folded(i)).reduces.append(i)
        ordered = [phases[k] for k in sorted(phases)]
        for p in ordered:
            self.fill(p)
        return Partition(self.rows, ordered, self.temporaries, self.spilled,
                         {r: k for k, r in enumerate(reductions)})

    def sink(self) -> None:
        """Move matmuls, and elementwise ops with at most one computed lane operand, up to the level of their users."""
        reduced = {i.args[0] for i in self.instances if i.kind is Kind.REDUCE}
        moved = True
        while moved:
            moved = False
            for i in reversed(self.instances):
                if i.n == ROW or i.is_free or i in self.rooted or i in reduced or not self.users[i]:
                    continue
                computed = [a for a in i.args if not a.is_free]
                if i.kind is not Kind.MATMUL and len(computed) > 1:
                    continue
                level = min(u.level for u in self.users[i])
                if level > i.level:
                    i.level, moved = level, True

    def cross(self) -> None:
        """Decide for every value used above its level: free, recomputed, or spilled.

        Whether a value is cheap depends on what else is spilled, and that is known after a first pass.
        """
        self.spill()
        kept = [i for i in self.spilled if not self.is_cheap(i)]
        for name in self.spilled.values():
            del self.temporaries[name]
        self.spilled = {}
        for i in kept:
            self.keep(i)
        self.spill()

    def keep(self, i: Instance) -> None:
        self.spilled[i] = f"spill{len(self.spilled)}"
        self.temporaries[self.spilled[i]] = i.n

    def spill(self) -> None:
        needed: list[tuple[Instance, int]] = []
        for s in self.stores:
            needed += [(a, s.instance.level) for a in s.instance.args]
        needed += [(i.args[0], i.args[0].level) for i in self.instances if i.kind is Kind.REDUCE]
        needed += [(a, i.level) for i in self.spilled for a in i.args]
        done: set[tuple[Instance, int]] = set()
        while needed:
            i, level = needed.pop()
            if (i, level) in done or i.n == ROW:
                continue
            done.add((i, level))
            if i.kind is Kind.ROW_SPLAT or i.level == level or i.is_free or i in self.spilled:
                if i.kind in (Kind.ELEMENTWISE, Kind.MATMUL) and i.level == level:
                    needed += [(a, level) for a in i.args]
                continue
            if self.is_cheap(i):
                needed += [(a, level) for a in i.args]
            else:
                self.keep(i)
                needed += [(a, i.level) for a in i.args]

    def is_cheap(self, i: Instance) -> bool:
        """Recompute rather than store: one arithmetic op on memory, row scalars or spilled values."""
        if i.kind is not Kind.ELEMENTWISE:
            return False
        if is_dear(i):
            return False
        return i.value.type.dtype is BOOL or all(a.is_free or a in self.spilled for a in i.args)

    def is_folded(self, reduction: Instance) -> bool:
        """Whether a reduction's operand is memory, or at most a few cheap ops away from it."""
        todo, count = [reduction.args[0]], 0
        while todo:
            i = todo.pop()
            if i.is_free or i in self.spilled:
                continue
            count += 1
            if i.kind is not Kind.ELEMENTWISE or is_dear(i) or count > MAX_FOLDED:
                return False
            todo += i.args
        return True

    def fill(self, p: Phase) -> None:
        """Groups and row scalars that a phase needs."""
        work = evaluated(self.spilled, p)
        by_left: dict[tuple[tuple[int, int], ...], list[Instance]] = {}
        for i in work:
            if i.kind is Kind.MATMUL and not is_loaded(self.spilled, p, i):
                by_left.setdefault(tuple((id(q.load), q.k) for q in i.pieces), []).append(i)
        for parts in by_left.values():
            parts.sort(key=lambda i: (i.off, i.index))
            for at in range(0, len(parts), MAX_PARTS):
                p.groups.append(Group(parts[0].pieces, tuple(parts[at : at + MAX_PARTS])))
        p.row_scalars = [i.args[0] for i in work if i.kind is Kind.ROW_SPLAT]
        p.row_scalars = list(dict.fromkeys(p.row_scalars))


def is_dear(i: Instance) -> bool:
    """Whether an elementwise op takes many instructions."""
    return "transcendental" in i.op.opdef.tags or i.op.name in ("div", "sqrt", "pow")


def is_loaded(spilled: Mapping[Instance, str], p: Phase, i: Instance) -> bool:
    """Whether phase ``p`` reads what another has spilled."""
    return i in spilled and (p.fold or i.level < p.level)


def evaluated(spilled: Mapping[Instance, str], p: Phase) -> list[Instance]:
    """The lane instances that phase ``p`` computes or loads, operands first."""

    def operands(i: Instance) -> Sequence[Instance]:
        if i.kind is Kind.ROW_SPLAT or is_loaded(spilled, p, i):
            return ()
        return i.args

    roots = [s.instance for s in p.stores] + [r.args[0] for r in p.reduces]
    return [i for i in postorder(roots, operands) if i.n != ROW]
