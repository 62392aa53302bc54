"""Bools in native code: masks of scans, comparisons that are kept, given and returned; against float64."""

from __future__ import annotations

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.ir import Array, evaluate
from tests.backends.llvm.helpers import TARGETS
from tests.backends.llvm.native import assert_native
from tests.nn.numpy_cells import gru, lstm
from tests.nn.test_masks import masked_run

SEQUENCE = """graph @g(%x: f32[T,B,6], %m: bool[T,B], %h0: f32[B,6]) {{
  %h_n, %y = scan carry(h = %h0) over(x = %x, m = %m) {{steps = T{reverse}}} {{
  ^(%h: f32[B,6], %u: f32[B,6], %k: bool[B]):
    %a = add %h, %u : f32[B,6]
    %t = tanh %a : f32[B,6]
    %w = broadcast %k {{shape = [B, 6], axes = [0]}} : bool[B,6]
    %n = select %w, %t, %h : f32[B,6]
    yield carry(h = %n) emit(y = %n)
  }} : f32[B,6], f32[T,B,6]
  return y = %y, h = %h_n
}}"""
KEPT = """graph @g(%x: f32[T,B,5], %h0: f32[B,5]) {
  %w = const splat(0.25) : f32[5,5]
  %v = const splat(0.5) : f32[5,5]
  %h_n, %y, %f = scan carry(h = %h0) over(x = %x) {steps = T} {
  ^(%h: f32[B,5], %u: f32[B,5]):
    %a = matmul %h, %w : f32[B,5]
    %c = gt %a, %u : bool[B,5]
    %t = tanh %a : f32[B,5]
    %b = matmul %t, %v : f32[B,5]
    %n = select %c, %b, %h : f32[B,5]
    %q = cast %c {dtype = f32} : f32[B,5]
    yield carry(h = %n) emit(y = %n, f = %q)
  } : f32[B,5], f32[T,B,5], f32[T,B,5]
  return y = %y, h = %h_n, f = %f
}"""
ROWS = """graph @g(%x: f32[T,B,5], %m: bool[T,B], %n: bool[T,B]) {
  %zero = const splat(0.0) : f32[]
  %z = broadcast %zero {shape = [T, B, 5], axes = []} : f32[T,B,5]
  %c = gt %x, %z : bool[T,B,5]
  %k = and %m, %n : bool[T,B]
  %w = broadcast %k {shape = [T, B, 5], axes = [0, 1]} : bool[T,B,5]
  %b = and %c, %w : bool[T,B,5]
  %s = select %b, %x, %z : f32[T,B,5]
  %i = not %k : bool[T,B]
  %r = cast %i {dtype = f32} : f32[T,B]
  %back = cast %x {dtype = bool} : bool[T,B,5]
  return s = %s, b = %b, i = %i, r = %r, back = %back
}"""


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("graph", [SEQUENCE.format(reverse=""), SEQUENCE.format(reverse=", reverse = true"), KEPT,
                                   ROWS], ids=["mask", "mask-reverse", "kept", "rows"])
@pytest.mark.parametrize("dims", [{"T": 4, "B": 3}, {"T": 1, "B": 19}])
def test_bools(graph: str, target: CpuTarget, dims: dict[str, int]) -> None:
    assert_native(graph, dims, target=target)


def compiled(layer: nn.Layer, features: int, threads: int | None = None) -> rg.CompiledModel:
    return rg.compile(layer, rg.Input(("batch", "time", features)), threads=threads)


def near(got: Array, want: Array) -> None:
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("batch", [1, 7, 33])
@pytest.mark.parametrize("units", [5, 32])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_masked_layers_run_natively(kind: str, batch: int, units: int, backwards: bool, threads: int) -> None:
    rng = np.random.default_rng(batch)
    x, mask = rng.standard_normal((batch, 9, 6), np.float32), rng.random((batch, 9)) < 0.6
    make, reference = (nn.LSTM, lstm) if kind == "lstm" else (nn.GRU, lambda w: gru(w, True))
    layer = make(units, return_sequences=True, return_state=True, go_backwards=backwards, name="r")
    model = compiled(layer, 6, threads)
    states = [np.zeros((batch, units))] * (2 if kind == "lstm" else 1)
    seq, _, finals = masked_run(reference(layer.weights), x, states, mask, backwards=backwards)
    y, *last = model(x, mask=mask)
    near(y, seq[:, ::-1] if backwards else seq)
    for got, want in zip(last, finals, strict=True):
        near(got, want)
    report = model.variant(mask=True).report
    assert [k.backend for k in report.kernels] == ["llvm"]
    said = [str(r) for p in report.passes for r in p.remarks]
    assert any("the mask %mask leaves steps out" in s and "raise-rnn" in s for s in said)
    assert any("matmuls of %h became one" in s for s in said)
    assert any("left the scan" in s for s in said)


def test_masking_layers_of_a_stack_run_natively() -> None:
    model = nn.Sequential([nn.Masking(), nn.Bidirectional(nn.LSTM(8, return_sequences=True)),
                           nn.GRU(4, zero_output_for_mask=True, return_sequences=True)])
    run = compiled(model, 3)
    x = np.random.default_rng(0).standard_normal((4, 6, 3), np.float32)
    x[0, 2] = x[1, 3:] = x[2] = 0.0
    want = evaluate(rg.trace(model, rg.Input(("batch", "time", 3))), {"x": x}, float64=True)
    near(run.run({"x": x})["y"], want["y"])
    assert [k.backend for k in run.report.kernels] == ["llvm"]


@pytest.mark.parametrize("layer", [nn.LSTM(8, return_sequences=True), nn.Bidirectional(nn.GRU(8)),
                                   nn.Sequential([nn.SimpleRNN(8, return_sequences=True), nn.LSTM(5)])],
                         ids=["lstm", "bidirectional", "stack"])
@pytest.mark.parametrize("how", ["lengths", "mask"])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 3e38])
def test_garbage_in_the_padding_does_no_harm(layer: nn.Layer, how: str, garbage: float) -> None:
    model = compiled(layer, 6)
    lengths = np.array([5, 1, 0, 9, 4], np.int32)
    mask = np.arange(9) < lengths[:, None]
    clean = np.random.default_rng(0).standard_normal((5, 9, 6), np.float32)
    x = np.where(mask[:, :, None], clean, np.float32(garbage))
    given: dict[str, Array] = {"lengths": lengths} if how == "lengths" else {"mask": mask}
    np.testing.assert_array_equal(model(x, **given), model(clean, **given))


def test_lengths_and_the_mask_that_says_the_same() -> None:
    inner = nn.LSTM(8, return_sequences=True, return_state=True, zero_output_for_mask=True)
    model = compiled(nn.Bidirectional(inner), 6)
    lengths = np.array([5, 1, 0, 9], np.int32)
    x = np.random.default_rng(0).standard_normal((4, 9, 6), np.float32)
    for a, b in zip(model(x, lengths=lengths), model(x, mask=np.arange(9) < lengths[:, None]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
