"""Loops whose f32 weights stay on chip: rows that have code of their own, shared lanes, registers and shared memory."""

from __future__ import annotations

import pytest

from rnngraph.backends.cupy.caps import DESCRIBED
from rnngraph.backends.cupy.codegen.persistent import arranged
from rnngraph.backends.cupy.codegen.resident import Resident, units_of
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.errors import CompileError
from rnngraph.ir import evaluate
from tests.backends.cupy.hoisted import assert_no_memory_for_registers, loop
from tests.backends.cupy.mutants import Mutant
from tests.backends.cupy.on_shim import ORDERS, SHUFFLED, TOLERANCE, assert_on_gpu, needs_compiler, on_gpu
from tests.backends.llvm.native import error
from tests.phases.cells import graph
from tests.testing import random_inputs

LOOP_IMPL = "cupy.loop"


@needs_compiler
@pytest.mark.parametrize("registers", [128, 16, 0])
def test_rows_and_registers(monkeypatch: pytest.MonkeyPatch, registers: int) -> None:
    """Warps share lanes of 300 k; with fewer registers some weights, or all, are in shared memory."""
    monkeypatch.setattr("rnngraph.backends.cupy.codegen.resident.REGISTERS", registers)
    run = on_gpu(graph("simple", 30, 270), ShimDevice(SHUFFLED), LOOP_IMPL)
    (made,) = (p for p in run.kernel.products if isinstance(p, Resident))
    (units,) = made.units.values()
    assert units.shares > 1
    assert units.kept == min(units.each * units.steps, registers // 4)
    for batch in (1, 3, 4, 5, 8, 9):
        inputs = random_inputs(run.graph, {"batch": batch, "time": 3})
        assert error(run(inputs), evaluate(run.graph, inputs, float64=True)) <= TOLERANCE


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru_after", "gru_before", "peephole"])
@pytest.mark.parametrize("units", [16, 150])
def test_many_rows(kind: str, units: int) -> None:
    for batch in (1, 2, 4, 7, 8, 9, 21):
        assert_on_gpu(graph(kind, units, 7), {"batch": batch, "time": 3}, impl=LOOP_IMPL)


@needs_compiler
@pytest.mark.parametrize(("old", "new"), [
    ("if (rows <= 4)", "if (rows <= 5)"),  # rows without sums
    ("left[at] = x;", "if (lane < 37) left[at] = x;"),  # no zeros behind the last k
    ("kept0_0[(0 + j)", "kept0_0[(0 + (j ^ 1))"),  # the weights of another step
    ("rg_total<", "rg_total<1 + 0 * "),  # one share alone
])
def test_mutants_are_caught(old: str, new: str) -> None:
    caught = found = 0
    for order in ORDERS:
        device = Mutant(old, new, order)
        run = on_gpu(graph("simple", 30, 270), device, LOOP_IMPL)
        found += device.found
        inputs = random_inputs(run.graph, {"batch": 5, "time": 3})
        try:
            caught += error(run(inputs), evaluate(run.graph, inputs, float64=True)) > TOLERANCE
        except (AssertionError, CompileError):
            caught += 1
    assert found, "the mutation changes nothing: the text is not there"
    assert caught, "no order of the threads shows the defect"


@pytest.mark.parametrize(("parts", "lanes", "k"), [(1, 1, 1), (4, 8, 1024), (4, 12, 1536), (3, 13, 37), (2, 5, 4096)])
def test_units_cover_a_product(parts: int, lanes: int, k: int) -> None:
    u = units_of(parts, lanes, k, 128)
    assert u.each * 8 >= lanes * u.shares
    assert u.pitch >= k
    assert u.each * u.steps * 8 <= max(2 * lanes * -(-k // 128), 8)  # filling up does not double the work
    assert 4 * parts * u.kept <= 128


def test_lstm_of_1536_units_fits_an_h200() -> None:
    caps = DESCRIBED["h200"]
    assert arranged(loop("lstm", 1536), LOOP_IMPL, caps.sms, caps.shared) is not None


@pytest.mark.parametrize(("gpu", "kind", "units"), [
    ("a100", "lstm", 1024), ("h200", "lstm", 256), ("h200", "lstm", 1024), ("h200", "lstm", 1536),
    ("a100", "gru_after", 1024), ("h200", "gru_before", 1536),
])
@pytest.mark.parametrize("impl", [LOOP_IMPL, "cupy.loop.streamed"])
def test_nothing_spills(gpu: str, kind: str, units: int, impl: str) -> None:
    assert_no_memory_for_registers(loop(kind, units), impl, DESCRIBED[gpu])
