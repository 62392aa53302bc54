"""Rows that have ended are not run: what is counted, and that results do not change with the order of rows."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.backends.llvm.ends import Ends, live_rows
from rnngraph.backends.llvm.kernel import NativeKernel
from rnngraph.ir import Array, evaluate
from rnngraph.runtime.program import Program
from tests.backends.llvm.native import PLANNERS, native


@pytest.mark.parametrize("lengths", [[], [0], [3], [5, 3, 3, 1, 0], [1, 5, 2], [0, 0], [2, 0, 5]])
def test_live_rows(lengths: list[int]) -> None:
    expected = [max((r + 1 for r, n in enumerate(lengths) if n > t), default=0) for t in range(5)]
    assert live_rows(lengths, 5).tolist() == expected


def test_sorted_rows_cost_their_own_steps() -> None:
    ends = Ends(4, 6)
    ends.set(np.array([6, 4, 4, 1]))
    assert ends.row_steps == 15
    ends.set(np.array([1, 4, 4, 6]))
    assert ends.row_steps == 24
    ends.set(np.array([0, 0, 0, 0]))
    assert ends.row_steps == 0


def row_steps(program: Program) -> list[int]:
    """What the last call of a program counted, per lengths input and number of steps."""
    kernels = [cast(NativeKernel, step.kernel) for step in program.steps]
    return [e.row_steps for k in kernels for e in next(reversed(k.plans.values()))[-1].ends.values()]


LAYERS = {
    "lstm": nn.LSTM(20, return_sequences=True, return_state=True),
    "gru-before": nn.GRU(17, reset_after=False, go_backwards=True, return_state=True),  # two buffers for h
    "stack": nn.Sequential([nn.Bidirectional(nn.LSTM(8, return_sequences=True, zero_output_for_mask=True)),
                            nn.LSTM(5, return_sequences=True, return_state=True)]),
    "normalized": nn.Sequential([nn.SimpleRNN(24, return_sequences=True), nn.LayerNormalization(), nn.GRU(9)]),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("batch", [1, 6, 37])
@pytest.mark.parametrize("mode", [None, *PLANNERS])
def test_ended_rows(layer: nn.Layer, batch: int, mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsorted, sorted, all of no length; one thread, and threads forced to share rows, lanes or layers."""
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((batch, 7, 4), np.float32)
    graph = rg.trace(layer, rg.Input(("batch", "time", 4)), lengths=True)
    if mode is not None:
        monkeypatch.setattr("rnngraph.backends.llvm.plan.Planner", PLANNERS[mode])
    model = rg.compile(graph, threads=1 if mode is None else 2)
    any_order = rng.integers(0, 8, batch)
    for lengths in (any_order, np.sort(any_order)[::-1], np.zeros(batch, np.int64), np.full(batch, 7)):
        feeds: dict[str, Array] = {"x": x, "lengths": lengths.astype(np.int32)}
        want = evaluate(graph, feeds, float64=True)
        got = model.run(feeds)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-5)
        counted = row_steps(model.program)
        assert counted
        if (np.diff(lengths) <= 0).all():
            assert set(counted) == {int(lengths.sum())}


def test_row_scalars_of_rows_that_end() -> None:
    graph = """graph @g(%x: f32[T,B,5], %h0: f32[B,5], %lengths: i32[B]) {
      %h_n, %y = scan carry(h = %h0) over(x = %x) lengths(%lengths) {steps = T, pad = repeat} {
      ^(%h: f32[B,5], %u: f32[B,5]):
        %a = add %h, %u : f32[B,5]
        %m = reduce_mean %a {axes = [1]} : f32[B]
        %w = broadcast %m {shape = [B, 5], axes = [0]} : f32[B,5]
        %n = sub %a, %w : f32[B,5]
        yield carry(h = %n) emit(y = %n)
      } : f32[B,5], f32[T,B,5]
      return y = %y, h = %h_n
    }"""
    run = native(graph)
    rng = np.random.default_rng(0)
    for lengths in ([4, 3, 3, 1, 0], [0, 2, 4, 1, 3]):
        feeds: dict[str, Array] = {"x": rng.standard_normal((4, 5, 5), np.float32),
                                   "h0": rng.standard_normal((5, 5), np.float32),
                                   "lengths": np.array(lengths, np.int32)}
        got = run(feeds)
        for name, value in evaluate(run.graph, feeds, float64=True).items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-5)
