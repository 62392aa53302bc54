"""The same bits for any number of threads, any way of sharing, any batch; calls from several Python threads."""

from __future__ import annotations

import threading
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnngraph as rg
from rnngraph.backends.llvm import plan
from rnngraph.ir import Array, Graph
from rnngraph.nn import GRU, LSTM, Bidirectional, Dense, Input, Model, Sequential, ops, trace
from tests.backends.llvm.helpers import TARGETS
from tests.backends.llvm.native import PLANNERS, Native, check, native
from tests.phases.cells import CELLS, graph
from tests.phases.random_cells import RandomCell
from tests.testing import random_inputs

pytestmark = pytest.mark.usefixtures("all_cores")


def forced(monkeypatch: pytest.MonkeyPatch, made: Graph, mode: str, threads: int) -> Native:
    """Native code that uses all threads in a given way, however small the work."""
    monkeypatch.setattr(plan, "Planner", PLANNERS[mode])
    return native(made, threads=threads)


def participants(run: Native) -> set[int]:
    return {p.job.participants for free in run.kernel.plans.values() for p in free}


def assert_same_bits(got: dict[str, Array], want: dict[str, Array], why: str = "") -> None:
    for name, expected in want.items():
        np.testing.assert_array_equal(got[name], expected, err_msg=f"{name} {why}")


@pytest.mark.parametrize("mode", ["rows", "lanes"])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_shared_by_threads(kind: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = graph(kind, 50, 9, lengths=True)
    alone = native(made)
    for threads in (2, 3):
        run = forced(monkeypatch, made, mode, threads)
        for batch, time in ((7, 20), (1, 9), (40, 3), (2, 0)):
            sizes = {"batch": batch, "time": time}
            inputs = random_inputs(made, sizes)
            want = alone(inputs)
            for _ in range(3):
                assert_same_bits(run(inputs), want, f"{threads} threads, {sizes}")
        assert threads in participants(run)  # beside it a call alone, when the machine was busy


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(["rows", "lanes"]), st.integers(2, 4))
def test_random_cells_shared_by_threads(random: Random, mode: str, threads: int) -> None:
    made = RandomCell(random, random.choice([9, 40, 70]), random.choice([3, 6, 12])).graph
    inputs = random_inputs(made, {"T": random.randint(0, 12), "B": random.randint(1, 20)})
    want = native(made)(inputs)
    with pytest.MonkeyPatch.context() as patch:
        run = forced(patch, made, mode, threads)
        for _ in range(3):
            assert_same_bits(run(inputs), want)


def deep(x: Any) -> Any:
    """A stack of one direction: what a wavefront is for."""
    for n in (24, 16, 40):
        x = LSTM(n, return_sequences=True)(x)
    return Dense(3)(x)


def both(x: Any) -> Any:
    """Two directions, each on its own thread, and joins that hold a copy of the input."""
    y = Bidirectional(GRU(20, return_sequences=True))(x)
    z = Bidirectional(LSTM(18, return_sequences=True, return_state=False))(ops.concat([x, y]))
    return ops.concat([x, z]), y


def backwards(x: Any) -> Any:
    for n in (12, 20):
        x = GRU(n, return_sequences=True, go_backwards=True)(x)
    return x


@pytest.mark.parametrize("mode", ["rows", "lanes", "wave"])
@pytest.mark.parametrize("model", [deep, both, backwards], ids=lambda f: f.__name__)
def test_models_shared_by_threads(model: Any, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = Input(("batch", "time", 6))
    outputs = model(x)
    made = trace(Model(x, list(outputs) if isinstance(outputs, tuple) else outputs), lengths=model is not both)
    rg.passes.run("canonicalize,fuse-gate-matmuls,hoist-invariant,hoist-input-projection,canonicalize,dce", made)
    alone = native(made)
    for batch, time in ((1, 70), (5, 31), (33, 2), (3, 0)):
        sizes = {"batch": batch, "time": time}
        inputs = random_inputs(made, sizes)
        check(alone, [sizes], tolerance=3e-6)
        want = alone(inputs)
        monkeypatch.undo()
        for threads in (2, 3, 5):
            run = forced(monkeypatch, made, mode, threads)
            for _ in range(2):
                assert_same_bits(run(inputs), want, f"{threads} threads, {sizes}")


@pytest.mark.parametrize("kind", CELLS)
def test_a_row_does_not_depend_on_the_batch(kind: str) -> None:
    run = native(graph(kind, 70, 20, lengths=True))
    inputs = random_inputs(run.graph, {"batch": 33, "time": 6})
    together = run(inputs)
    for row in (0, 15, 31, 32):
        alone = run({n: a[row:row + 1].copy() for n, a in inputs.items()})
        assert_same_bits(alone, {n: a[row:row + 1] for n, a in together.items()}, f"row {row}")


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.parametrize("lanes", [3, 20, 70])  # tiles of 1, 2, 3 and 4 vectors, some beyond the last lane
def test_rows_of_every_number(lanes: int, target: str) -> None:
    made = trace(Dense(lanes, activation="relu"), Input(("batch", 9)))
    run = native(made, TARGETS[target])
    inputs = random_inputs(run.graph, {"batch": 23})
    together = run(inputs)
    check(run, [{"batch": 23}])
    for rows in range(1, 23):
        assert_same_bits(run({"x": inputs["x"][:rows].copy()}), {"y": together["y"][:rows]}, f"{rows} rows")


def test_long_inner_sums_do_not_depend_on_the_batch() -> None:
    """k above the block that stays in L1: one row passes it at once, many rows block by block."""
    run = native(trace(Sequential([Dense(64), LSTM(140, return_sequences=True)]), Input(("batch", "time", 1500))))
    inputs = random_inputs(run.graph, {"batch": 40, "time": 2})
    check(run, [{"batch": 40, "time": 2}])
    together = run(inputs)
    for row in (0, 1, 39):
        assert_same_bits(run({"x": inputs["x"][row:row + 1]}), {"y": together["y"][row:row + 1]})


def test_more_threads_than_cores() -> None:
    model = Sequential([Bidirectional(LSTM(96, return_sequences=True)), Dense(5)])
    inputs = Input(("batch", "time", 40))
    x = np.random.default_rng(0).standard_normal((12, 20, 40)).astype(np.float32)
    want = rg.compile(model, inputs, target="cpu", threads=1)(x)
    for threads in (2, 3, 6):
        np.testing.assert_array_equal(rg.compile(model, inputs, target="cpu", threads=threads)(x), want)


@pytest.mark.parametrize("threads", [1, 3])
def test_calls_from_several_python_threads(threads: int) -> None:
    compiled = rg.compile(Sequential([Bidirectional(GRU(48, return_sequences=True)), LSTM(20)]),
                          Input(("batch", "time", 16)), target="cpu", threads=threads)
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((b, t, 16)).astype(np.float32) for b, t in ((1, 5), (3, 40), (8, 20), (1, 33))]
    want = [compiled(x) for x in xs]
    wrong: list[str] = []

    def work(k: int) -> None:
        for i in range(40):
            j = (i + k) % len(xs)
            if not np.array_equal(compiled(xs[j]), want[j]):
                wrong.append(f"thread {k}, call {i}")

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong
