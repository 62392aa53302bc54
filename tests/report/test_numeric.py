"""What a comparison of numbers allows: float32's own loss where a model magnifies it, 1e-5 of the scale elsewhere."""

from __future__ import annotations

import pytest

import rnngraph as rg
from rnngraph.errors import PassError
from rnngraph.ir import Graph, evaluate, parse
from rnngraph.report.numeric import NumericCheck, allowance, random_inputs
from rnngraph.rewrite import PassRecord, Snapshot

LOGISTIC = """
graph @main(%x: f32[T,1,1]) {{
  %h0 = const splat(0.3) : f32[1,1]
  %r = const splat({rate}) : f32[1,1]
  %end, %y = scan carry(h = %h0) over(x = %x) {{steps = T}} {{
  ^(%h: f32[1,1], %xt: f32[1,1]):
    %a = mul %h, %r : f32[1,1]
    %b = mul %a, %h : f32[1,1]
    %c = sub %a, %b : f32[1,1]
    yield carry(h = %c) emit(y = %c)
  }} : f32[1,1], f32[T,1,1]
  return y = %y
}}
"""


def logistic(rate: float) -> Graph:
    """h' = r h (1 - h): stable at r = 2, chaotic at r = 3.9, where every rounding error doubles about every step."""
    return parse(LOGISTIC.format(rate=rate))


def test_a_stable_recurrence_must_keep_the_tolerance() -> None:
    graph = logistic(2.0)
    inputs = random_inputs(graph, {"T": 20})
    allowed = allowance(graph, inputs, evaluate(graph, inputs, float64=True), 1e-5)
    assert allowed["y"] == pytest.approx(1e-5)


def test_a_chaotic_recurrence_is_allowed_what_float32_loses() -> None:
    graph = logistic(3.9)
    inputs = random_inputs(graph, {"T": 12})
    allowed = allowance(graph, inputs, evaluate(graph, inputs, float64=True), 1e-5)
    assert 1e-5 < allowed["y"] < 1e-2


def test_a_wrong_pass_is_still_caught_in_a_chaotic_model() -> None:
    check = NumericCheck(logistic(3.9), {"T": 8})
    wrong = logistic(3.91)
    with pytest.raises(PassError, match="wrong-pass"):
        check.after(0, PassRecord("wrong-pass", Snapshot(check.graph), Snapshot(wrong), 0.0), wrong)


def test_compile_accepts_an_ill_conditioned_model() -> None:
    rg.compile(logistic(3.9), verify="numeric", dims={"T": 20})
