"""Every cell of rnngraph.nn for the GPU, on the stand-in, against the float64 reference: a few; all when slow."""

from __future__ import annotations

import numpy as np
import pytest

import rnngraph as rg
from benchmarks.cell_table import TABLE
from rnngraph import nn
from rnngraph.ir import evaluate
from tests.backends.cupy.on_shim import TOLERANCE, needs_compiler

pytestmark = needs_compiler
FEW = ("layer-norm RNN", "IndRNN", "ConvRNN2D of Gluon")
LAST = {"cupy.op", "cupy.host", "cupy.interpreted", "cupy.steps"}  # what takes what no kernel does


def compare(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNNGRAPH_GPU", "shim")
    entry = TABLE[name]
    layer, shape = nn.RNN(entry.make(16), return_sequences=True), entry.features(16)
    given = rg.Input(("batch", "time", *shape))
    gpu = rg.compile(layer, given, target="gpu")
    used = {op.impl for op in gpu.program.graph.block.body}
    assert not used & LAST, used
    x = np.random.default_rng(0).standard_normal((2, 3, *shape)).astype(np.float32)
    traced = rg.trace(layer, given)
    want = evaluate(traced, {traced.input_names[0]: x}, float64=True)[traced.output_names[0]]
    assert np.abs(gpu(x) - want).max() <= TOLERANCE * np.abs(want).max()


@pytest.mark.parametrize("name", FEW)
def test_a_few_cells(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(name, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_every_cell(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(name, monkeypatch)
