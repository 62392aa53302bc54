"""Cells as kernels: every phase against the float64 reference under three orders of the threads, and mutations."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnngraph.backends.cupy.codegen.stage import stage_source
from rnngraph.ir import evaluate
from tests.backends.cupy.mutants import Mutant
from tests.backends.cupy.on_shim import (
    FORWARDS,
    ORDERS,
    SHUFFLED,
    TOLERANCE,
    OnGpu,
    assert_on_gpu,
    needs_compiler,
    on_gpu,
)
from tests.backends.llvm.native import error, scheduled
from tests.backends.llvm.test_images import image_graph
from tests.phases.cells import CELLS, graph
from tests.phases.random_cells import RandomCell
from tests.testing import random_inputs

pytestmark = needs_compiler


@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind: str) -> None:
    assert_on_gpu(graph(kind, 37, 7), {"batch": 3, "time": 4})


@pytest.mark.parametrize("kind", ["lstm", "gru_before", "layer_normed"])
@pytest.mark.parametrize("reverse", [False, True])
def test_rows_that_end(kind: str, reverse: bool) -> None:
    made = graph(kind, 12, 5, lengths=True, **({"go_backwards": True} if reverse else {}))
    assert_on_gpu(made, {"batch": 5, "time": 6}, orders=(SHUFFLED,))


@pytest.mark.parametrize("batch", [1, 2, 40])
def test_batches(batch: int) -> None:
    assert_on_gpu(graph("lstm", 16, 8), {"batch": batch, "time": 3}, orders=(FORWARDS,))


@pytest.mark.parametrize(("kind", "sizes", "size"), [("lstm", (3, 4), 3), ("gru", (5,), 2), ("gru", (2, 3, 2), 3)])
def test_images(kind: str, sizes: tuple[int, ...], size: int) -> None:
    """States are read at other rows than their own: beyond the first and the last one stand zeros."""
    made = image_graph(kind, sizes, size, 3, 9, lengths=True)
    for batch, time in ((3, 4), (1, 1), (2, 0), (0, 2)):
        assert_on_gpu(made, {"batch": batch, "time": time}, orders=(SHUFFLED,))


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_cells(random: Random) -> None:
    made = RandomCell(random, random.choice([5, 33]), random.choice([3, 8])).graph
    assert_on_gpu(made, {"T": random.randint(1, 5), "B": random.randint(1, 6)}, orders=(random.choice(ORDERS),))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_many_random_cells(random: Random) -> None:
    made = RandomCell(random, random.choice([5, 33, 70]), random.choice([3, 8, 14])).graph
    assert_on_gpu(made, {"T": random.randint(1, 9), "B": random.randint(1, 9)}, orders=ORDERS)


def test_equal_stages_have_equal_text() -> None:
    texts = [stage_source(s).text for _, schedule in (scheduled(graph("lstm", 8, 4)) for _ in range(2))
             for s in schedule.stages]
    assert len(set(texts)) == len(texts) // 2


@pytest.mark.parametrize(("kind", "old", "new"), [
    ("lstm", "+ 16 + lane]", "+ 32 + lane]"),  # another gate
    ("lstm", "step % 2 == 1", "step % 2 == 0"),  # this step's buffer for the next one's
    ("layer_normed", "int by = 16", "int by = 8"),  # half of a warp
    ("layer_normed", "    __syncthreads();\n    float total", "    float total"),  # reads before others have written
    ("layer_normed", "/ 16.0f", "/ 15.0f"),
    ("gru_before", "tanhf(", "rg_sigmoid("),
])
def test_mutants_are_caught(kind: str, old: str, new: str) -> None:
    caught, found = 0, 0
    for order in ORDERS:
        device = Mutant(old, new, order)
        run = on_gpu(graph(kind, 16, 8), device)
        found += device.found
        try:
            _compare(run)
        except AssertionError:
            caught += 1
    assert found, "the mutation changes nothing: the text is not there"
    assert caught, "no order of the threads shows the defect"


def _compare(run: OnGpu) -> None:
    inputs = random_inputs(run.graph, {"batch": 3, "time": 4})
    assert error(run(inputs), evaluate(run.graph, inputs, float64=True)) <= TOLERANCE
