"""Patterns and the worklist driver that applies them.

A pattern is a function of one root op: it returns the new values of the op's results, a `Miss` with the reason, or
None ("not mine"). It builds new ops through the given builder and never edits in place, so the driver alone knows
what changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from rnngraph.errors import PassError
from rnngraph.ir import Block, Builder, Graph, Op, OpDef, Value
from rnngraph.rewrite.remarks import Miss

Match: TypeAlias = Sequence[Value] | Miss | None
MatchFunction: TypeAlias = Callable[[Op, Builder], Match]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A rewrite rooted at ops of the kinds ``roots``; ``equation`` is the function's docstring."""

    name: str
    roots: frozenset[str]
    function: MatchFunction
    equation: str


def pattern(*roots: OpDef) -> Callable[[MatchFunction], Pattern]:
    """Declare a pattern for ops of these kinds; the docstring must be its equation."""

    def declare(function: MatchFunction) -> Pattern:
        name = function.__name__
        if not function.__doc__:
            raise TypeError(f"pattern {name} needs its equation as docstring")
        return Pattern(name, frozenset(r.name for r in roots), function, function.__doc__.strip())

    return declare


@dataclass(slots=True)
class RewriteReport:
    """How often each pattern applied, and what nearly did."""

    hits: Counter[str] = field(default_factory=Counter)
    misses: list[tuple[str, Miss]] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.hits)


class _Worklist:
    """Last in, first out, without duplicates; ordered, so that rewriting is deterministic."""

    def __init__(self, ops: Iterable[Op]) -> None:
        self.items: dict[Op, None] = dict.fromkeys(ops)

    def push(self, op: Op) -> None:
        self.items.pop(op, None)
        self.items[op] = None

    def discard(self, op: Op) -> None:
        self.items.pop(op, None)

    def pop(self) -> Op | None:
        return self.items.popitem()[0] if self.items else None


class _Recorder(Builder):
    """The builder that a pattern gets: it remembers what was made."""

    def __init__(self, block: Block, before: Op, layer: str) -> None:
        super().__init__(block, before, layer)
        self.made: list[Op] = []

    def insert(self, op: Op) -> Op:
        self.made.append(op)
        return super().insert(op)


def rewrite(graph: Graph, patterns: Sequence[Pattern], *, max_rewrites: int | None = None) -> RewriteReport:
    """Apply ``patterns`` until none matches; ops that become unused are removed.

    ``max_rewrites`` bounds the work (default: 100 per op of the graph, at least 1000); beyond it PassError lists the
    last patterns, because the set does not terminate.
    """
    by_root: dict[str, list[Pattern]] = {}
    for p in patterns:
        for root in p.roots:
            by_root.setdefault(root, []).append(p)
    ops = list(graph.walk())
    bound = max_rewrites if max_rewrites is not None else max(1000, 100 * len(ops))
    work, report, trail = _Worklist(reversed(ops)), RewriteReport(), list[str]()
    while (op := work.pop()) is not None:
        if op.parent is None:
            continue
        if is_dead(op):
            _erase(op, work)
            continue
        for p in by_root.get(op.name, ()):
            outcome = _try(p, op, work)
            if isinstance(outcome, Miss):
                report.misses.append((p.name, outcome))
            elif outcome:
                report.hits[p.name] += 1
                trail.append(p.name)
                if len(trail) > bound:
                    raise PassError(f"rewriting did not end after {bound} rewrites; the last were {trail[-6:]}")
                break
    return report


def is_dead(op: Op) -> bool:
    """Pure and unused: may go."""
    return op.opdef.pure and not op.opdef.terminator and not any(r.uses for r in op.results)


def _try(p: Pattern, op: Op, work: _Worklist) -> Miss | bool:
    assert op.parent is not None
    builder = _Recorder(op.parent, op, op.layer)
    outcome = p.function(op, builder)
    fresh = builder.made
    if outcome is None or isinstance(outcome, Miss):
        for o in reversed(fresh):  # a pattern that changed its mind leaves nothing behind
            o.erase()
        return outcome if outcome is not None else False
    if len(outcome) != len(op.results):
        raise PassError(f"pattern {p.name} returned {len(outcome)} values for {len(op.results)} results of {op!r}")
    for old, new in zip(op.results, outcome, strict=True):
        for user in old.users():
            work.push(user)
        old.replace_by(new)
    for o in reversed(fresh):
        work.push(o)
    _erase(op, work)
    return True


def _erase(op: Op, work: _Worklist) -> None:
    sources = [v.op for inner in op.walk() for v in inner.operands]
    for inner in op.walk():
        work.discard(inner)
    op.erase()
    for source in sources:
        if source is not None and source.parent is not None:
            work.push(source)


__all__ = ["Miss", "Pattern", "RewriteReport", "is_dead", "pattern", "rewrite"]
