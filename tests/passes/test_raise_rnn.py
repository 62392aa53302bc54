"""raise-rnn, text in and out: what the node's operands are built from."""

from __future__ import annotations

import pytest

from rnngraph.ir import F32, Builder, Graph, Rnn, TensorType, Value, build_graph
from rnngraph.passes import run
from rnngraph.rewrite import PassContext
from tests.passes.cell_graphs import GATES, Variant, cell_graph
from tests.testing import assert_rewrites, assert_same_numbers

RNN_BEFORE = """
graph @g(%x: f32[T,B,2], %h0: f32[B,1], %w: f32[2,1], %r: f32[1,1], %b: f32[1], %n: i32[B]) {
  %h, %y = scan carry(h = %h0) over(x = %x) lengths(%n) {steps = T, reverse = true, pad = repeat} {
  ^(%s: f32[B,1], %v: f32[B,2]):
    %p = matmul %v, %w : f32[B,1] <layer = cell>
    %q = matmul %s, %r : f32[B,1] <layer = cell>
    %a = add %p, %q : f32[B,1] <layer = cell>
    %bb = broadcast %b {shape = [B, 1], axes = [1]} : f32[B,1] <layer = cell>
    %c = add %bb, %a : f32[B,1] <layer = cell>
    %t = tanh %c : f32[B,1] <layer = cell>
    yield carry(h = %t) emit(y = %t) <layer = cell>
  } : f32[B,1], f32[T,B,1] <layer = cell>
  return y = %y, h = %h
}
"""
RNN_AFTER = """
graph @g(%x: f32[T,B,2], %h0: f32[B,1], %w: f32[2,1], %r: f32[1,1], %b: f32[1], %n: i32[B]) {
  %zero = const splat(0.0) : f32[1] <layer = cell>
  %s = reshape %h0 {shape = [1, B, 1]} : f32[1,B,1] <layer = cell>
  %y, %hn = rnn %x, %s, %n, %w, %r, %b, %zero
    {mode = rnn_tanh, hidden = 1, direction = reverse, lengths = true, pad = repeat}
    : f32[T,B,1], f32[1,B,1] <layer = cell>
  %h = reshape %hn {shape = [B, 1]} : f32[B,1] <layer = cell>
  return y = %y, h = %h
}
"""

# gates in the order f, o, g, i; one matmul on [x, h]; the bias fused; forget bias 1 in the graph
LSTM_BEFORE = """
graph @g(%x: f32[T,B,1], %h0: f32[B,1], %c0: f32[B,1], %w: f32[2,4], %b: f32[4]) {
  %h, %c, %y = scan carry(h = %h0, c = %c0) over(x = %x) {steps = T} {
  ^(%s: f32[B,1], %m: f32[B,1], %v: f32[B,1]):
    %xh = concat %v, %s {axis = 1} : f32[B,2]
    %p = matmul %xh, %w : f32[B,4]
    %bb = broadcast %b {shape = [B, 4], axes = [1]} : f32[B,4]
    %a = add %p, %bb : f32[B,4]
    %f = slice %a {axis = 1, start = 0, size = 1} : f32[B,1]
    %o = slice %a {axis = 1, start = 1, size = 1} : f32[B,1]
    %g = slice %a {axis = 1, start = 2, size = 1} : f32[B,1]
    %i = slice %a {axis = 1, start = 3, size = 1} : f32[B,1]
    %one = const splat(1.0) : f32[]
    %ones = broadcast %one {shape = [B, 1], axes = []} : f32[B,1]
    %f1 = add %f, %ones : f32[B,1]
    %sf = sigmoid %f1 : f32[B,1]
    %so = sigmoid %o : f32[B,1]
    %tg = tanh %g : f32[B,1]
    %si = sigmoid %i : f32[B,1]
    %new = mul %tg, %si : f32[B,1]
    %old = mul %m, %sf : f32[B,1]
    %c1 = add %new, %old : f32[B,1]
    %tc = tanh %c1 : f32[B,1]
    %h1 = mul %tc, %so : f32[B,1]
    yield carry(h = %h1, c = %c1) emit(y = %h1)
  } : f32[B,1], f32[B,1], f32[T,B,1]
  return y = %y, c = %c
}
"""


def columns(name: str, source: str, start: int, rows: str) -> str:
    return f"  %{name} = slice {source} {{axis = 1, start = {start}, size = 1}} : f32[{rows},1]\n"


LSTM_AFTER = ("""
graph @g(%x: f32[T,B,1], %h0: f32[B,1], %c0: f32[B,1], %w: f32[2,4], %b: f32[4]) {
"""
    + "".join(f"  %x{k} = slice %w {{axis = 0, start = 0, size = 1}} : f32[1,4]\n" + columns(f"w{k}", f"%x{k}", at, "1")
              for k, at in enumerate((3, 0, 2, 1)))
    + "  %wx = concat %w0, %w1, %w2, %w3 {axis = 1} : f32[1,4]\n"
    + "".join(f"  %u{k} = slice %w {{axis = 0, start = 1, size = 1}} : f32[1,4]\n" + columns(f"r{k}", f"%u{k}", at, "1")
              for k, at in enumerate((3, 0, 2, 1)))
    + """  %r = concat %r0, %r1, %r2, %r3 {axis = 1} : f32[1,4]
  %bi = slice %b {axis = 0, start = 3, size = 1} : f32[1]
  %bf = slice %b {axis = 0, start = 0, size = 1} : f32[1]
  %one = const splat(1.0) : f32[1]
  %bf1 = add %bf, %one : f32[1]
  %bg = slice %b {axis = 0, start = 2, size = 1} : f32[1]
  %bo = slice %b {axis = 0, start = 1, size = 1} : f32[1]
  %bw = concat %bi, %bf1, %bg, %bo {axis = 0} : f32[4]
  %br = const splat(0.0) : f32[4]
  %hs = reshape %h0 {shape = [1, B, 1]} : f32[1,B,1]
  %cs = reshape %c0 {shape = [1, B, 1]} : f32[1,B,1]
  %y, %hn, %cn = rnn %x, %hs, %cs, %wx, %r, %bw, %br {mode = lstm, hidden = 1}
    : f32[T,B,1], f32[1,B,1], f32[1,B,1]
  %c = reshape %cn {shape = [B, 1]} : f32[B,1]
  return y = %y, c = %c
}
""")


def test_a_plain_rnn_with_lengths() -> None:
    assert_rewrites(RNN_BEFORE, "raise-rnn", RNN_AFTER, remarks=[
        "applied: raise-rnn: cell: the scan is an RNN (tanh): now an rnn node"])


def test_an_lstm_with_joined_weights_in_another_order() -> None:
    after = assert_rewrites(LSTM_BEFORE, "raise-rnn", LSTM_AFTER)
    assert_same_numbers(LSTM_BEFORE, after, rtol=0, atol=1e-12)


def test_a_scan_that_emits_more_than_h_stays() -> None:
    text = LSTM_BEFORE.replace("emit(y = %h1)", "emit(y = %h1, cs = %c1)").replace(
        "%h, %c, %y = scan", "%h, %c, %y, %cs = scan").replace(
        "f32[B,1], f32[T,B,1]\n", "f32[B,1], f32[T,B,1], f32[T,B,1]\n").replace(
        "return y = %y", "return cs = %cs, y = %y")
    assert_rewrites(text, "raise-rnn", None, remarks=[
        "missed: raise-rnn: output sequence cs is the cell state c of every step; "
        "a fused node gives only the last one"])


def weights(graph: Graph) -> list[str | None]:
    (node,) = (Rnn(op) for op in graph.walk() if op.name == "rnn")
    return [v.op.name if v.op is not None else None for v in node.weights(0, 0)]


def test_weights_in_cudnn_order_are_taken_as_they_are() -> None:
    graph = cell_graph(Variant(mode="lstm"))
    run("raise-rnn", graph)
    assert weights(graph) == ["const"] * 4


@pytest.mark.parametrize("mode", list(GATES))
def test_constant_weights_fold(mode: str) -> None:
    graph = cell_graph(Variant(mode=mode, order=GATES[mode][::-1], layout="slices", bias="two"))
    run("raise-rnn,fold-constants,dce", graph)
    assert weights(graph) == ["const"] * 4


def test_a_projection_becomes_an_operand() -> None:
    before = cell_graph(Variant(mode="lstm", proj=3))
    graph, context = before.clone(), PassContext()
    run("raise-rnn", graph, context)
    assert [str(r) for r in context.remarks] == [
        "applied: raise-rnn: cell: the scan is an LSTM with h projected to 3 features: now an rnn node"]
    assert weights(graph) == ["const"] * 5
    (node,) = (Rnn(op) for op in graph.walk() if op.name == "rnn")
    assert (node.attrs.hidden, node.attrs.proj, str(node.y.type)) == (4, 3, "f32[T,B,3]")
    assert_same_numbers(before, graph, rtol=0, atol=1e-12)


def test_a_projection_by_a_part_of_a_weight() -> None:
    state = TensorType(F32, ("B", 2))
    inputs = {"x": TensorType(F32, ("T", "B", 5)), "h": state, "c": TensorType(F32, ("B", 3)),
              "w": TensorType(F32, (5, 12)), "r": TensorType(F32, (2, 12)), "p": TensorType(F32, (6, 7))}

    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        part = b.slice(b.slice(v["p"], 0, 2, 3), 1, 4, 2)

        def step(s: Builder, state: dict[str, Value],
                 x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
            i, f, g, o = s.split(s.add(s.matmul(x["x"], v["w"]), s.matmul(state["h"], v["r"])), 4)
            c = s.add(s.mul(s.sigmoid(f), state["c"]), s.mul(s.sigmoid(i), s.tanh(g)))
            h = s.matmul(s.mul(s.sigmoid(o), s.tanh(c)), part)
            return {"c": c, "h": h}, {"y": h}  # c comes first

        last, ys = b.scan({"c": v["c"], "h": v["h"]}, {"x": v["x"]}, step)
        return {**last, **ys}

    before = build_graph(inputs, body)
    after = before.clone()
    run("raise-rnn", after)
    assert [op.name for op in after.walk() if op.name in ("scan", "rnn")] == ["rnn"]
    assert_same_numbers(before, after, rtol=0, atol=1e-12)


@pytest.mark.parametrize("flip", [False, True])
def test_the_flipped_update_gate_negates_its_weights(flip: bool) -> None:
    graph = cell_graph(Variant(mode="gru", flip=flip, layout="split"))
    run("raise-rnn", graph)
    assert sum(op.name == "neg" for op in graph.walk()) == (3 if flip else 0)  # W_z, R_z, b_z


def step_graph(xs: dict[str, TensorType], reads: tuple[str, ...]) -> Graph:
    """An RNN whose step reads the sequences ``reads``, each by a matmul with weight w_<name>."""
    state = TensorType(F32, ("B", 3))
    inputs = {**xs, "h": state, "r": TensorType(F32, (3, 3)), **{f"w_{n}": TensorType(F32, (2, 3)) for n in reads}}

    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        def step(s: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
            a = s.matmul(c["h"], v["r"])
            for n in reads:
                a = s.add(a, s.matmul(x[n], v[f"w_{n}"]))
            h = s.tanh(a)
            return {"h": h}, {"first": h, "second": h}

        last, ys = b.scan({"h": v["h"]}, {n: v[n] for n in xs}, step)
        return {**last, **ys}

    return build_graph(inputs, body)


@pytest.mark.parametrize("reads", [(), ("x",), ("x", "z")])
def test_no_one_or_two_sequences_and_h_emitted_twice(reads: tuple[str, ...]) -> None:
    t = TensorType(F32, ("T", "B", 2))
    before = step_graph({"x": t, "z": t}, reads)
    after, context = before.clone(), PassContext()
    run("raise-rnn", after, context)
    (node,) = (Rnn(op) for op in after.walk() if op.name == "rnn")
    assert node.x.shape[2] == {0: 1, 1: 2, 2: 4}[len(reads)]
    assert_same_numbers(before, after, rtol=0, atol=1e-12)


def test_a_negated_part_of_the_input_lands_on_its_rows() -> None:
    state = TensorType(F32, ("B", 3))
    inputs = {"x": TensorType(F32, ("T", "B", 4)), "h": state, "r": TensorType(F32, (3, 3)),
              "w": TensorType(F32, (2, 3)), "v": TensorType(F32, (2, 3)), "u": TensorType(F32, (1, 3))}

    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        def step(s: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
            right = s.matmul(s.mul(s.slice(x["x"], 1, 2, 2), -2.0), v["w"])
            middle = s.matmul(s.slice(x["x"], 1, 1, 2), v["v"])  # overlaps with right
            state_part = s.matmul(s.mul(s.slice(c["h"], 1, 1, 1), 3.0), v["u"])
            h = s.tanh(s.add(s.add(right, s.matmul(c["h"], v["r"])), s.add(middle, state_part)))
            return {"h": h}, {"y": h}

        last, ys = b.scan({"h": v["h"]}, {"x": v["x"]}, step)
        return {**last, **ys}

    before = build_graph(inputs, body)
    after = before.clone()
    run("raise-rnn", after)
    assert [op.name for op in after.walk() if op.name in ("scan", "rnn")] == ["rnn"]
    assert_same_numbers(before, after, rtol=0, atol=1e-12)


def test_a_very_long_step_is_no_cell_and_no_trouble() -> None:
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        def step(s: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
            h = s.add(c["h"], x["x"])
            for _ in range(300):
                h = s.add(s.mul(s.tanh(h), h), s.sub(h, s.sigmoid(h)))
            return {"h": h}, {"y": h}

        return b.scan({"h": v["h"]}, {"x": v["x"]}, step)[1]

    graph = build_graph({"x": TensorType(F32, ("T", "B", 4)), "h": TensorType(F32, ("B", 4))}, body)
    context = PassContext()
    run("raise-rnn", graph, context, verify_each=False)
    assert [r.kind for r in context.remarks] == ["missed"]
