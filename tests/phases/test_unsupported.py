"""What phases cannot express, each with the reason that the user reads."""

from __future__ import annotations

import pytest

from rnngraph.ir import F32, Builder, Graph, TensorType, Value, build_graph, parse
from rnngraph.phases.lanes import Unsupported
from rnngraph.phases.stages import build_schedule, scan_stage


def scan(body: str, inputs: str = "%x: f32[T,B,5], %h0: f32[B,5]", state: str = "f32[B,5]", x: str = "f32[B,5]",
         sequence: str = "f32[T,B,5]") -> str:
    """A graph with one scan whose new state %n the ``body`` computes from %h and %u."""
    return f"""graph @main({inputs}) {{
  %hT, %y = scan carry(h = %h0) over(x = %x) {{steps = T, pad = zero}} {{
  ^(%h: {state}, %u: {x}):
    {body}
    yield carry(h = %n) emit(y = %n) <layer = cell>
  }} : {state}, {sequence} <layer = cell>
  return y = %y
}}"""


V = "%x: f32[T,B,5], %h0: f32[B,5], "

SCANS = {
    "the right side of matmul of layer cell (f32[5,5]) is not a constant matrix; weights are packed at compile time":
        scan("%n = matmul %h, %w : f32[B,5] <layer = cell>", V + "%w: f32[5,5]"),
    "op softmax (f32[B,5] of layer cell) has no lane form in a fused loop":
        scan("%n = softmax %h {axis = 1} : f32[B,5] <layer = cell>"),
    "vector value %t of layer cell is computed inside the step; hoist-invariant moves it out":
        scan("%t = tanh %v : f32[5]\n    %b = broadcast %t {shape = [B, 5], axes = [1]} : f32[B,5] <layer = cell>\n"
             "    %n = add %h, %b : f32[B,5]", V + "%v: f32[5]"),
    "scalar value %t is computed inside the step":
        scan("%t = tanh %s : f32[]\n    %b = broadcast %t {shape = [B, 5], axes = []} : f32[B,5]\n"
             "    %n = add %h, %b : f32[B,5]", V + "%s: f32[]"),
    "broadcast of f32[B,5] to f32[B,5] is not along rows or lanes alone":
        scan("%n = broadcast %h {shape = [B, 5], axes = [0, 1]} : f32[B,5]"),
    "op reshape (f32[B] of layer cell) has no form as one number per row":
        scan("%r = reshape %m {shape = [B]} : f32[B] <layer = cell>\n"
             "    %b = broadcast %r {shape = [B, 5], axes = [0]} : f32[B,5]\n    %n = add %h, %b : f32[B,5]",
             V + "%m: f32[1,B]"),
    "value %m has dtype i64; fused loops compute in f32 and i32":
        scan("%k = eq %m, %m : bool[B,5]\n    %n = select %k, %h, %u : f32[B,5]", V + "%m: i64[B,5]"),
    "op div (i32[B,5]) has no lane form in a fused loop":
        scan("%q = div %m, %m : i32[B,5]\n    %k = eq %q, %m : bool[B,5]\n    %n = select %k, %h, %u : f32[B,5]",
             V + "%m: i32[B,5]"),
    "the condition %h of layer cell has dtype i32, expected f32":
        scan("%n = add %h, %u : i32[B,1]", "%x: i32[T,B,1], %h0: i32[B,1]", "i32[B,1]", "i32[B,1]",
             "i32[T,B,1]").replace("pad = zero", "until = h"),
    "state or input %h of layer cell has dtype bool, expected f32 or i32":
        scan("%n = not %h : bool[B,5]", "%x: f32[T,B,5], %h0: bool[B,5]", "bool[B,5]", sequence="bool[T,B,5]"),
    "value %q has type f32[B,N]; a step computes on [B,n] with a known n":
        scan("%s = slice %u {axis = 1, start = 0, size = 5, step = 1} : f32[B,5]\n    %q = tanh %u : f32[B,N]\n"
             "    %r = slice %q {axis = 1, start = 0, size = 5, step = 1} : f32[B,5]\n    %n = add %r, %s : f32[B,5]",
             "%x: f32[T,B,N], %h0: f32[B,5]", x="f32[B,N]"),
    "state or input %h of layer cell has dtype f64, expected f32 or i32":
        scan("%n = tanh %h : f64[B,5]", "%x: f32[T,B,5], %h0: f64[B,5]", "f64[B,5]", sequence="f64[T,B,5]"),
    "%h of layer cell is f32[B,2,5]; fused loops take [batch, features] steps":
        scan("%n = tanh %h : f32[B,2,5]", "%x: f32[T,B,5], %h0: f32[B,2,5]", "f32[B,2,5]", sequence="f32[T,B,2,5]"),
    "%u of layer cell is f32[B,2,5]; fused loops take [batch, features] steps":
        scan("%n = tanh %h : f32[B,5]", "%x: f32[T,B,2,5], %h0: f32[B,5]", x="f32[B,2,5]"),
}


@pytest.mark.parametrize("reason", SCANS)
def test_a_scan_that_has_no_phases(reason: str) -> None:
    graph = parse(SCANS[reason])
    op = next(op for op in graph.block.body if op.name == "scan")
    with pytest.raises(Unsupported) as caught:
        scan_stage(op)
    assert str(caught.value) == reason


def nested() -> Graph:
    def inner(b: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
        return {"h": b.tanh(c["h"])}, {}

    def body(b: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
        with b.named("outer"):
            finals, _ = b.scan({"h": c["h"]}, {}, inner, steps=3)
        return finals, {}

    def build(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        with b.named("outer"):
            return b.scan({"h": v["h"]}, {"x": v["x"]}, body)[0]

    return build_graph({"x": TensorType(F32, ("T", "B", 5)), "h": TensorType(F32, ("B", 5))}, build)


def test_a_loop_within_a_step() -> None:
    op = next(op for op in nested().block.body if op.name == "scan")
    with pytest.raises(Unsupported, match="layer outer: a loop within a step"):
        scan_stage(op)


def test_an_op_without_a_native_form() -> None:
    graph = parse("""graph @main(%x: f32[T,B,5], %i: i64[N,2]) {
  %y = gather_nd %x, %i {batch_dims = 0} : f32[N,5]
  return y = %y
}""")
    with pytest.raises(Unsupported, match=r"^op gather_nd has no native form$"):
        build_schedule(graph.block.body, graph.outputs)
