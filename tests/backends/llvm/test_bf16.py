"""Weights kept in bf16: the numbers are those of f32 arithmetic on rounded weights, for every cell, tile and tail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.llvm.cpu import native_target
from rnngraph.backends.llvm.kernel import NativeKernel
from rnngraph.backends.llvm.layout import Tiling, pack
from rnngraph.backends.llvm.microkernel import BF16, emit_microkernels, symbols
from rnngraph.ir import Graph, Literal, evaluate
from rnngraph.ir.opdef import round_bf16
from rnngraph.ir.ops import ConstAttrs
from tests.backends.llvm.native import TOLERANCE, Native, error, planned
from tests.phases.cells import CELLS, graph
from tests.testing import random_inputs

JUMPS = ("comparing", "timed")  # cells with steps, near which a rounded weight takes the other side


def rounded(given: Graph) -> Graph:
    """The graph with its matrices rounded to bf16: weights are what has two axes."""
    out = given.clone()
    for op in out.walk():
        if isinstance(op.attrs, ConstAttrs) and op.attrs.value.array.ndim == 2:
            op.attrs = replace(op.attrs, value=Literal(round_bf16(op.attrs.value.array)))
    return out


def in_bf16(given: Graph, threads: int = 1) -> Native:
    copy, schedule, memory = planned(given)
    for stage in schedule.stages:
        stage.impl = "llvm.scan.bf16"
    return Native(copy, NativeKernel(schedule, memory, copy.inputs, copy.outputs, native_target(), threads))


@pytest.mark.parametrize(("kind", "threads"), [*((kind, 1) for kind in sorted(CELLS)), ("lstm", 2), ("stacked", 2)])
def test_cells(kind: str, threads: int) -> None:
    made = graph(kind, 37, 7)
    run = in_bf16(made, threads)
    for batch in (1, 3, 9):
        inputs = random_inputs(made, {"batch": batch, "time": 4})
        got = run(inputs)
        assert error(got, evaluate(rounded(made), inputs, float64=True)) <= TOLERANCE
        if kind not in JUMPS:
            assert error(got, evaluate(made, inputs, float64=True)) <= 3e-2


@pytest.mark.parametrize("units", [1, 8, 16, 24, 40, 300])
def test_tiles_and_long_sums(units: int) -> None:
    made = graph("gru_before", units, 5)
    for batch in (1, 2, 70):
        inputs = random_inputs(made, {"batch": batch, "time": 3})
        assert error(in_bf16(made)(inputs), evaluate(rounded(made), inputs, float64=True)) <= TOLERANCE


def test_the_same_bits_for_any_number_of_rows_and_threads() -> None:
    made = graph("lstm", 48, 9)
    inputs = random_inputs(made, {"batch": 5, "time": 3})
    whole = in_bf16(made)(inputs)
    for name, array in in_bf16(made, 2)(inputs).items():
        assert np.array_equal(array, whole[name])


def test_packed_weights_take_half_the_memory() -> None:
    _, schedule, _ = planned(graph("lstm", 64, 7))
    stage = next(s for s in schedule.stages if s.is_scan)
    (group,) = (g for p in stage.partition.phases for g in p.groups)
    tiling = Tiling(64, 1, 8)
    assert pack(group, 0, tiling, "bf16").nbytes * 2 == pack(group, 0, tiling).nbytes


def test_a_model_that_asks_for_it() -> None:
    model = nn.Sequential([nn.Bidirectional(nn.LSTM(24, return_sequences=True)), nn.GRU(16), nn.Dense(5)])
    given = rg.Input(("batch", "time", 7))
    exact = rg.compile(model, given, target="cpu")
    made = rg.compile(model, given, target="cpu", precision="bf16")
    chosen = {op.name: op.impl for op in made.program.graph.block.body if op.name in ("scan", "matmul")}
    assert chosen == {"scan": "llvm.scan.bf16", "matmul": "llvm.rows.bf16"}
    assert "products in bf16: each weight is rounded, by up to 0.0039 of it; sums and states are f32" in made.explain()
    assert "bf16" not in exact.explain()
    x = np.random.default_rng(0).standard_normal((3, 9, 7)).astype(np.float32)
    want = evaluate(rounded(made.program.graph), {"x": x}, float64=True)
    assert error({"y": np.asarray(made(x))}, dict(zip(["y"], want.values(), strict=True))) <= TOLERANCE
    assert 1e-6 < float(np.abs(np.asarray(made(x)) - np.asarray(exact(x))).max()) < 2e-2


def test_the_library_has_its_symbols() -> None:
    text = emit_microkernels(native_target(), BF16)
    assert all(f"@{name}(" in text for name in symbols(native_target(), BF16))
