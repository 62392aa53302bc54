"""Loops whose weights stay in memory, as one kernel: against the float64 reference; mutations; the choice."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnngraph.backends.cupy.caps import DESCRIBED, SHIM_CAPS
from rnngraph.backends.cupy.codegen.persistent import arranged
from rnngraph.backends.cupy.codegen.stage import stage_source
from rnngraph.backends.cupy.costs import resident_cost, streamed_cost
from rnngraph.backends.cupy.nvrtc import binding, build
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.backends.registry import Machine
from rnngraph.errors import CompileError, MissingExtraError
from rnngraph.ir import evaluate
from tests.backends.cupy.mutants import Mutant
from tests.backends.cupy.on_shim import (
    BACKWARDS,
    FORWARDS,
    ORDERS,
    SHUFFLED,
    TOLERANCE,
    assert_on_gpu,
    needs_compiler,
    on_gpu,
)
from tests.backends.llvm.native import error, scheduled
from tests.phases.cells import CELLS, graph
from tests.phases.random_cells import RandomCell
from tests.testing import random_inputs

IMPL = "cupy.loop.streamed"
UNSET: dict[str, Any] = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros"}  # no numbers are asked for
REDUCING = {"layer_normed", "row_gate", "normalized", "softmax", "summary", "timed"}
FEW = ("lstm", "gru_before")


@needs_compiler
@pytest.mark.parametrize("kind", FEW)
def test_cells(kind: str) -> None:
    """One row, which has code of its own; some; more than stand together."""
    run = on_gpu(graph(kind, 37, 7), impl=IMPL)
    assert any(run.kernel.products), "no scan is one kernel"
    for batch, orders in ((1, (FORWARDS,)), (3, ORDERS), (17, (SHUFFLED,))):
        assert_on_gpu(graph(kind, 37, 7), {"batch": batch, "time": 3}, orders=orders, impl=IMPL)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("units", [16, 37, 96])
@pytest.mark.parametrize("kind", sorted(set(CELLS) - REDUCING))
def test_all_cells(kind: str, units: int) -> None:
    for batch in (1, 2, 8, 17):
        assert_on_gpu(graph(kind, units, 7), {"batch": batch, "time": 3}, impl=IMPL)


@needs_compiler
def test_warps_that_share_a_sum() -> None:
    """600 numbers per sum, one lane to a block: four warps have a part of it each."""
    device = ShimDevice(SHUFFLED)
    device.caps = replace(SHIM_CAPS, sms=6)
    run = on_gpu(graph("lstm", 6, 600), device, IMPL)
    (products,) = filter(None, run.kernel.products)
    assert products.lanes == [1]
    assert "unit % 4" in run.kernel.sources[-1].text
    for batch in (1, 5):
        inputs = random_inputs(run.graph, {"batch": batch, "time": 2})
        assert error(run(inputs), evaluate(run.graph, inputs, float64=True)) <= TOLERANCE


@needs_compiler
@pytest.mark.parametrize("reverse", [pytest.param(False, marks=pytest.mark.slow), True])
def test_rows_that_end(reverse: bool) -> None:
    made = graph("lstm", 12, 5, lengths=True, **({"go_backwards": True} if reverse else {}))
    assert_on_gpu(made, {"batch": 5, "time": 6}, orders=(BACKWARDS,), impl=IMPL)


@pytest.mark.slow
@needs_compiler
@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_cells(random: Random) -> None:
    made = RandomCell(random, random.choice([5, 33, 70]), random.choice([3, 8, 14])).graph
    assert_on_gpu(made, {"T": random.randint(1, 9), "B": random.randint(1, 17)}, impl=IMPL)


@needs_compiler
@pytest.mark.parametrize(("kind", "old", "new"), [
    ("gru_before", "rg_grid_sync(arrivals, ++turn);", "__syncthreads();"),  # reads what is not written yet
    pytest.param("lstm", "__syncthreads();\n            if (rows == 1)", "if (rows == 1)", marks=pytest.mark.slow),
    pytest.param("lstm", "}\n            __syncthreads();\n            for (int at = threadIdx.x; at < rows * (lane1",
                 "}\n            for (int at = threadIdx.x; at < rows * (lane1", marks=pytest.mark.slow),  # sums
    ("lstm", "(2 * 8 + (row - row0))", "(1 * 8 + (row - row0))"),  # another gate
    pytest.param("lstm", "w1.y * x.y + ", "", marks=pytest.mark.slow),
])
def test_mutants_are_caught(kind: str, old: str, new: str) -> None:
    caught, found = set[int](), 0
    for order in ORDERS:
        device = Mutant(old, new, order)
        run = on_gpu(graph(kind, 37, 8), device, impl=IMPL)
        found += device.found
        for batch in (1, 3):
            inputs = random_inputs(run.graph, {"batch": batch, "time": 3})
            try:
                if error(run(inputs), evaluate(run.graph, inputs, float64=True)) > TOLERANCE:
                    caught.add(batch)
            except (AssertionError, CompileError):  # NaN; threads that wait for ever
                caught.add(batch)
    assert found, "the mutation changes nothing: the text is not there"
    assert caught == {1, 3}, "no order of the threads shows the defect"


@pytest.mark.parametrize(("units", "gpus"), [(1024, {"t4", "a100", "h100"}), (2048, {"a100", "h100"})])
def test_what_fits_where(units: int, gpus: set[str]) -> None:
    """2048 numbers of 8 rows alone are all that a block of a T4 has."""
    _, schedule = scheduled(graph("lstm", units, 80, **UNSET))
    (stage,) = (s for s in schedule.stages if s.is_scan)
    made = {gpu: arranged(stage, IMPL, DESCRIBED[gpu].sms, DESCRIBED[gpu].shared) for gpu in ("t4", "a100", "h100")}
    assert {gpu for gpu, products in made.items() if products is not None} == gpus
    for products in filter(None, made.values()):
        assert (products.blocks - 1) * products.lanes[0] < units <= products.blocks * products.lanes[0]


@pytest.mark.parametrize("units", [256, 512, 1024])
def test_few_steps_read_weights_from_memory(units: int) -> None:
    """For one step it is not worth to bring the weights into shared memory; for a hundred it is."""
    made, machine = graph("lstm", units, 80, **UNSET), Machine()
    (op,) = (o for o in made.walk() if o.name == "scan")
    streamed, resident = ([cost(op, {"batch": 1, "time": steps}, machine) for steps in (1, 100)]
                          for cost in (streamed_cost, resident_cost))
    assert streamed[0] < resident[0]
    assert streamed[1] > resident[1]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("kind", ["lstm", "gru_after", "gru_before"])
def test_real_compiler(kind: str, arch: str) -> None:
    """NVRTC builds kernels without a GPU: nothing is spilled, and 256 threads have their registers."""
    try:
        binding()
    except MissingExtraError as e:
        pytest.skip(f"no NVRTC: {e}")
    caps = next(c for c in DESCRIBED.values() if c.arch == arch)
    for units in (256, 512, 1024, 2048):
        _, schedule = scheduled(graph(kind, units, 80, **UNSET))
        (stage,) = (s for s in schedule.stages if s.is_scan)
        built = build(stage_source(stage, arranged(stage, IMPL, caps.sms, caps.shared)).text, arch)
        assert built.spilled == 0
        assert [256 * n <= caps.registers for n in built.registers] == [True]
