"""Scans as one persistent kernel: against the float64 reference under three orders of the threads, and mutations."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnngraph.backends.cupy.caps import DESCRIBED
from rnngraph.backends.cupy.codegen.persistent import arranged
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.ir import evaluate
from tests.backends.cupy.mutants import Mutant
from tests.backends.cupy.on_shim import (
    FORWARDS,
    ORDERS,
    SHUFFLED,
    TOLERANCE,
    assert_on_gpu,
    is_wrong,
    needs_compiler,
    on_gpu,
)
from tests.backends.llvm.native import error, scheduled
from tests.backends.llvm.test_until import feeds
from tests.backends.llvm.test_until import graph as until_graph
from tests.phases.cells import CELLS, graph
from tests.phases.random_cells import RandomCell
from tests.testing import random_inputs

LOOP_IMPL = "cupy.loop"
pytestmark = needs_compiler


@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind: str) -> None:
    run = on_gpu(graph(kind, 37, 7), impl=LOOP_IMPL)
    assert any(run.kernel.products), "no scan is one kernel"
    assert_on_gpu(graph(kind, 37, 7), {"batch": 3, "time": 4}, impl=LOOP_IMPL)


@pytest.mark.parametrize("batch", [1, 8, 9, 21])
def test_more_rows_than_stand_together(batch: int) -> None:
    assert_on_gpu(graph("gru_before", 20, 6), {"batch": batch, "time": 3}, orders=(FORWARDS,), impl=LOOP_IMPL)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_that_end(reverse: bool) -> None:
    made = graph("lstm", 12, 5, lengths=True, **({"go_backwards": True} if reverse else {}))
    assert_on_gpu(made, {"batch": 5, "time": 6}, orders=(SHUFFLED,), impl=LOOP_IMPL)


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_cells(random: Random) -> None:
    made = RandomCell(random, random.choice([5, 33]), random.choice([3, 8])).graph
    assert_on_gpu(made, {"T": random.randint(1, 5), "B": random.randint(1, 6)}, orders=(random.choice(ORDERS),),
                  impl=LOOP_IMPL)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_many_random_cells(random: Random) -> None:
    made = RandomCell(random, random.choice([5, 33, 70]), random.choice([3, 8, 14])).graph
    assert_on_gpu(made, {"T": random.randint(1, 9), "B": random.randint(1, 17)}, impl=LOOP_IMPL)


@pytest.mark.parametrize("pad", ["zero", "repeat"])
@pytest.mark.parametrize("options", ["", ", reverse = true"])
def test_rows_that_are_done(pad: str, options: str) -> None:
    """Rows end by a state; when all are done the loop ends, at even and odd steps."""
    made = until_graph(f"{options}, pad = {pad}")
    for order in ORDERS:
        run = on_gpu(made, ShimDevice(order), LOOP_IMPL)
        for batch, steps, seed in ((5, 9, 1), (1, 8, 2), (1, 7, 3), (2, 0, 4)):
            inputs = feeds(batch, steps, seed)
            worst = error(run(inputs), evaluate(made, inputs, float64=True))
            assert worst <= TOLERANCE, f"order {order}, {batch} rows: off by {worst:.2e}"
        inputs = feeds(3, 5)
        inputs["d0"][:] = 1.0  # none ever runs
        assert error(run(inputs), evaluate(made, inputs, float64=True)) <= TOLERANCE


@pytest.mark.parametrize("kind", ["layer_normed", "row_gate", "summary"])
def test_the_same_bits_in_every_order(kind: str) -> None:
    results = []
    for order in ORDERS:
        run = on_gpu(graph(kind, 37, 7), ShimDevice(order), LOOP_IMPL)
        results.append(run(random_inputs(run.graph, {"batch": 9, "time": 3})))
    for other in results[1:]:
        for name, array in results[0].items():
            np.testing.assert_array_equal(other[name], array)


MUTANTS = [
    ("gru_before", "rg_grid_sync(arrivals, ++turn);", "__syncthreads();", None),  # reads what is not written yet
    ("lstm", "left[at] = x;\n            }\n            __syncthreads();", "left[at] = x;\n            }", None),
    ("lstm", "(26 + (lane - lane0))", "(13 + (lane - lane0))", None),  # another gate
    ("lstm", "step % 2 == 1", "step % 2 == 0", None),
    *[("layer_normed", "rg_grid_sync(arrivals, ++turn);", "__syncthreads();", k) for k in range(3)],
    *[("row_gate", "rg_grid_sync(arrivals, ++turn);", "__syncthreads();", k) for k in range(2)],
    ("until", "b < 2;", "b < 1;", None),  # the part of a block is left out
    ("until", "[b * (long long)a.rows + row]", "[b * (long long)a.rows + row0]", None),
    ("layer_normed", "rg_load_fresh(&a.reduced1[blockIdx.x", "rg_load_fresh(&a.reduced0[blockIdx.x", None),
    ("until", "if (!__syncthreads_or(open))", "if (!open)", None),  # some threads leave, others wait for them
    ("until", "if ((a.steps - step) % 2)", "if ((a.steps - step) % 2 == 0)", None),
]


@pytest.mark.parametrize(("kind", "old", "new", "which"), MUTANTS)
def test_mutants_are_caught(kind: str, old: str, new: str, which: int | None) -> None:
    made = until_graph() if kind == "until" else graph(kind, 37, 8)
    caught = found = 0
    for order in ORDERS:
        if caught:
            break
        device = Mutant(old, new, order, which)
        run = on_gpu(made, device, impl=LOOP_IMPL)
        found += device.found > (which or 0)
        for steps in (7, 8) if kind == "until" else (4,):
            inputs = feeds(9, steps) if kind == "until" else random_inputs(run.graph, {"batch": 9, "time": steps})
            if steps == 7:
                inputs["d0"][:] = 1.0  # done before the first step
            caught += is_wrong(run, inputs)
    assert found, "the mutation changes nothing: the text is not there"
    assert caught, "no order of the threads shows the defect"


@pytest.mark.parametrize(("gpu", "units", "fits"), [
    ("h100", 512, True), ("h100", 1024, True), ("h100", 1280, True), ("h100", 1536, False),
    ("a100", 512, True), ("a100", 1024, True), ("a100", 1536, False), ("t4", 256, True), ("t4", 768, False),
])
def test_what_fits_where(gpu: str, units: int, fits: bool) -> None:
    caps = DESCRIBED[gpu]
    _, schedule = scheduled(graph("lstm", units, 80, recurrent_initializer="zeros"))
    (stage,) = (s for s in schedule.stages if s.is_scan)
    products = arranged(stage, LOOP_IMPL, caps.sms, caps.shared)
    assert (products is not None) == fits
    if products is not None:
        assert products.blocks <= caps.sms
        assert products.bytes <= caps.shared


@pytest.mark.parametrize("impl", ["cupy.scan", LOOP_IMPL])
def test_weights_are_on_the_device_once(impl: str) -> None:
    run = on_gpu(graph("lstm", 12, 5), impl=impl)
    run(random_inputs(run.graph, {"batch": 1, "time": 3}))
    first = dict(run.kernel.constants.found)
    assert first
    run(random_inputs(run.graph, {"batch": 2, "time": 3}))
    assert len(run.kernel.plans) == 2
    assert first.keys() == run.kernel.constants.found.keys()
    assert all(run.kernel.constants.found[key] is array for key, array in first.items())
