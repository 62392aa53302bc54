"""Plans: how many are kept, that calls leave nothing behind, and what the environment may choose."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.backends.llvm.kernel import MAX_SIZES
from rnngraph.backends.llvm.plan import Plan
from rnngraph.nn import GRU, LSTM, Dense, Input, Sequential
from tests.backends.llvm.native import native
from tests.phases.cells import graph
from tests.testing import random_inputs


def resident() -> int:
    """Bytes of memory that the process has now."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_calls_leave_nothing_behind() -> None:
    compiled = rg.compile(Sequential([GRU(4, return_sequences=True), Dense(2)]), Input(("batch", "time", 3)),
                          target="cpu", threads=1)
    x = np.ones((2, 3, 3), np.float32)
    for _ in range(500):
        compiled(x)
    gc.collect()
    before = resident()
    for _ in range(20_000):
        compiled(x)
    gc.collect()
    assert resident() - before < 4e6


def test_kept_plans_are_bounded() -> None:
    run = native(graph("lstm", 3, 2))
    for time in range(2 * MAX_SIZES):
        run(random_inputs(run.graph, {"batch": 1, "time": time}))
    assert len(run.kernel.plans) == MAX_SIZES
    assert sum(map(len, run.kernel.plans.values())) == MAX_SIZES


def test_a_plan_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(*args: Any) -> Plan:
        made.append(args)
        return Plan(*args)

    monkeypatch.setattr("rnngraph.backends.llvm.kernel.Plan", make)
    run = native(graph("lstm", 3, 2))
    for time in (4, 5, 4, 5, 4):
        run(random_inputs(run.graph, {"batch": 2, "time": time}))
    assert len(made) == 2


def test_outputs_belong_to_the_caller() -> None:
    run = native(graph("gru_after", 6, 4))
    first = run(random_inputs(run.graph, {"batch": 2, "time": 5}, seed=0))
    kept = {n: a.copy() for n, a in first.items()}
    run(random_inputs(run.graph, {"batch": 2, "time": 5}, seed=1))
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])


def test_inputs_are_not_written() -> None:
    run = native(graph("delays", 6, 4, lengths=True))
    inputs = random_inputs(run.graph, {"batch": 3, "time": 5})
    before = {n: a.copy() for n, a in inputs.items()}
    run(inputs)
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("level", ["avx2", "generic"])
def test_the_environment_chooses_the_features(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnngraph.backends.llvm import cpu

    if not cpu.runs_here(cpu.target(level)):
        pytest.skip(f"this machine does not run {level}")
    x = np.random.default_rng(0).standard_normal((3, 8, 5)).astype(np.float32)
    model, inputs = LSTM(21, return_sequences=True), Input(("batch", "time", 5))
    want = rg.compile(model, inputs, target="cpu")(x)
    monkeypatch.setenv("RNNGRAPH_CPU", level)
    np.testing.assert_allclose(rg.compile(model, inputs, target="cpu")(x), want, rtol=0, atol=3e-6)
