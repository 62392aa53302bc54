"""The static schedule of a call: which thread runs which steps, lanes or rows, and where threads meet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

import rnngraph as rg
from rnngraph.backends.llvm.cost import machine
from rnngraph.backends.llvm.cpu import native_target
from rnngraph.backends.llvm.tasks import Planner, Record, Share, Tables
from rnngraph.ir import Dims
from rnngraph.nn import LSTM, Bidirectional, Dense, Input, Layer, Sequential, trace
from rnngraph.phases.stages import Stage
from tests.backends.llvm.native import PLANNERS, planned

STAGE, LEAD, AFTER = 1, 2, 3  # what a record calls, in these tests


class Recorder:
    """A Runner whose records say what would run."""

    def __init__(self, stages: Sequence[Stage], dims: Dims) -> None:
        self.stages = stages
        self.dims = dims

    def run(self, stage: int, begin: int, end: int, share: Share) -> Record:
        return (STAGE, stage, begin, end, share.part, share.parts, int(share.by_rows))

    def joins(self, stages: Sequence[int]) -> list[Record]:
        return []

    def before(self, stage: int) -> list[Record]:
        return [(LEAD, stage)]

    def after(self, stage: int) -> list[Record]:
        return [(AFTER, stage)]

    def copies(self, stage: int, begin: int, end: int) -> list[Record]:
        return []

    def deliveries(self, stage: int, begin: int, end: int) -> list[Record]:
        return []


def tables(model: Layer, dims: Dims, threads: int, planner: type[Planner] = Planner) -> Tables:
    graph = trace(model, Input(("batch", "time", 32)))
    rg.passes.run("canonicalize,fuse-gate-matmuls,hoist-invariant,hoist-input-projection,canonicalize,dce", graph)
    _, schedule, memory = planned(graph)
    runner = Recorder(schedule.stages, dims)
    return planner(memory.gangs, runner, machine(native_target()), threads, frozenset()).plan()


def covered(made: Tables, stage: int) -> list[tuple[int, int]]:
    """The steps that the first participant of a stage runs, in order."""
    return [(r[2], r[3]) for t in made.rows for r in t if r[:2] == (STAGE, stage) and r[4] == 0]


LAYER = LSTM(64, return_sequences=True)


def test_a_tiny_call_stays_on_one_thread() -> None:
    made = tables(LSTM(4, return_sequences=True), {"batch": 1, "time": 5}, 4)
    assert made.threads == 1
    assert all(r[0] for r in made.rows[0]), "one thread meets nobody"


def test_one_thread_walks_chunk_by_chunk() -> None:
    """The projection of some steps, then the scan of these steps, while they are in the cache."""
    made = tables(LAYER, {"batch": 4, "time": 40}, 1)
    scan = covered(made, 1)
    assert len(scan) > 1
    assert scan[0][0] == 0
    assert scan[-1][1] == 40
    assert all(a[1] == b[0] for a, b in pairwise(scan))
    assert covered(made, 0) == scan
    order = [r[1] for r in made.rows[0] if r[0] == STAGE]
    assert order == [0, 1] * len(scan)


def test_no_steps_are_one_empty_chunk() -> None:
    made = tables(LAYER, {"batch": 4, "time": 0}, 1)
    assert covered(made, 1) == [(0, 0)]
    assert (AFTER, 1) in made.rows[0]


def test_a_stage_starts_once_and_ends_once() -> None:
    for mode, planner in PLANNERS.items():
        made = tables(Sequential([LSTM(24, return_sequences=True), LSTM(24, return_sequences=True)]),
                      {"batch": 2, "time": 50}, 3, planner)
        for kind in (LEAD, AFTER):
            for stage in range(4):
                assert sum(r == (kind, stage) for t in made.rows for r in t) == 1, (mode, kind, stage)


@pytest.mark.parametrize("mode", PLANNERS)
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_everybody_meets_equally_often(mode: str, threads: int) -> None:
    """A counter is shared by all meetings of a team: each member must pass it as often as the others."""
    model = Sequential([Bidirectional(LSTM(24, return_sequences=True)), LSTM(24, return_sequences=True), Dense(3)])
    made = tables(model, {"batch": 6, "time": 30}, threads, PLANNERS[mode])
    for team in made.counters:
        counts = [sum(r[0] == 0 and r[1] == made.counter(team) for r in made.rows[t]) for t in team]
        assert len(set(counts)) == 1, (team, counts)


def test_directions_run_side_by_side() -> None:
    layer = LSTM(128, return_sequences=True, recurrent_initializer="zeros")
    made = tables(Bidirectional(layer), {"batch": 1, "time": 100}, 2)
    assert made.threads == 2
    stages = [{r[1] for r in t if r[0] == STAGE} for t in made.rows]
    assert not stages[0] & stages[1], "each direction has a thread of its own"


def test_a_wave_gives_every_layer_a_thread() -> None:
    made = tables(Sequential([LSTM(64, return_sequences=True), LSTM(64, return_sequences=True)]),
                  {"batch": 1, "time": 200}, 2, PLANNERS["wave"])
    scans = [{r[1] for r in t if r[0] == STAGE} for t in made.rows]
    assert not scans[0] & scans[1]
    assert all(covered(made, k)[-1][1] == 200 for k in range(4))


@pytest.mark.parametrize("count", [0, 1, 5, 33])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_shares_of_rows_are_all_rows_once(count: int, parts: int) -> None:
    ranges = [Share(k, parts).rows(count) for k in range(parts)]
    assert [r for a, b in ranges for r in range(a, b)] == list(range(count))
