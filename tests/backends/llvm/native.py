"""Graphs run by the native backend alone, without passes or selection, and compared with the float64 reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.backends.llvm.cost import Machine
from rnngraph.backends.llvm.cpu import CpuTarget, native_target
from rnngraph.backends.llvm.kernel import NativeKernel
from rnngraph.backends.llvm.tasks import Planner, Runner, Share, Tables
from rnngraph.ir import Array, Builder, Graph, bind_dims, evaluate, expand_rnn, parse
from rnngraph.ir.ops import CONST
from rnngraph.phases.gangs import Gang
from rnngraph.phases.memory import MemoryPlan, plan_memory
from rnngraph.phases.stages import Schedule, build_schedule
from tests.testing import random_inputs

TOLERANCE = 1e-5  # of the largest number of an output


def scheduled(graph: str | Graph) -> tuple[Graph, Schedule]:
    """A copy of the graph with its rnn nodes expanded, and its schedule."""
    copy = parse(graph) if isinstance(graph, str) else graph.clone()
    for node in [op for op in copy.walk() if op.name == "rnn"]:
        for old, new in zip(node.results, expand_rnn(Builder.at(node), node), strict=True):
            old.replace_by(new)
        node.erase()
    ops = [op for op in copy.block.body if op.opdef is not CONST]
    return copy, build_schedule(ops, copy.outputs)


def planned(graph: str | Graph) -> tuple[Graph, Schedule, MemoryPlan]:
    """`scheduled`, and where its values live."""
    copy, schedule = scheduled(graph)
    return copy, schedule, plan_memory(schedule, copy.inputs, copy.outputs)


@dataclass(frozen=True)
class Native:
    """A graph as one native kernel."""

    graph: Graph
    kernel: NativeKernel

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        arrays = [inputs[n] for n in self.graph.input_names]
        types = dict(zip(self.graph.input_names, (v.type for v in self.graph.inputs), strict=True))
        dims = bind_dims(types, inputs)
        return dict(zip(self.graph.output_names, self.kernel.run(dims, arrays), strict=True))


def native(graph: str | Graph, target: CpuTarget | None = None, threads: int = 1) -> Native:
    """Compile all of a graph to native code."""
    copy, schedule, memory = planned(graph)
    return Native(copy, NativeKernel(schedule, memory, copy.inputs, copy.outputs, target or native_target(), threads))


def error(got: Mapping[str, Array], want: Mapping[str, Array]) -> float:
    """The largest difference, relative to the largest number of its output (or to 1, if that is smaller)."""
    worst = 0.0
    assert list(got) == list(want)
    for name, expected in want.items():
        assert got[name].shape == expected.shape, name
        assert not np.isnan(got[name]).any(), f"NaN in output {name}"
        if expected.dtype == np.bool_:
            assert got[name].dtype == np.bool_
            expected = expected.astype(np.float64)
        scale = max(1e-3, float(np.abs(expected).max(initial=0.0)))
        worst = max(worst, float(np.abs(got[name] - expected).max(initial=0.0)) / scale)
    return worst


def assert_native(graph: str | Graph, dims: Mapping[str, int], *, target: CpuTarget | None = None, threads: int = 1,
                  seed: int = 0, tolerance: float = TOLERANCE) -> None:
    """The native result equals the reference's, twice (the second call reuses the plan)."""
    run = native(graph, target, threads)
    check(run, [dims, dims], seed=seed, tolerance=tolerance)


def check(run: Native, sizes: Sequence[Mapping[str, int]], *, seed: int = 0, tolerance: float = TOLERANCE) -> None:
    """One compiled graph against the reference for several sizes."""
    for k, dims in enumerate(sizes):
        inputs = random_inputs(run.graph, dims, seed + k)
        want = evaluate(run.graph, inputs, float64=True)
        worst = error(run(inputs), want)
        assert worst <= tolerance, f"off by {worst:.2e} of the scale with {dict(dims)}"


# --- forced schedules -----------------------------------------------------------------------------------------------


class ForcedPlanner(Planner):
    """Uses every thread however small the work is: by "rows", by "lanes", or as a "wave" where there is one."""

    mode = "rows"

    def __init__(self, gangs: Sequence[Gang], runner: Runner, machine: Machine, threads: int,
                 whole: frozenset[int]) -> None:
        super().__init__(gangs, runner, machine, threads, whole)
        self.threads = threads
        self.tables = Tables(threads)

    def team_for(self, k: int, team: list[int]) -> list[int]:
        return team

    def shares(self, s: int, team: Sequence[int]) -> list[Share]:
        n = len(team)
        if n == 1 or self.mode == "rows":
            return [Share(k, n) for k in range(n)]
        counter = self.tables.counter(team)
        return [Share(k, n, False, counter) for k in range(n)]

    def wave_pays(self, k: int, team: Sequence[int]) -> bool:
        scans = [s for s in self.gangs[k].stages if self.runner.stages[s].is_scan]
        return self.mode == "wave" and len(scans) > 1 and k not in self.whole


PLANNERS: dict[str, type[Planner]] = {
    mode: type(f"Forced{mode}", (ForcedPlanner,), {"mode": mode}) for mode in ("rows", "lanes", "wave")
}
