"""lower-conv and propagate-layout: text in, text out, and bodies that have no grid, each with its remark."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnngraph.ir import F32, Builder, Graph, TensorType, Value, build_graph, parse
from rnngraph.ir.grid_ops import CONV, ConvAttrs
from rnngraph.passes import run
from rnngraph.rewrite import PassContext
from tests.testing import assert_keeps_numbers, assert_rewrites, assert_same_numbers

SAME = "{strides = [1], low = [1], high = [1], dilation = [1], groups = 1}"
KERNEL = "%k = const [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] : f32[3,2,1]"


def test_a_convolution_alone() -> None:
    assert_rewrites(f"""graph @main(%x: f32[B,5,2]) {{
  {KERNEL}
  %y = conv %x, %k {SAME} : f32[B,5,1] <layer = a>
  return y = %y
}}""", "lower-conv", f"""graph @main(%x: f32[B,5,2]) {{
  {KERNEL}
  %xp = pad %x {{low = [0, 1, 0], high = [0, 1, 0]}} : f32[B,7,2] <layer = a>
  %r = windows %xp {{size = 3, stride = 1}} : f32[B,5,6] <layer = a>
  %w = reshape %k {{shape = [6, 1]}} : f32[6,1] <layer = a>
  %y = matmul %r, %w : f32[B,5,1] <layer = a>
  return y = %y
}}""", remarks=["applied: lower-conv: a: the convolution of f32[B,5,2] by f32[3,2,1] became a matmul"])


def test_taps_that_are_apart_are_slices_with_steps() -> None:
    assert_rewrites(f"""graph @main(%x: f32[T,B,7,2]) {{
  {KERNEL}
  %y = conv %x, %k {{strides = [2], low = [0], high = [0], dilation = [2], groups = 1}} : f32[T,B,2,1]
  return y = %y
}}""", "lower-conv", f"""graph @main(%x: f32[T,B,7,2]) {{
  {KERNEL}
  %a = slice %x {{axis = 2, start = 0, size = 2, step = 2}} : f32[T,B,2,2]
  %b = slice %x {{axis = 2, start = 2, size = 2, step = 2}} : f32[T,B,2,2]
  %c = slice %x {{axis = 2, start = 4, size = 2, step = 2}} : f32[T,B,2,2]
  %w = reshape %k {{shape = [6, 1]}} : f32[6,1]
  %taps = concat %a, %b, %c {{axis = 3}} : f32[T,B,2,6]
  %y = matmul %taps, %w : f32[T,B,2,1]
  return y = %y
}}""")


def test_a_stride_over_a_symbolic_size() -> None:
    assert_rewrites(f"""graph @main(%x: f32[B,T,2]) {{
  {KERNEL}
  %y = conv %x, %k {{strides = [2], low = [0], high = [0], dilation = [1], groups = 1}} : f32[B,(T+1)//2-1,1]
  return y = %y
}}""", "lower-conv", f"""graph @main(%x: f32[B,T,2]) {{
  {KERNEL}
  %r = windows %x {{size = 3, stride = 2}} : f32[B,(T+1)//2-1,6]
  %w = reshape %k {{shape = [6, 1]}} : f32[6,1]
  %y = matmul %r, %w : f32[B,(T+1)//2-1,1]
  return y = %y
}}""")


SCAN = """graph @main(%x: f32[T,B,5,1], %h0: f32[B,5,1]) {
  %k = const [1.0, 2.0, 3.0] : f32[3,1,1]
  %hT, %y = scan carry(h = %h0) over(x = %x) {steps = T} {
  ^(%h: f32[B,5,1], %xt: f32[B,5,1]):
BODY
    yield carry(h = %n) emit(y = %n) <layer = cell>
  } : f32[B,5,1], f32[T,B,5,1] <layer = cell>
  return y = %y
}"""


def scan(*lines: str) -> str:
    return SCAN.replace("BODY", "\n".join(f"    {line} <layer = cell>" for line in lines))


def test_a_step_moves_to_the_grid() -> None:
    before = scan(f"%p = conv %h, %k {SAME} : f32[B,5,1]", "%n = add %p, %xt : f32[B,5,1]")
    assert_rewrites(before, "lower-conv,dce", """graph @main(%x: f32[T,B,5,1], %h0: f32[B,5,1]) {
  %k = const [1.0, 2.0, 3.0] : f32[3,1,1]
  %hp = pad %h0 {low = [0, 0, 0], high = [0, 1, 0]} : f32[B,6,1] <layer = cell>
  %xp = pad %x {low = [0, 0, 0, 0], high = [0, 0, 1, 0]} : f32[T,B,6,1] <layer = cell>
  %cells = const [1.0, 1.0, 1.0, 1.0, 1.0, 0.0] : f32[6] <layer = cell>
  %mask = broadcast %cells {shape = [B, 6], axes = [1]} : f32[B,6] <layer = cell>
  %w = reshape %k {shape = [3, 1]} : f32[3,1] <layer = cell>
  %hT, %y = scan carry(h = %hp) over(x = %xp) {steps = T} {
  ^(%h: f32[B,6,1], %xt: f32[B,6,1]):
    %l = shift_rows %h {by = -1, image = 6} : f32[B,6,1] <layer = cell>
    %r = shift_rows %h {by = 1, image = 6} : f32[B,6,1] <layer = cell>
    %taps = concat %l, %h, %r {axis = 2} : f32[B,6,3] <layer = cell>
    %p = matmul %taps, %w : f32[B,6,1] <layer = cell>
    %s = add %p, %xt : f32[B,6,1] <layer = cell>
    %own = broadcast %mask {shape = [B, 6, 1], axes = [0, 1]} : f32[B,6,1] <layer = cell>
    %z = const splat(0.0) : f32[] <layer = cell>
    %zero = broadcast %z {shape = [B, 6, 1], axes = []} : f32[B,6,1] <layer = cell>
    %inside = gt %own, %zero : bool[B,6,1] <layer = cell>
    %n = select %inside, %s, %zero : f32[B,6,1] <layer = cell>
    yield carry(h = %n) emit(y = %n) <layer = cell>
  } : f32[B,6,1], f32[T,B,6,1] <layer = cell>
  %out = slice %y {axis = 2, start = 0, size = 5, step = 1} : f32[T,B,5,1] <layer = cell>
  return y = %out
}""")


REASONS = {
    "op reduce_mean (f32[B,1]) in a step goes over the cells of an image":
        scan("%m = reduce_mean %h {axes = [1]} : f32[B,1]", f"%p = conv %h, %k {SAME} : f32[B,5,1]",
             "%b = broadcast %m {shape = [B, 5, 1], axes = [0, 2]} : f32[B,5,1]", "%n = add %p, %b : f32[B,5,1]"),
    "op reverse (f32[B,5,1]) in a step goes along the cells of an image":
        scan(f"%p = conv %h, %k {SAME} : f32[B,5,1]", "%n = reverse %p {axis = 1} : f32[B,5,1]"),
    "op slice (f32[B,4,1]) in a step cuts images apart or joins them":
        scan(f"%p = conv %h, %k {SAME} : f32[B,5,1]", "%s = slice %p {axis = 1, start = 1, size = 4} : f32[B,4,1]",
             "%t = slice %p {axis = 1, start = 0, size = 1} : f32[B,1,1]",
             "%n = concat %s, %t {axis = 1} : f32[B,5,1]"),
    "the convolution of f32[B,5,1] to f32[B,3,1] in a step does not keep the size [5]":
        scan("%p = conv %h, %k {strides = [1], low = [0], high = [0], dilation = [1]} : f32[B,3,1]",
             "%t = slice %h {axis = 1, start = 0, size = 2} : f32[B,2,1]",
             "%n = concat %p, %t {axis = 1} : f32[B,5,1]"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_step_that_has_no_grid(reason: str) -> None:
    assert_rewrites(REASONS[reason], "lower-conv", None, remarks=[f"missed: lower-conv: cell: {reason}"])


def test_layouts_that_meet() -> None:
    """A state that a step transposes on entry and on leaving is kept as the step wants it."""
    graph = parse("""graph @main(%h0: f32[B,2,5]) {
  %hT = scan carry(h = %h0) over() {steps = 3} {
  ^(%h: f32[B,2,5]):
    %last = transpose %h {perm = [0, 2, 1]} : f32[B,5,2]
    %t = tanh %last : f32[B,5,2]
    %n = transpose %t {perm = [0, 2, 1]} : f32[B,2,5]
    yield carry(h = %n) emit()
  } : f32[B,2,5]
  return h = %hT
}""")
    context = PassContext()
    run("propagate-layout,canonicalize", graph, context)
    assert [str(r) for r in context.remarks] == [
        "applied: propagate-layout: values [B,2,5] of a step enter and leave the scan transposed"]
    (body,) = (op.blocks[0] for op in graph.block.body if op.name == "scan")
    assert [op.name for op in body.ops] == ["tanh", "yield"]
    assert_keeps_numbers(graph, "canonicalize", rtol=0, atol=0, dims={"B": 2})


def test_the_convolution_of_a_join_leaves_the_scan_in_part() -> None:
    joined = SCAN.replace("[1.0, 2.0, 3.0] : f32[3,1,1]", "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0] : f32[3,2,1]").replace(
        "BODY", f"    %j = concat %xt, %h {{axis = 2}} : f32[B,5,2]\n    %n = conv %j, %k {SAME} : f32[B,5,1]")
    context = PassContext()
    graph = assert_keeps_numbers(joined, "canonicalize,hoist-invariant,hoist-input-projection", rtol=1e-12, atol=1e-12)
    run("lower-conv,fold-constants,cse,dce", graph, context)
    assert [op.name for op in graph.block.body if op.name in ("matmul", "scan")] == ["matmul", "scan"]
    assert_same_numbers(joined, graph, rtol=1e-12, atol=1e-12)


def test_a_layer_reads_the_one_below_on_its_grid() -> None:
    """The outputs of a scan have zeros around them already: no padding is written between two layers."""
    first = scan(f"%p = conv %h, %k {SAME} : f32[B,5,1]", "%n = add %p, %xt : f32[B,5,1]")
    graph = parse(first.replace("return y = %y", f"%z = conv %y, %k {SAME} : f32[T,B,5,1]\n  return z = %z"))
    before = graph.clone()
    run("lower-conv,dce", graph)
    padded = [op.operands[0].hint for op in graph.walk() if op.name == "pad"]
    assert padded == ["h0", "x"]
    assert_same_numbers(before, graph, rtol=1e-12, atol=1e-12)


def test_a_padded_value_stands_in_front_of_all_who_read_it() -> None:
    """A convolution in front of a scan shares its padded input, and its taps, with one that the scan has absorbed."""
    body = scan(f"%q = conv %xt, %k {SAME} : f32[B,5,1]", f"%p = conv %h, %k {SAME} : f32[B,5,1]",
                "%n = add %p, %q : f32[B,5,1]")
    early = f"  %e = conv %x, %k {SAME} : f32[T,B,5,1] <layer = a>\n"
    first = body.replace("  %hT, %y = scan", f"{early}  %hT, %y = scan", 1)
    graph = parse(first.replace("return y = %y", "return y = %y, e = %e"))
    assert_keeps_numbers(graph, "hoist-input-projection,lower-conv,cse,dce", rtol=1e-12, atol=1e-12)


@st.composite
def convolutions(draw: Any) -> tuple[Graph, dict[str, int]]:
    """One convolution with any options, in one to three dims, of an image or of a state in a scan."""
    n = draw(st.integers(1, 3))

    def pick(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(n))

    spatial, size, dilation = pick(1, 5), pick(1, 3), pick(1, 2)
    groups = draw(st.sampled_from([1, 1, 2]))
    channels, filters = 2 * draw(st.integers(1, 2)), 2 * draw(st.integers(1, 2))
    reach = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
    loop = draw(st.booleans())
    if loop:
        low = tuple(draw(st.integers(0, r)) for r in reach)
        high, strides, filters = tuple(r - lo for r, lo in zip(reach, low, strict=True)), (1,) * n, channels
    else:
        low, high, strides = pick(0, 2), pick(0, 2), pick(1, 3)
        high = tuple(max(h, r + 1 - s - lo) for h, r, s, lo in zip(high, reach, spatial, low, strict=True))
    attrs = ConvAttrs(strides, low, high, dilation, groups)
    kernel = TensorType(F32, (*size, channels // groups, filters))
    state = TensorType(F32, ("B", *spatial, channels))

    def body(b: Builder, v: dict[str, Any]) -> dict[str, Any]:
        if not loop:
            return {"y": b.op(CONV, v["x"], v["k"], attrs=attrs)}

        def step(b: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
            return {"h": b.tanh(b.op(CONV, c["h"], v["k"], attrs=attrs))}, {"y": c["h"]}

        finals, ys = b.scan({"h": v["x"]}, {}, step, steps=3)
        return {"h": finals["h"], "y": ys["y"]}

    return build_graph({"x": state, "k": kernel}, body), {"B": draw(st.integers(0, 3))}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(convolutions())
def test_any_convolution_keeps_its_numbers(case: tuple[Graph, dict[str, int]]) -> None:
    graph, dims = case
    lowered = assert_keeps_numbers(graph, "lower-conv,dce", rtol=1e-9, atol=1e-9, dims=dims)
    assert not [op for op in lowered.walk() if op.name == "conv"]
