"""The static schedule of a call: a table of records per thread, made from gangs, sizes and costs.

A level's gangs run side by side (one direction per thread); a lone gang is split by rows, by lanes, or, when it is a
stack, run as a wavefront with its stages pinned to threads. Time is cut into chunks, so that what a projection writes
is still in the cache when the scan reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from rnngraph.backends.llvm.cost import LAUNCH, Machine, seconds, sizes_of
from rnngraph.backends.llvm.pool import available_cores, barrier
from rnngraph.ir import Array, Dims, resolve
from rnngraph.phases.gangs import Gang
from rnngraph.phases.stages import Stage

CHUNK_ROWS = 64  # rows that a projection computes at once: enough to reuse a weight panel, few enough for the cache
WAVE_ROWS = 16
WORTH_A_THREAD = 30e-6  # seconds of work below which a call stays on one thread
PATIENCE = 32768  # turns that a thread spins at a barrier inside a loop before it gives its core away
GAIN = 0.85  # sharing a gang must be estimated to take at most this share of one thread's time

Record = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """One participant's part of a stage: the ``part``-th of ``parts`` ranges of lanes, or of rows."""

    part: int = 0
    parts: int = 1
    by_rows: bool = True
    counter: int = 0

    def rows(self, count: int) -> tuple[int, int]:
        """This participant's rows out of ``count``."""
        if not self.by_rows:
            return 0, count
        return count * self.part // self.parts, count * (self.part + 1) // self.parts


@dataclass(slots=True)
class Tables:
    """Records per thread, and a barrier's counter per team: its members pass it equally often, so one is enough."""

    threads: int
    rows: list[list[Record]] = field(default_factory=list)
    counters: dict[tuple[int, ...], Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = [[] for _ in range(self.threads)]

    def counter(self, team: Sequence[int]) -> int:
        """Address of the team's i64 counter, on a cache line of its own; the word behind it is `rg_barrier`'s."""
        raw = self.counters.setdefault(tuple(team), np.zeros(24, np.int64))
        address = int(raw.ctypes.data)
        start = -address % 64
        raw[start // 8 + 1] = PATIENCE if self.threads <= available_cores() else 0
        return address + start

    def meet(self, team: Sequence[int]) -> None:
        """All threads of ``team`` wait for each other."""
        if len(team) > 1:
            record = barrier(self.counter(team), len(team))
            for t in team:
                self.rows[t].append(record)


class Runner(Protocol):
    """What the planner needs to know of stages as native code; the plan that owns the argument tables provides it."""

    stages: Sequence[Stage]
    dims: Dims

    def run(self, stage: int, begin: int, end: int, share: Share) -> Record:
        """The call of a stage's code for steps [begin, end)."""

    def joins(self, stages: Sequence[int]) -> list[Record]:
        """Copies into joins that must be done before any of the stages of a level starts."""

    def before(self, stage: int) -> list[Record]:
        """What must happen once before a stage: initial carries, joins of what its gang computes."""

    def after(self, stage: int) -> list[Record]:
        """What must happen once after a stage: final carries."""

    def copies(self, stage: int, begin: int, end: int) -> list[Record]:
        """Inputs that must be laid out anew for these steps."""

    def deliveries(self, stage: int, begin: int, end: int) -> list[Record]:
        """Outputs of these steps that must be copied to where they belong."""


class Planner:
    """Fills `Tables` for the gangs of a segment."""

    def __init__(self, gangs: Sequence[Gang], runner: Runner, machine: Machine, threads: int,
                 whole: frozenset[int]) -> None:
        self.gangs = gangs
        self.runner = runner
        self.machine = machine
        self.whole = whole  # gangs (by index) that cannot be cut in time
        total = sum(self.cost(k) for g in gangs for k in g.stages)
        self.threads = threads if total > WORTH_A_THREAD else 1
        if not self.shareable():
            self.threads = 1
        self.tables = Tables(self.threads)

    def shareable(self) -> bool:
        """Whether any level has two gangs, or a gang that gains from a second thread."""
        levels = [g.level for g in self.gangs]
        everyone = list(range(self.threads))
        return len(set(levels)) < len(levels) or any(len(self.team_for(k, everyone)) > 1 for k in range(len(levels)))

    def team_for(self, k: int, team: list[int]) -> list[int]:
        """The whole team when it is worth sharing the gang, else its first thread."""
        if len(team) == 1 or self.wave_pays(k, team):
            return team
        stages = self.gangs[k].stages
        alone = sum(self.cost(s) for s in stages)
        shared = sum(min(self.cost(s, lanes=len(team)), self.cost(s, rows=len(team))) for s in stages)
        return team if shared + LAUNCH < GAIN * alone else team[:1]

    def cost(self, stage: int, **shares: int) -> float:
        return seconds(self.runner.stages[stage], self.runner.dims, self.machine, **shares)

    def plan(self) -> Tables:
        everyone = list(range(self.threads))
        for level in range(max((g.level for g in self.gangs), default=-1) + 1):
            here = [k for k, g in enumerate(self.gangs) if g.level == level]
            teams = self.teams(here)
            if records := self.runner.joins([s for k in here for s in self.gangs[k].stages]):
                self.tables.rows[0].extend(records)
                self.tables.meet(everyone)
            for k, team in teams:
                self.gang(k, self.team_for(k, team))
            self.tables.meet(everyone)
        return self.tables

    def teams(self, here: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Which threads run which gang: one each when that balances, everyone one after the other when not."""
        everyone = list(range(self.threads))
        if self.threads == 1 or len(here) == 1:
            return [(k, everyone) for k in here]
        costs = {k: sum(self.cost(s) for s in self.gangs[k].stages) for k in here}
        size = max(1, self.threads // len(here))
        slots = [everyone[i : i + size] for i in range(0, self.threads - size + 1, size)]
        load = [0.0] * len(slots)
        assigned = []
        for k in sorted(here, key=lambda k: -costs[k]):
            slot = load.index(min(load))
            load[slot] += costs[k] / len(slots[slot])
            assigned.append((k, slots[slot]))
        if max(load) <= 1.15 * sum(costs.values()) / self.threads:
            return assigned
        return [(k, everyone) for k in here]

    # --- one gang -------------------------------------------------------------------------------------------------

    def gang(self, k: int, team: list[int]) -> None:
        gang = self.gangs[k]
        if len(team) > 1 and self.wave_pays(k, team):
            self.wave(k, team)
            return
        chunks = self.chunks(k, CHUNK_ROWS)
        shares = {s: self.shares(s, team) for s in gang.stages}
        for begin, end in chunks:
            for s in gang.stages:
                self.lead(s, begin, end, team, first=begin == 0)
                for t, share in zip(team, shares[s], strict=True):
                    self.tables.rows[t].append(self.call(s, begin, end, share))
                self.tables.meet(team)
                self.deliver(s, begin, end, team)
                if end == chunks[-1][1]:
                    self.tables.rows[team[0]].extend(self.runner.after(s))
        if len(team) > 1:
            self.tables.meet(team)

    def lead(self, s: int, begin: int, end: int, team: Sequence[int], *, first: bool) -> None:
        """What one thread does before the others may start: initial carries, inputs laid out anew."""
        records = self.runner.before(s) if first else []
        records = records + self.runner.copies(s, begin, end)
        if records:
            self.tables.rows[team[0]].extend(records)
            self.tables.meet(team)

    def deliver(self, s: int, begin: int, end: int, team: Sequence[int]) -> None:
        records = self.runner.deliveries(s, begin, end)
        if records:
            self.tables.rows[team[0]].extend(records)
            self.tables.meet(team)

    def chunks(self, k: int, rows: int) -> list[tuple[int, int]]:
        """Ranges of steps. A gang that is one scan, or cannot be cut, is one range."""
        gang = self.gangs[k]
        steps = self.steps(k)
        if len(gang.stages) == 1 or k in self.whole or gang.steps is None or steps == 0:
            return [(0, steps)]
        scan = next((s for s in gang.stages if self.runner.stages[s].is_scan), None)
        if scan is None:
            return [(0, steps)]
        batch = max(1, sizes_of(self.runner.stages[scan], self.runner.dims).rows)
        size = max(1, -(-rows // batch))
        return [(t, min(t + size, steps)) for t in range(0, steps, size)]

    def steps(self, k: int) -> int:
        dim = self.gangs[k].steps
        if dim is None:
            return 1
        return resolve((dim,), self.runner.dims)[0]

    def shares(self, s: int, team: Sequence[int]) -> list[Share]:
        """Split one stage over a team by rows or by lanes, whichever is estimated to be faster."""
        n = len(team)
        stage = self.runner.stages[s]
        rows = sizes_of(stage, self.runner.dims).rows
        if n == 1:
            return [Share()]
        image = (stage.shifts.image or rows) if stage.is_scan else 1
        by_rows = rows >= n * image and self.cost(s, rows=n) <= self.cost(s, lanes=n)
        if by_rows or (not stage.is_scan and rows >= 2 * n):
            return [Share(k, n) for k in range(n)]
        counter = self.tables.counter(team)
        return [Share(k, n, False, counter) for k in range(n)]

    def call(self, s: int, begin: int, end: int, share: Share) -> Record:
        return self.runner.run(s, begin, end, share)

    # --- wavefront ------------------------------------------------------------------------------------------------

    def wave_pays(self, k: int, team: Sequence[int]) -> bool:
        """A stack of scans, each on one thread, against each layer split over the team."""
        gang = self.gangs[k]
        scans = [s for s in gang.stages if self.runner.stages[s].is_scan]
        if len(scans) < 2 or k in self.whole:
            return False
        split = sum(min(self.cost(s, lanes=len(team)), self.cost(s, rows=len(team))) for s in gang.stages)
        split += LAUNCH
        chunks = len(self.chunks(k, WAVE_ROWS))
        load = [0.0] * len(team)
        for s, t in self.pinned(k, team).items():
            load[team.index(t)] += self.cost(s)
        fill = 1.0 + (len(scans) - 1) / max(chunks, 1)
        return max(load) * fill + chunks * 1e-6 < 0.95 * split

    def pinned(self, k: int, team: Sequence[int]) -> dict[int, int]:
        """Stage -> thread: the longest first, each to the thread with the least work."""
        load = dict.fromkeys(team, 0.0)
        where = {}
        for s in sorted(self.gangs[k].stages, key=lambda s: -self.cost(s)):
            t = min(load, key=lambda t: load[t])
            load[t] += self.cost(s)
            where[s] = t
        return {s: where[s] for s in self.gangs[k].stages}

    def wave(self, k: int, team: list[int]) -> None:
        """Chunk c of the i-th stage runs in tick c + i; threads meet between ticks."""
        stages = self.gangs[k].stages
        chunks = self.chunks(k, WAVE_ROWS)
        where = self.pinned(k, team)
        for tick in range(len(chunks) + len(stages) - 1):
            for delay, s in enumerate(stages):
                c = tick - delay
                if not 0 <= c < len(chunks):
                    continue
                begin, end = chunks[c]
                t = where[s]
                self.lead(s, begin, end, [t], first=c == 0)
                self.tables.rows[t].append(self.call(s, begin, end, Share()))
                self.deliver(s, begin, end, [t])
                if c == len(chunks) - 1:
                    self.tables.rows[t].extend(self.runner.after(s))
            self.tables.meet(team)
