"""select-implementation: for every top-level op the cheapest implementation whose constraints hold, and why.

Ops inside scan bodies are part of their scan; ``const`` ops are host data and get none (see
`rnngraph.runtime.segments`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from rnngraph.errors import PassError, SelectionError
from rnngraph.ir import RNN, SCAN, Dims, Graph, Op, Rnn, Scan
from rnngraph.ir.dims import evaluate, symbols_of
from rnngraph.ir.ops import CONST
from rnngraph.ir.sizes import expressions, sizes_for
from rnngraph.passes._placement import duration, placed
from rnngraph.rewrite import Pass, PassContext, Tried

DEFAULT_STEPS, DEFAULT_SIZE = 100, 1
REFERENCE = "reference"
CUT_SECONDS = 30e-6  # what two more kernels in a call cost: one for the ops, one for what follows them
MOVES, SAVES = "moves data between ops that ", "costs less than calls between kernels, beside ops that "
VERDICTS = CHOSEN, SLOWER, REJECTED = "chosen", "slower", "rejected"


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one candidate for one op. ``seconds`` is the estimate, None for a rejected one.

    ``failures`` are the constraints that did not hold, each ``name: sentence (details)``.
    """

    op: str
    layer: str
    candidate: str
    verdict: str
    reason: str
    seconds: float | None
    failures: tuple[str, ...] = ()


@dataclass(slots=True)
class Selection:
    """The decision table: the artifact "selection". It grows over the runs of the pass. ``target`` is where ops are to
    run, ``placement`` why, when it was left to the compiler."""

    decisions: list[Decision] = field(default_factory=list)
    target: str = ""
    placement: str = ""

    def to_text(self) -> str:
        """What was chosen for each op and layer; then what was slower or rejected, one row for all alike; then every
        constraint that failed, once. Estimates of a row are added up."""
        groups: dict[tuple[str, ...], list[Decision]] = {}
        for d in sorted(self.decisions, key=lambda d: VERDICTS.index(d.verdict)):
            place = (d.op, d.layer) if d.verdict == CHOSEN else ()
            groups.setdefault((*place, d.candidate, d.verdict, d.reason), []).append(d)
        head = [f"placed on the {self.placement}"] if self.placement else []
        table = [("op", "layer", "candidate", "verdict", "estimate", "reason"), *map(_row, groups.values())]
        widths = [max(len(row[i]) for row in table) for i in range(5)]
        lines = ["  ".join([*map(str.ljust, row[:5], widths), row[5]]) for row in table]
        failures = dict.fromkeys(f"  {f}" for d in self.decisions for f in d.failures)
        return "\n".join([*head, *lines, *(["constraints that failed", *failures] if failures else [])])


def _row(like: list[Decision]) -> tuple[str, str, str, str, str, str]:
    """One line of the table for decisions that differ in op and layer at most."""
    first = like[0]
    ops, layers = (list(dict.fromkeys(names)) for names in ([d.op for d in like], [d.layer or "-" for d in like]))
    seconds = [d.seconds for d in like if d.seconds is not None]
    return ((ops[0] if len(ops) == 1 else "ops") + (f" x{len(like)}" if len(like) > 1 else ""),
            layers[0] if len(layers) == 1 else f"{len(layers)} layers", first.candidate, first.verdict,
            duration(sum(seconds)) if seconds else "-", first.reason)


@dataclass(frozen=True)
class SelectImplementation(Pass):
    """Choose for every op that has none yet. ``fused_only``: for rnn ops alone, before they are expanded."""

    name: ClassVar[str] = "select-implementation"
    fused_only: bool = False

    def run(self, graph: Graph, context: PassContext) -> None:
        if context.registry is None:
            raise PassError("select-implementation needs the registry of implementations in its context; "
                            "use rnngraph.compile, or PassContext(registry=backends.default_registry())")
        known = context.artifacts.get("selection")
        dims = expected_dims(graph, context.dims)
        selection = Selection(list(known.decisions), known.target, known.placement) if isinstance(known, Selection) \
            else Selection([], *placed(graph, context, dims))
        choices = {op: _choose(op, context, selection.target, dims) for op in graph.block.body
                   if not op.impl and op.opdef is not CONST and (op.opdef is RNN or not self.fused_only)}
        for run in _islands(choices):
            _join(run, choices)
        for group in _moves(choices):
            _settle(group, choices)
        for op, choice in choices.items():
            op.impl = choice.best.name
            selection.decisions += choice.decisions(op)
        context.artifacts["selection"] = selection


@dataclass(slots=True)
class _Choice:
    """The candidates of an op, and which one it is; ``settled``: why its neighbours decided."""

    candidates: tuple[Any, ...]
    best: Any
    settled: str = ""

    @property
    def backend(self) -> str:
        name: str = self.best.name
        return name.split(".")[0]

    def decisions(self, op: Op) -> list[Decision]:
        fit = sum(c.seconds is not None for c in self.candidates)
        verdicts = [REJECTED if c.seconds is None else CHOSEN if c is self.best else SLOWER for c in self.candidates]
        return [Decision(op.name, op.layer, c.name, verdict, self.reason(c, fit), c.seconds, c.failures)
                for c, verdict in zip(self.candidates, verdicts, strict=True)]

    def reason(self, candidate: Any, fit: int) -> str:
        if candidate.failures:
            return "fails " + ", ".join(f.split(":")[0] for f in candidate.failures)
        if self.settled:
            return self.settled + ("run there" if candidate is self.best else f"{self.backend} runs")
        if candidate is self.best:
            lowest = "the fastest when run" if candidate.measured else "the lowest estimate"
            return lowest if fit > 1 else "the only one whose constraints hold"
        if self.best.measured and not candidate.measured:
            return f"not measured; {self.best.name} was"
        return f"{self.best.name} {'was faster' if candidate.measured else 'is estimated faster'}"


def _choose(op: Op, context: PassContext, target: str, dims: Dims) -> _Choice:
    """The cheapest whose constraints hold and whose trial, where there is one, went well."""
    candidates: list[Any] = list(context.registry.consider(op, target, dims))
    tried: set[str] = set()
    while True:
        fit = [c for c in candidates if c.seconds is not None]
        best = min([c for c in fit if c.measured] or fit, key=_seconds, default=None)  # no estimate beats what was run
        if best is None:
            raise SelectionError(_none(op, target, context, tuple(candidates)))
        waiting = [c for c in (fit if context.options.get("autotune") else [best])
                   if c.name not in tried and context.trial is not None and context.registry.to_try(c)]
        if not waiting:
            return _Choice(tuple(candidates), best)
        assert context.trial is not None
        candidate = min(waiting, key=_seconds)
        tried.add(candidate.name)
        candidates[candidates.index(candidate)] = _after(candidate, context.trial(op, candidate.name, dims))


def _after(candidate: Any, trial: Tried) -> Any:
    """The candidate as its trial leaves it."""
    if trial.failure:
        return replace(candidate, failures=(trial.failure,), seconds=None)
    return replace(candidate, seconds=trial.seconds, measured=True) if trial.seconds is not None else candidate


def _seconds(candidate: Any) -> float:
    seconds: float = candidate.seconds
    return seconds


def _moves(choices: dict[Op, _Choice]) -> list[list[Op]]:
    """Groups of ops that cost nothing where they are and read each other's results."""
    return _groups((op for op, choice in choices.items() if choice.best.seconds == 0.0), lambda op, other: True)


def _groups(ops: Iterable[Op], together: Callable[[Op, Op], bool]) -> list[list[Op]]:
    """The ops in groups that read each other's results, as far as neighbours belong together."""
    left = dict.fromkeys(ops)
    groups = []
    while left:
        todo = [left.popitem()[0]]
        group = list(todo)
        while todo:
            op = todo.pop()
            for other in _neighbours(op):
                if other in left and together(op, other):
                    del left[other]
                    group.append(other)
                    todo.append(other)
        groups.append(group)
    return groups


def _settle(group: Sequence[Op], choices: dict[Op, _Choice]) -> None:
    """Moves that nobody of their backend needs would be a segment of their own: they go where their neighbours are."""
    inside = set(group)
    around = {choices[o].backend if o in choices else o.impl.split(".")[0] for op in group for o in _neighbours(op)
              if o not in inside and (o in choices or o.impl)}
    if not around or choices[group[0]].backend in around:
        return
    for op in group:
        fit = [c for c in choices[op].candidates if c.seconds is not None and c.name.split(".")[0] in around]
        if fit:
            choices[op] = _Choice(choices[op].candidates, min(fit, key=lambda c: c.seconds), MOVES)


def _islands(choices: dict[Op, _Choice]) -> list[list[Op]]:
    """Groups of ops that one backend would run and that read each other's results."""
    return _groups(choices, lambda op, other: choices[other].backend == choices[op].backend)


def _join(group: Sequence[Op], choices: dict[Op, _Choice]) -> None:
    """Ops whose neighbours all run elsewhere go there when the calls that this saves outweigh what is lost. Never to
    the reference: what is small at the expected sizes may be far slower there at others."""
    around = {choices[o].backend for op in group for o in _neighbours(op)
              if o in choices and choices[o].backend != choices[op].backend}
    if len(around) != 1:
        return
    (there,) = around
    if there == REFERENCE:
        return
    fit = [min((c for c in choices[op].candidates if c.seconds is not None and c.name.split(".")[0] == there),
               key=lambda c: c.seconds, default=None) for op in group]
    found = [c for c in fit if c is not None]
    lost = sum(c.seconds for c in found) - sum(choices[op].best.seconds for op in group)
    if len(found) == len(group) and lost < CUT_SECONDS:
        for op, candidate in zip(group, found, strict=True):
            choices[op] = _Choice(choices[op].candidates, candidate, SAVES)


def _neighbours(op: Op) -> list[Op]:
    """The ops of the block that make what ``op`` reads, or read what it makes."""
    makers = [v.op for v in op.operands if v.op is not None]
    return makers + [_at_top(user, op) for r in op.results for user in r.users()]


def _at_top(user: Op, op: Op) -> Op:
    """The op of the block of ``op`` that a user stands in."""
    while user.parent is not op.parent and user.parent is not None and user.parent.parent is not None:
        user = user.parent.parent
    return user


def _none(op: Op, target: str, context: PassContext, candidates: tuple[Any, ...]) -> str:
    where = f" (layer {op.layer!r})" if op.layer else ""
    head = f"no implementation of {op.name}{where} for target {target}"
    if candidates:
        return head + ": " + "; ".join(f"{c.name}: {', '.join(c.failures)}" for c in candidates)
    unavailable = context.registry.unavailable.items()
    missing = "; ".join(f"backend {n} is not available: {why}" for n, why in unavailable)
    return head + ": no backend registers one" + (f"; {missing}" if missing else "")


def expected_dims(graph: Graph, known: Dims) -> Dims:
    """Sizes for every symbol: the caller's, else 100 for the steps of a scan or rnn and 1 for the rest, or more where
    that would make a computed size 0. Computed sizes are there as well, at least 1."""
    steps: set[str] = set()
    for op in graph.walk():
        if op.opdef is SCAN:
            steps |= symbols_of(Scan(op).attrs.steps)
        elif op.opdef is RNN:
            steps |= symbols_of(Rnn(op).x.shape[0])
    usual = {s: DEFAULT_STEPS if s in steps else DEFAULT_SIZE for s in graph.symbols()}
    sizes = sizes_for(graph, usual, {s: n for s, n in known.items() if s in usual})
    return sizes | {d: max(1, evaluate(d, sizes)) for d in expressions(graph)}
