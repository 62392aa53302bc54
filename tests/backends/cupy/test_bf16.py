"""Persistent loops on tensor cores: against the float64 reference whose products' factors are rounded to bf16, against
the plain one, and mutations.

A number that the device has as 1 ulp more than the reference may round to the other neighbour in bf16, 2^-8 further:
now and then all lanes of a row are off by some 1e-4 behind it. So the largest difference is held to `FLIPPED`, and the
median of all to `TOLERANCE`; an LSTM's first step, whose factors are inputs, to `TOLERANCE` throughout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.cupy.caps import DESCRIBED
from rnngraph.backends.cupy.codegen.persistent import arranged
from rnngraph.backends.cupy.codegen.tensor_cores import TensorCores, bf16_bits, shape_of
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.errors import CompileError
from rnngraph.ir import evaluate
from tests.backends.cupy.hoisted import assert_no_memory_for_registers, loop
from tests.backends.cupy.mutants import Mutant
from tests.backends.cupy.on_shim import FORWARDS, ORDERS, SHUFFLED, TOLERANCE, OnGpu, needs_compiler, on_gpu
from tests.backends.cupy.rounded import evaluate_rounded
from tests.backends.llvm.native import error
from tests.phases.cells import CELLS, Peephole, graph
from tests.testing import random_inputs

LOOP_IMPL = "cupy.loop.bf16"
FLIPPED = 1e-3  # of the largest number of an output
PLAIN = 3e-2  # from the float64 result whose factors are not rounded; an LSTM or GRU is below 6e-3


def device_run(kind: str, units: int, order: int) -> OnGpu:
    made = on_gpu(graph(kind, units, 7), ShimDevice(order), LOOP_IMPL)
    assert any(isinstance(p, TensorCores) for p in made.kernel.products), "no scan is one kernel"
    return made


def check(run: OnGpu, dims: Mapping[str, int], seed: int = 0, *, first_step: bool = False,
          plain: float = PLAIN) -> None:
    inputs = random_inputs(run.graph, dims, seed)
    got, want = run(inputs), evaluate_rounded(run.graph, inputs, "bf16", loops_only=True)
    worst = error(got, want)
    assert worst <= (TOLERANCE if first_step else FLIPPED), f"off by {worst:.2e} of the scale with {dict(dims)}"
    for name, expected in want.items():
        assert np.median(np.abs(got[name] - expected)) <= TOLERANCE, name
    assert error(got, evaluate(run.graph, inputs, float64=True)) <= plain


@needs_compiler
@pytest.mark.parametrize(("kind", "units"), [("lstm", 37), ("gru_after", 64), ("gru_before", 16)])
def test_steps_and_rows(kind: str, units: int) -> None:
    for order in ORDERS:
        run = device_run(kind, units, order)
        for batch, steps in ((1, 3), (3, 8), (9, 1), (21, 3)):
            check(run, {"batch": batch, "time": steps}, first_step=kind == "lstm" and steps == 1)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "gru_after", "gru_before"])
@pytest.mark.parametrize("units", [16, 37, 64, 128, 300])
def test_many_steps_and_rows(kind: str, units: int) -> None:
    for order in ORDERS:
        run = device_run(kind, units, order)
        for batch in (1, 3, 8, 9, 21, 40):
            for steps in (1, 3, 8):
                check(run, {"batch": batch, "time": steps}, first_step=kind == "lstm" and steps == 1)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(CELLS))
def test_cells(kind: str) -> None:
    for order in ORDERS:
        run = device_run(kind, 37, order)
        for batch in (3, 11):
            check(run, {"batch": batch, "time": 4}, plain=math.inf if kind == "comparing" else PLAIN)  # it branches


@needs_compiler
def test_weights_in_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into registers; some of a group's, and all of it."""
    monkeypatch.setattr("rnngraph.backends.cupy.codegen.tensor_cores.REGISTERS", 8)
    run = device_run("lstm", 130, SHUFFLED)
    (made,) = (p for p in run.kernel.products if isinstance(p, TensorCores))
    assert any(s.kept < s.steps for s in made.shapes.values())
    for batch in (2, 19):
        check(run, {"batch": batch, "time": 3})


@needs_compiler
@pytest.mark.parametrize(("kind", "old", "new"), [
    ("lstm", "* 2 + h) * 32];", "* 2 + (h ^ 1)) * 32];"),  # the weights of the other half of a step
    ("lstm", "h ? x[n].z : x[n].x", "h ? x[n].w : x[n].x"),
    ("lstm", "* 64 + 26 + (lane - lane0)", "* 64 + 13 + (lane - lane0)"),  # another gate
    ("lstm", "float x = 0.0f;", "float x = __int_as_float(-1);"),  # what shared memory holds, for zeros behind k
    ("lstm", "rg_pack_bf16(both[0], both[1]);\n            }\n            __syncthreads();",
     "rg_pack_bf16(both[0], both[1]);\n            }"),
    ("gru_before", "rg_grid_sync(arrivals, ++turn);", "__syncthreads();"),
    ("lstm", "row0 += 32", "row0 += 64"),
])
def test_mutants_are_caught(kind: str, old: str, new: str) -> None:
    caught = found = 0
    for order in ORDERS:
        device = Mutant(old, new, order)
        run = on_gpu(graph(kind, 37, 7), device, LOOP_IMPL)
        found += device.found
        try:
            check(run, {"batch": 35, "time": 3})
        except (AssertionError, CompileError):
            caught += 1
    assert found, "the mutation changes nothing: the text is not there"
    assert caught, "no order of the threads shows the defect"


def test_rounding_on_the_host() -> None:
    x = np.array([1.0, 1.00390625, 1.01171875, -3.0e38, 1e-40, np.inf], np.float32)  # two ties, to even
    bits = bf16_bits(x)
    np.testing.assert_array_equal((bits.astype(np.uint32) << 16).view(np.float32)[:3], [1.0, 1.0, 1.015625])
    torch = pytest.importorskip("torch")
    want = torch.from_numpy(x).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(bits, want)


@pytest.mark.parametrize(("sums", "k"), [(1, 1), (16, 32), (48, 1536), (33, 37), (200, 96), (400, 4096)])
def test_shapes_cover_a_product(sums: int, k: int) -> None:
    s = shape_of(sums, k, 144)
    assert s.across * s.along <= 8
    assert sums <= s.sums
    assert k <= s.k
    assert s.kept * s.each <= 144
    assert s.stride % 128 == 64


# --- on real GPUs: what fits, and what the compiler makes of it -------------------------------------------------------


@pytest.mark.parametrize(("gpu", "units", "fits"), [
    ("h200", 1024, True), ("h200", 1536, True), ("h200", 2048, True), ("h200", 3072, False),
    ("a100", 1536, True), ("a100", 2048, False),
])
def test_what_fits_where(gpu: str, units: int, fits: bool) -> None:
    caps = DESCRIBED[gpu]
    products = arranged(loop("lstm", units), LOOP_IMPL, caps.sms, caps.shared)
    assert (products is not None) == fits
    if products is not None:
        assert products.blocks <= caps.sms


@pytest.mark.parametrize("gpu", ["a100", "h200"])
@pytest.mark.parametrize(("kind", "units"), [("lstm", 512), ("lstm", 1536), ("gru_after", 1024), ("gru_before", 1536)])
def test_nothing_spills(gpu: str, kind: str, units: int) -> None:
    assert_no_memory_for_registers(loop(kind, units), LOOP_IMPL, DESCRIBED[gpu])


# --- models -----------------------------------------------------------------------------------------------------------


@needs_compiler
def test_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    layer, given = nn.RNN(Peephole(24), return_sequences=True), rg.Input(("batch", "time", 6))
    x = np.random.default_rng(0).standard_normal((3, 9, 6)).astype(np.float32)
    exact, rounded = (rg.compile(layer, given, target="gpu", precision=p) for p in ("f32", "bf16"))
    worst = float(np.abs(np.subtract(exact(x), rounded(x))).max())
    assert 1e-5 < worst < PLAIN
    assert "cupy.loop.bf16" in rounded.explain()
    assert "precision: products in bf16 are what compile(precision='bf16') asks for (it is f32)" in exact.explain()


@needs_compiler
def test_rows_that_end() -> None:
    made = graph("lstm", 12, 5, lengths=True)
    run = on_gpu(made, ShimDevice(FORWARDS), LOOP_IMPL)
    check(run, {"batch": 5, "time": 6})
