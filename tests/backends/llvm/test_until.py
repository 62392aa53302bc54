"""A loop that ends by its rows (`until`): text, typing, passes, the reference, native code on one and more threads."""

from __future__ import annotations

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import ParseError
from rnngraph.ir import Array, Graph, Scan, evaluate, parse, verify
from rnngraph.ir.scan import SCAN
from rnngraph.rewrite import PassContext
from tests.backends.llvm.native import PLANNERS
from tests.testing import assert_rewrites

UNITS = 20
TEXT = """graph @main(%h0: f32[B,20], %d0: f32[B,1], %x: f32[T,B,20]) {
  %w = const @0123456789abcdef : f32[20,20]
  %h, %d, %n, %y = scan carry(h = %h0, d = %d0, n = %d0) over(x = %x) {steps = TOPTIONS, until = d} {
  ^(%hh: f32[B,20], %dd: f32[B,1], %nn: f32[B,1], %xt: f32[B,20]):
    %a = matmul %hh, %w : f32[B,20]
    %b = add %a, %xt : f32[B,20]
    %c = tanh %b : f32[B,20]
    %s = reduce_mean %c {axes = [1]} : f32[B]
    %limit = const splat(0.2) : f32[]
    %limits = broadcast %limit {shape = [B], axes = []} : f32[B]
    %above = gt %s, %limits : bool[B]
    %one = const splat(1.0) : f32[]
    %ones = broadcast %one {shape = [B], axes = []} : f32[B]
    %zero = const splat(0.0) : f32[]
    %zeros = broadcast %zero {shape = [B], axes = []} : f32[B]
    %flag = select %above, %ones, %zeros : f32[B]
    %d2 = reshape %flag {shape = [B, 1]} : f32[B,1]
    %each = broadcast %one {shape = [B, 1], axes = []} : f32[B,1]
    %n2 = add %nn, %each : f32[B,1]
    yield carry(h = %c, d = %d2, n = %n2) emit(y = %c)
  } : f32[B,20], f32[B,1], f32[B,1], f32[T,B,20]
  return h = %h, d = %d, n = %n, y = %y
}
"""


def graph(options: str = "") -> Graph:
    w = np.random.default_rng(0).standard_normal((UNITS, UNITS)) * 0.2
    return parse(TEXT.replace("OPTIONS", options), {"0123456789abcdef": w.astype(np.float32)})


def feeds(batch: int, steps: int, seed: int = 1) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {"h0": rng.standard_normal((batch, UNITS)).astype(np.float32),
            "d0": (rng.random((batch, 1)) < 0.15).astype(np.float32),
            "x": rng.standard_normal((steps, batch, UNITS)).astype(np.float32)}


def by_hand(w: Array, given: dict[str, Array], pad: str, reverse: bool) -> dict[str, Array]:
    """Row by row, in float64; ``l``, where given, are lengths."""
    h, d, n = given["h0"].astype(np.float64), given["d0"].astype(np.float64), given["d0"].astype(np.float64)
    y = np.zeros(given["x"].shape)
    steps, batch = len(y), len(h)
    for b in range(batch):
        last = np.zeros(UNITS)
        for t in reversed(range(steps)) if reverse else range(steps):
            if d[b, 0] == 0 and ("l" not in given or t < given["l"][b]):
                h[b] = last = np.tanh(h[b] @ w + given["x"][t, b])
                d[b], n[b] = float(h[b].mean() > 0.2), n[b] + 1
                y[t, b] = h[b]
            elif pad == "repeat":
                y[t, b] = last
    return {"h": h, "d": d, "n": n, "y": y}


def test_text_and_types() -> None:
    g = graph(", pad = repeat")
    verify(g)
    assert parse(g.to_text()).to_text() == g.to_text()
    assert "{steps = T, pad = repeat, until = d} {" in g.to_text()
    arrays = {"0123456789abcdef": np.zeros((20, 20), np.float32)}
    for until, message in (("z", "until must name one of the carries"),
                           ("h", r"until takes a carry \[B\], \[B,1\] or \[\]"),
                           ("3", "until")):
        with pytest.raises(ParseError, match=message):
            parse(TEXT.replace("OPTIONS", "").replace("until = d", f"until = {until}"), arrays)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("pad", ["zero", "repeat"])
def test_the_reference_and_native_code(pad: str, reverse: bool) -> None:
    g = graph(f", reverse = {str(reverse).lower()}, pad = {pad}")
    w = np.random.default_rng(0).standard_normal((UNITS, UNITS)) * 0.2
    model = rg.compile(g, threads=1)
    assert [op.impl for op in model.program.graph.block.body if op.opdef is SCAN] == ["llvm.scan"]
    for batch, steps in ((1, 40), (3, 1), (7, 50), (40, 33)):
        given = feeds(batch, steps)
        want = by_hand(w.astype(np.float32).astype(np.float64), given, pad, reverse)
        for name, array in evaluate(g, given, float64=True).items():
            np.testing.assert_allclose(array, want[name], rtol=0.0, atol=1e-12)
        for name, array in model.run(given).items():
            np.testing.assert_allclose(array, want[name], rtol=0.0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("pad", ["zero", "repeat"])
def test_together_with_lengths(pad: str) -> None:
    w = (np.random.default_rng(0).standard_normal((UNITS, UNITS)) * 0.2).astype(np.float32)
    text = TEXT.replace("OPTIONS", f", pad = {pad}").replace("over(x = %x)", "over(x = %x) lengths(%l)")
    g = parse(text.replace("%x: f32[T,B,20])", "%x: f32[T,B,20], %l: i32[B])"), {"0123456789abcdef": w})
    model = rg.compile(g, threads=1)
    assert [op.impl for op in model.program.graph.block.body if op.opdef is SCAN] == ["llvm.scan"]
    for batch, steps in ((1, 9), (6, 30), (33, 20)):
        given = feeds(batch, steps) | {"l": np.random.default_rng(3).integers(0, steps + 1, batch).astype(np.int32)}
        want = by_hand(w.astype(np.float64), given, pad, False)
        for name, array in evaluate(g, given, float64=True).items():
            np.testing.assert_allclose(array, want[name], rtol=0.0, atol=1e-12)
        for name, array in model.run(given).items():
            np.testing.assert_allclose(array, want[name], rtol=0.0, atol=1e-5, err_msg=name)


COUNT = """graph @g(%n0: i32[B], %d0: bool[B]) {
  %n, %d = scan carry(n = %n0, d = %d0) over() {steps = 10, until = d} {
  ^(%a: i32[B], %b: bool[B]):
    %one = const splat(1) : i32[]
    %ones = broadcast %one {shape = [B], axes = []} : i32[B]
    %c = add %a, %ones : i32[B]
    %five = const splat(5) : i32[]
    %fives = broadcast %five {shape = [B], axes = []} : i32[B]
    %e = ge %c, %fives : bool[B]
    yield carry(n = %c, d = %e) emit()
  } : i32[B], bool[B]
  return n = %n, d = %d
}
"""


def test_integers_and_flags_run_by_the_reference() -> None:
    given = {"n0": np.array([0, 3, 7, 1], np.int32), "d0": np.array([False, False, False, True])}
    for out in (evaluate(parse(COUNT), given), rg.compile(COUNT).run(given)):
        assert out["n"].tolist() == [5, 5, 8, 1]
        assert out["d"].tolist() == [True] * 4


@pytest.mark.parametrize("mode", PLANNERS)
@pytest.mark.parametrize("pad", ["zero", "repeat"])
def test_the_same_bits_on_threads(mode: str, pad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    g = graph(f", pad = {pad}")
    alone = rg.compile(g, threads=1)
    monkeypatch.setattr("rnngraph.backends.llvm.plan.Planner", PLANNERS[mode])
    shared = rg.compile(g, threads=2)
    for batch, steps in ((2, 30), (9, 25), (40, 12)):
        for seed in range(3):
            given = feeds(batch, steps, seed)
            want = alone.run(given)
            for name, array in shared.run(given).items():
                np.testing.assert_array_equal(array, want[name])


def test_nothing_runs_when_all_rows_are_done_at_first() -> None:
    given = feeds(4, 9)
    given["d0"] = np.full((4, 1), np.nan, np.float32)  # not zero
    for pad in ("zero", "repeat"):
        g = graph(f", pad = {pad}")
        for out in (evaluate(g, given), rg.compile(g).run(given)):
            np.testing.assert_array_equal(out["h"], given["h0"])
            assert not out["y"].any()


def test_the_condition_survives_the_passes() -> None:
    g = graph()
    g.block.terminator.erase()
    (scan,) = [op for op in g.block.ops if op.opdef is SCAN]
    rg.ir.Builder(g.block).ret({"h": scan.results[0]})  # nobody reads d
    want = evaluate(g, feeds(5, 9), float64=True)["h"]
    rg.passes.run("canonicalize,fold-constants,cse,dce,hoist-invariant,raise-rnn,fuse-gate-matmuls,"
                  "hoist-input-projection", g)
    (scan,) = [op for op in g.block.ops if op.opdef is SCAN]
    assert Scan(scan).attrs.carries == ("h", "d")
    assert Scan(scan).attrs.until == "d"
    np.testing.assert_allclose(evaluate(g, feeds(5, 9), float64=True)["h"], want, rtol=0.0, atol=1e-12)


def test_the_projection_leaves_the_loop() -> None:
    text = TEXT.replace("OPTIONS", "").replace("%b = add %a, %xt : f32[B,20]", """%p = matmul %xt, %w : f32[B,20]
    %b = add %a, %p : f32[B,20]""")
    g = parse(text, {"0123456789abcdef": np.eye(20, dtype=np.float32)})
    want = evaluate(g, feeds(5, 9), float64=True)
    context = PassContext()
    rg.passes.run("hoist-input-projection", g, context)
    assert [r.kind for r in context.remarks] == ["applied"]
    got = evaluate(g, feeds(5, 9), float64=True)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=0.0, atol=1e-12)


RNN = """graph @g(%x: f32[T,B,4], %h0: f32[B,4], %d0: f32[B,1]) {
  %w = const @0123456789abcdef : f32[4,4]
  %h, %d = scan carry(h = %h0, d = %d0) over(x = %x) {steps = T, until = d} {
  ^(%hh: f32[B,4], %dd: f32[B,1], %xt: f32[B,4]):
    %a = matmul %xt, %w : f32[B,4]
    %b = matmul %hh, %w : f32[B,4]
    %s = add %a, %b : f32[B,4]
    %n = tanh %s : f32[B,4]
    yield carry(h = %n, d = %dd) emit()
  } : f32[B,4], f32[B,1]
  return h = %h, d = %d
}
"""


def test_a_loop_that_may_end_is_no_rnn_node() -> None:
    g = parse(RNN, {"0123456789abcdef": np.ones((4, 4), np.float32)})
    assert_rewrites(g, "raise-rnn", None, remarks=[
        "missed: raise-rnn: the loop ends when %d says so for every row; a fused node runs all its steps"])


def test_one_step_that_may_not_run_stays_a_loop() -> None:
    g = parse(RNN.replace("T,B", "1,B").replace("steps = T", "steps = 1"),
              {"0123456789abcdef": np.ones((4, 4), np.float32)})
    assert_rewrites(g, "inline-single-step", None, remarks=[
        "missed: inline-single-step: a single step may be skipped by rows that are done before it"])


def test_a_carry_that_never_changes_still_ends_the_loop() -> None:
    g = parse(RNN, {"0123456789abcdef": np.ones((4, 4), np.float32)})
    rng = np.random.default_rng(0)
    given = {"x": rng.standard_normal((5, 3, 4)).astype(np.float32), "h0": rng.standard_normal((3, 4)).astype("f"),
             "d0": np.array([[0], [1], [0]], np.float32)}
    want = evaluate(g, given, float64=True)["h"]
    got = rg.compile(g).run(given)["h"]
    np.testing.assert_array_equal(got[1], given["h0"][1])
    np.testing.assert_allclose(got, want, rtol=0.0, atol=1e-6)
