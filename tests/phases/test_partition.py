"""Cells as phases: what a body is cut into, which states need two buffers, where threads that share lanes meet."""

from __future__ import annotations

import pytest

from rnngraph.backends import default_registry
from rnngraph.backends.llvm.cpu import native_target
from rnngraph.backends.llvm.stage import emit_stage
from rnngraph.ir import parse
from rnngraph.nn import RNN, Cell, Input, LayerNormGRUCell, LayerNormLSTMCell, LayerNormSimpleRNNCell, trace
from rnngraph.passes import run
from rnngraph.phases.stages import scan_stage
from rnngraph.phases.text import schedule_text, stage_text
from rnngraph.rewrite import PassContext
from tests.backends.llvm.native import scheduled
from tests.phases.cells import CELLS, graph
from tests.testing import assert_same_text

# The cells as traced, with 7 units and 5 features; no pass has joined or moved anything.
EXPECTED = {
    "lstm": """
stage lstm: rows batch, time steps
  carries c0[7] double, c1[7] in place
  phase 0 [7] after a barrier: matmul 5+7 -> 4x7 | 13 elementwise | store c0 c1 y0
""",
    "gru_after": """
stage gru: rows batch, time steps
  carries c0[7] double
  phase 0 [7] after a barrier: matmul 5+7 -> 2x7 | matmul 5 -> 1x7 | matmul 7 -> 1x7 | 15 elementwise | store c0 y0
""",
    "gru_before": """
stage gru: rows batch, time steps
  carries c0[7] double
  phase 0 [7] after a barrier: matmul 5+7 -> 1x7 | 3 elementwise | store tmp0
  phase 1 [7] after a barrier: matmul 5+7 -> 1x7 | matmul 5+7 -> 1x7 | 8 elementwise | store c0 y0
""",
    "simple": """
stage simple_rnn: rows batch, time steps
  carries c0[7] double
  phase 0 [7] after a barrier: matmul 5+7 -> 1x7 | 2 elementwise | store c0 y0
""",
    "relu": """
stage simple_rnn: rows batch, time steps
  carries c0[7] double
  phase 0 [7] after a barrier: matmul 5+7 -> 1x7 | 2 elementwise | store c0 y0
""",
    "peephole": """
stage rnn: rows batch, time steps
  carries c0[7] double, c1[7] in place
  phase 0 [7] after a barrier: matmul 5+7 -> 4x7 | 19 elementwise | store c0 c1 y0
""",
    "minimal_gated": """
stage rnn: rows batch, time steps
  carries c0[7] in place
  phase 0 [7] after a barrier: matmul 5+7 -> 1x7 | 3 elementwise | store tmp0 spill0
  phase 1 [7] after a barrier: matmul 5+7 -> 1x7 | 6 elementwise | store c0 y0
""",
    "layer_normed": """
stage rnn: rows batch, time steps
  carries c0[7] in place, c1[7] in place
  phase 0 [28] after a barrier: matmul 5+7 -> 1x28 | store tmp0
  phase 1 [28] after a barrier: fold reduce_mean
  phase 2 [28]: 1 row scalars | fold reduce_mean
  phase 3 [7]: 2 row scalars | 20 elementwise | store c1 spill0
  phase 4 [7] after a barrier: fold reduce_mean
  phase 5 [7]: 1 row scalars | fold reduce_mean
  phase 6 [7]: 4 row scalars | 12 elementwise | store c0 y0
""",
    "row_gate": """
stage rnn: rows batch, time steps
  carries c0[7] double
  phase 0 [1] after a barrier: matmul 5+7 -> 1x1 | partial reshape | partial reshape
  phase 1 [7] after a barrier: 2 row scalars | matmul 5+7 -> 1x7 | 4 elementwise | store c0 y0
""",
    "normalized": """
stage rnn: rows batch, time steps
  carries c0[7] in place
  phase 0 [7]: matmul 5+7 -> 1x7 | 1 elementwise | store spill0
  phase 1 [7] after a barrier: fold reduce_sum
  phase 2 [7]: 1 row scalars | 3 elementwise | store c0 spill1
  phase 3 [7] after a barrier: fold reduce_max
  phase 4 [7]: 1 row scalars | 1 elementwise | store y0
""",
    "softmax": """
stage rnn: rows batch, time steps
  carries c0[7] in place
  phase 0 [7] after a barrier: matmul 5+7 -> 1x7 | store spill0
  phase 1 [7] after a barrier: fold reduce_max
  phase 2 [7]: 1 row scalars | 2 elementwise | store spill1
  phase 3 [7] after a barrier: fold reduce_sum
  phase 4 [7]: 1 row scalars | 3 elementwise | store c0 y0
""",
    "sru": """
stage rnn: rows batch, time steps
  carries c0[7] in place
  phase 0 [7]: matmul 5 -> 3x7 | 14 elementwise | store c0 y0
""",
    "indrnn": """
stage rnn: rows batch, time steps
  carries c0[7] in place
  phase 0 [7]: matmul 5 -> 1x7 | 3 elementwise | store c0 y0
""",
    "projected": """
stage rnn: rows batch, time steps
  carries c0[3] in place, c1[7] in place
  phase 0 [7] after a barrier: matmul 5+3 -> 4x7 | 13 elementwise | store c1 tmp0
  phase 1 [3] after a barrier: matmul 7 -> 1x3 | store c0 y0
""",
    "joined": """
stage rnn: rows batch, time steps
  carries c0[7] double
  phase 0 [7] after a barrier: matmul 5+7 -> 2x7 | 7 elementwise | store c0 y0
""",
    "stacked": """
stage rnn: rows batch, time steps
  carries c0[7] double, c1[8] double
  phase 0 [7] after a barrier: matmul 5+7 -> 1x7 | 1 elementwise | store c0 tmp0
  phase 1 [7]: store y0
  phase 2 [8] after a barrier: matmul 7+8 -> 1x8 | 1 elementwise | store c1 y0+7
""",
    "delays": """
stage rnn: rows batch, time steps
  carries c0[7] in place, c1[7] in place, c2[14] double
  phase 0 [7] after a barrier: matmul 5+14 -> 1x7 | 6 elementwise | store c0 c1 c2 c2+7 y0
""",
    "comparing": """
stage rnn: rows batch, time steps
  carries c0[7] double
  phase 0 [7] after a barrier: matmul 5+7 -> 1x7 | 11 elementwise | store c0 y0
""",
    "timed": """
stage rnn: rows batch, time steps
  carries c0[7] double
  phase 0 [5]: fold reduce_mean
  phase 1 [7] after a barrier: 1 row scalars | matmul 4+7 -> 1x7 | 7 elementwise | store c0 y0
""",
    "summary": """
stage rnn: rows batch, time steps
  carries c0[7] double
  phase 0 [5]: fold reduce_sum | fold reduce_min
  phase 1 [7] after a barrier: fold reduce_mean
  phase 2 [7]: 2 row scalars | matmul 5 -> 1x7 | matmul 7 -> 1x7 | 8 elementwise | store c0 y0
""",
}


@pytest.mark.parametrize("kind", CELLS)
def test_phases_of(kind: str) -> None:
    _, schedule = scheduled(graph(kind, 7, 5))
    assert_same_text(schedule_text(schedule), EXPECTED[kind].strip("\n"))


GRAPHS = {
    "a fused bias is cut like the sum that it is added to": ("""graph @main(%x: f32[T,B,2], %h0: f32[B,2], %b: f32[4]) {
  %w = const [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0] : f32[2,4]
  %hT, %y = scan carry(h = %h0) over(x = %x) {steps = T, pad = zero} {
  ^(%h: f32[B,2], %u: f32[B,2]):
    %m = matmul %h, %w : f32[B,4]
    %v = broadcast %b {shape = [B, 4], axes = [1]} : f32[B,4]
    %s = add %m, %v : f32[B,4]
    %p = slice %s {axis = 1, start = 0, size = 2, step = 1} : f32[B,2]
    %q = slice %s {axis = 1, start = 2, size = 2, step = 1} : f32[B,2]
    %n = mul %p, %q : f32[B,2]
    yield carry(h = %n) emit(y = %n)
  } : f32[B,2], f32[T,B,2]
  return y = %y
}""", """
stage scan: rows B, T steps
  carries c0[2] double
  phase 0 [2] after a barrier: matmul 2 -> 2x2 | 3 elementwise | store c0 y0
"""),
    "states that swap are read before they are written": ("""graph @main(%x: f32[T,B,2], %a0: f32[B,2], %b0: f32[B,2]) {
  %aT, %bT, %y = scan carry(a = %a0, b = %b0) over(x = %x) {steps = T, pad = zero} {
  ^(%a: f32[B,2], %b: f32[B,2], %u: f32[B,2]):
    %n = add %a, %u : f32[B,2]
    yield carry(a = %b, b = %n) emit(y = %a)
  } : f32[B,2], f32[B,2], f32[T,B,2]
  return y = %y
}""", """
stage scan: rows B, T steps
  carries c0[2] in place, c1[2] in place
  phase 0 [2]: 1 elementwise | store c0 c1 y0
"""),
    "a state whose halves swap has two buffers": ("""graph @main(%x: f32[T,B,4], %a0: f32[B,4]) {
  %aT, %y = scan carry(a = %a0) over(x = %x) {steps = T, pad = zero} {
  ^(%a: f32[B,4], %u: f32[B,4]):
    %p = slice %a {axis = 1, start = 0, size = 2, step = 1} : f32[B,2]
    %q = slice %a {axis = 1, start = 2, size = 2, step = 1} : f32[B,2]
    %n = concat %q, %p {axis = 1} : f32[B,4]
    yield carry(a = %n) emit(y = %a)
  } : f32[B,4], f32[T,B,4]
  return y = %y
}""", """
stage scan: rows B, T steps
  carries c0[4] double
  phase 0 [2] after a barrier: store c0 c0+2
  phase 1 [4]: store y0
"""),
    "an op on a join keeps the join in memory": ("""graph @main(%x: f32[T,B,2], %a0: f32[B,4]) {
  %aT, %y = scan carry(a = %a0) over(x = %x) {steps = T, reverse = true, pad = zero} {
  ^(%a: f32[B,4], %u: f32[B,2]):
    %t = tanh %u : f32[B,2]
    %j = concat %t, %u {axis = 1} : f32[B,4]
    %n = mul %a, %j : f32[B,4]
    yield carry(a = %n) emit(y = %n)
  } : f32[B,4], f32[T,B,4]
  return y = %y
}""", """
stage scan: rows B, T steps backwards
  carries c0[4] in place
  phase 0 [2] after a barrier: 1 elementwise | store tmp0 tmp0+2
  phase 1 [4] after a barrier: 1 elementwise | store c0 y0
"""),
    "a number from outside is no phase": ("""graph @main(%x: f32[T,B,2], %g: f32[B], %s: f32[], %a0: f32[B,2]) {
  %aT, %y = scan carry(a = %a0) over(x = %x) {steps = T, pad = zero} {
  ^(%a: f32[B,2], %u: f32[B,2]):
    %r = sigmoid %g : f32[B]
    %p = broadcast %r {shape = [B, 2], axes = [0]} : f32[B,2]
    %q = broadcast %s {shape = [B, 2], axes = []} : f32[B,2]
    %v = mul %a, %p : f32[B,2]
    %n = add %v, %q : f32[B,2]
    yield carry(a = %n) emit(y = %n)
  } : f32[B,2], f32[T,B,2]
  return y = %y
}""", """
stage scan: rows B, T steps
  carries c0[2] in place
  phase 0 [2]: 1 row scalars | 3 elementwise | store c0 y0
"""),
    "rows over time and batch are one loop": ("""graph @main(%x: f32[T,B,2]) {
  %w = const [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] : f32[2,3]
  %m = matmul %x, %w : f32[T,B,3]
  %t = tanh %m : f32[T,B,3]
  return y = %t
}""", """
stage matmul: rows T*B
  phase 0 [3]: matmul 2 -> 1x3 | 1 elementwise | store y0
"""),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_phases_where(name: str) -> None:
    text, expected = GRAPHS[name]
    _, schedule = scheduled(text)
    assert_same_text(schedule_text(schedule), expected.strip("\n"))


def test_bodies_of_any_depth() -> None:
    """A thousand ops one behind the other: neither analysis nor emission recurses into them."""
    lines = ["%a0 = add %c, %s : f32[B,4]"]
    for k in range(1000):
        lines.append(f"%a{k + 1} = {'tanh' if k % 100 == 0 else 'neg'} %a{k} : f32[B,4]")
    body = "\n    ".join(lines)
    graph = parse(f"""
graph @deep(%h: f32[B,4], %x: f32[T,B,4]) {{
  %last = scan carry(h = %h) over(x = %x) {{steps = T}} {{
  ^(%c: f32[B,4], %s: f32[B,4]):
    {body}
    yield carry(h = %a1000) emit()
  }} : f32[B,4]
  return h = %last
}}
""")
    (scan,) = (op for op in graph.walk() if op.name == "scan")
    stage = scan_stage(scan)
    assert "1001 elementwise" in "\n".join(stage_text(stage))
    assert "call" in emit_stage(stage, native_target())


@pytest.mark.parametrize(("cell", "barriers"), [
    *((LayerNormLSTMCell(24, variant=v), 3) for v in ("contrib", "addons", "haste")),
    *((LayerNormGRUCell(24, variant=v), 2) for v in ("contrib", "haste")),
    (LayerNormSimpleRNNCell(24), 2),
])
def test_threads_meet_for_matmuls_and_normed_states_only(cell: Cell, barriers: int) -> None:
    """Means and variances are folds, which every thread does for itself; no matmul is done twice."""
    made, context = trace(RNN(cell), Input(("batch", "time", 5))), PassContext("cpu", default_registry())
    run("default", made, context)
    (scan,) = (op for op in made.walk() if op.name == "scan")
    stage = scan_stage(scan)
    assert sum(stage.waits) == barriers
    assert all(p.fold for p in stage.partition.phases if p.reduces)
    columns = sum(p.n * len(g.parts) for p in stage.partition.phases for g in p.groups)
    assert columns == 24 * len(getattr(cell, "gate_names", "h"))
