"""Kernels of phases whose products are in bf16 and TF32: against the float64 reference whose products' factors are
rounded alike, on the stand-in and through the double of CuPy. As in `test_bf16`, a factor may now and then round to its
other neighbour."""

from __future__ import annotations

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.cupy.blas import COMPUTE_32F, COMPUTE_32F_FAST_TF32, COMPUTE_32F_PEDANTIC, KINDS, R_16BF, R_32F
from rnngraph.backends.cupy.gpu import CupyDevice
from rnngraph.backends.cupy.nvrtc import cubin
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.ir import evaluate
from rnngraph.phases.stages import ERRORS, build_schedule
from tests.backends.cupy.fake_cupy import installed
from tests.backends.cupy.mutants import Mutant
from tests.backends.cupy.on_shim import ORDERS, SHUFFLED, TOLERANCE, needs_compiler, on_gpu
from tests.backends.cupy.rounded import evaluate_rounded
from tests.backends.llvm.native import error
from tests.phases.cells import CELLS, Peephole, graph
from tests.testing import random_inputs

FLIPPED = {"bf16": 1e-3, "tf32": 2e-4}  # of the largest number of an output
PLAIN = {"bf16": 3e-2, "tf32": 4e-3}  # from the result of factors that are not rounded


def compare(kind: str, precision: str, order: int, batch: int, units: int = 37) -> None:
    run = on_gpu(graph(kind, units, 7), ShimDevice(order), f"cupy.scan.{precision}")
    inputs = random_inputs(run.graph, {"batch": batch, "time": 4})
    got, want = run(inputs), evaluate_rounded(run.graph, inputs, precision)
    assert error(got, want) <= FLIPPED[precision]
    assert all(np.median(np.abs(got[name] - want[name])) <= TOLERANCE for name in want)
    assert 1e-6 < error(got, evaluate(run.graph, inputs, float64=True))
    if kind not in ("comparing", "timed"):  # they branch
        assert error(got, evaluate(run.graph, inputs, float64=True)) <= PLAIN[precision]


@needs_compiler
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("kind", ["lstm", "gru_before"])
def test_cells(kind: str, precision: str) -> None:
    for order in ORDERS:
        compare(kind, precision, order, 1)
        compare(kind, precision, order, 9)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("kind", sorted(CELLS))
def test_all_cells(kind: str, precision: str) -> None:
    compare(kind, precision, SHUFFLED, 5)


@needs_compiler
@pytest.mark.parametrize(("old", "new"), [
    ("at / k * stride + at % k", "at"),  # as if rows lay side by side
    ("+ at % k]", "+ at % (k - 1)]"),
])
def test_mutants_are_caught(old: str, new: str) -> None:
    device = Mutant(old, new, SHUFFLED)
    run = on_gpu(graph("lstm", 37, 7), device, "cupy.scan.bf16")
    assert device.found
    inputs = random_inputs(run.graph, {"batch": 3, "time": 4})
    assert error(run(inputs), evaluate_rounded(run.graph, inputs, "bf16")) > FLIPPED["bf16"]


def test_what_cublas_is_told() -> None:
    """The numbers of library_types.h and cublas_api.h: bf16 factors; TF32 only where it is asked for."""
    assert (R_32F, R_16BF, COMPUTE_32F, COMPUTE_32F_PEDANTIC, COMPUTE_32F_FAST_TF32) == (0, 14, 68, 69, 77)
    assert KINDS == {"f32": (0, 69), "tf32": (0, 77), "bf16": (14, 68)}


def test_a_stage_multiplies_in_one_way() -> None:
    first = nn.trace(nn.Sequential([nn.Dense(3), nn.Dense(2)]), rg.Input(("batch", 4)))
    products = [op for op in first.block.body if op.name == "matmul"]
    for impls in (("cupy.rows", "cupy.rows"), ("cupy.rows", "cupy.rows.bf16"), ("cupy.rows.tf32", "cupy.rows")):
        for op in first.block.body:
            op.impl = "" if op.name == "const" else "cupy.rows"
        for op, impl in zip(products, impls, strict=True):
            op.impl = impl
        schedule = build_schedule([op for op in first.block.body if op.name != "const"], first.outputs)
        found = [s.impl for s in schedule.stages]
        assert found == list(dict.fromkeys(impls))
        assert [s.precision for s in schedule.stages] == [
            impl.split(".")[-1] if impl.split(".")[-1] in ERRORS else "f32" for impl in found]


@needs_compiler
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_a_model(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """The projection of the input, a dense layer and, told to do without loops in one kernel, the loop."""
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    layer = nn.Sequential([nn.RNN(Peephole(64), return_sequences=True), nn.Dense(48)])
    given, dims = rg.Input(("batch", "time", 128)), {"batch": 512, "time": 200}
    rounded = rg.compile(layer, given, target="gpu", precision=precision, dims=dims,
                         without=["cupy.loop", "cupy.loop.streamed", "cupy.loop.bf16"])
    x = np.random.default_rng(0).standard_normal((2, 5, 128)).astype(np.float32)
    exact = rg.compile(layer, given, target="cpu")
    worst = float(np.abs(np.subtract(exact(x), rounded(x))).max())
    assert 1e-6 < worst < PLAIN[precision]
    text = rounded.explain()
    assert f"cupy.rows.{precision}" in text
    assert f"cupy.scan.{precision}" in text
    assert f"products in {precision}: each factor is rounded, by up to {ERRORS[precision]:.2g} of it" in text


@needs_compiler
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_on_a_double_of_cupy(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """A plan's first launches, its capture and its graph."""
    monkeypatch.setenv("RNNGRAPH_CACHE", "off")
    cubin.cache_clear()
    installed(monkeypatch)
    run = on_gpu(graph("lstm", 37, 7), CupyDevice(), f"cupy.scan.{precision}")
    for seed in range(3):
        inputs = random_inputs(run.graph, {"batch": 3, "time": 4}, seed)
        assert error(run(inputs), evaluate_rounded(run.graph, inputs, precision)) <= FLIPPED[precision]
    assert "a CUDA graph" in run.kernel.artifacts()["launches.txt"]
    cubin.cache_clear()
