"""scan and rnn: what they mean, against loops written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from rnngraph.compiler import compile as compile_graph
from rnngraph.errors import InputError, ParseError
from rnngraph.ir import Array, Graph, evaluate, expand_rnn, parse, resolve, to_text, verify
from rnngraph.ir.builder import Builder
from tests.testing import assert_same_numbers

TEXT = """graph @g(%x: f32[T,B,2], %h0: f32[B,2], %n: i32[B]) {{
  %h, %y = scan carry(h = %h0) over(x = %x) {lengths} {{steps = T, reverse = {reverse}, pad = {pad}}} {{
  ^(%hh: f32[B,2], %xt: f32[B,2]):
    %a = add %hh, %xt : f32[B,2]
    %b = mul %a, %hh : f32[B,2]
    yield carry(h = %a) emit(y = %b)
  }} : f32[B,2], f32[T,B,2]
  return h = %h, y = %y
}}"""


def loop(x: Array, h: Array, lengths: Array | None, reverse: bool, pad: str) -> tuple[Array, Array]:
    """Row by row, step by step: the definition, written another way."""
    y, final = np.zeros_like(x), h.copy()
    for row in range(x.shape[1]):
        end = len(x) if lengths is None else lengths[row]
        state, last = h[row], np.zeros(2, x.dtype)
        for t in (reversed(range(len(x))) if reverse else range(len(x))):
            if t < end:
                new = state + x[t, row]
                last = new * state
                state = new
                y[t, row] = last
            elif pad == "repeat":
                y[t, row] = last
        final[row] = state
    return final, y


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("pad", ["zero", "repeat"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_scan(steps: int, pad: str, reverse: bool, masked: bool) -> None:
    rng = np.random.default_rng(steps)
    x, h = rng.standard_normal((steps, 4, 2)).astype(np.float32), rng.standard_normal((4, 2)).astype(np.float32)
    n = np.array([0, steps, steps // 2, max(0, steps - 1)], np.int32)
    graph = parse(TEXT.format(lengths="lengths(%n)" if masked else "", reverse=str(reverse).lower(), pad=pad))
    got = evaluate(graph, {"x": x, "h0": h, "n": n})
    final, y = loop(x, h, n if masked else None, reverse, pad)
    np.testing.assert_allclose(got["h"], final, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got["y"], y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bad", [-1, 4])
def test_lengths_are_checked(bad: int) -> None:
    graph = parse(TEXT.format(lengths="lengths(%n)", reverse="false", pad="zero"))
    x, h = np.zeros((3, 2, 2), np.float32), np.zeros((2, 2), np.float32)
    with pytest.raises(InputError, match=r"lengths must be in 0..3 \(the number of steps\)"):
        evaluate(graph, {"x": x, "h0": h, "n": np.array([1, bad], np.int32)})


def test_with_lengths_every_carry_needs_the_batch() -> None:
    text = TEXT.format(lengths="lengths(%n)", reverse="false", pad="zero").replace("f32[B,2]", "f32[C,2]").replace(
        "f32[T,B,2]", "f32[T,C,2]")
    with pytest.raises(ParseError, match="with lengths, h must have the batch B as its first dim"):
        parse(text)



def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def cell(mode: str, x: Array, h: Array, c: Array, w: list[Array], after: bool) -> tuple[Array, Array]:
    """One step, by the equations of cuDNN's manual; a fifth weight projects h."""
    wx, r, bw, br = w[:4]
    if mode == "lstm":
        i, f, g, o = np.split(x @ wx + bw + h @ r + br, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return h @ w[4] if len(w) == 5 else h, c
    if mode == "gru":
        size = h.shape[-1]
        xr, xz, xn = np.split(x @ wx + bw, 3, -1)
        hr, hz, hn = np.split(h @ r + br, 3, -1)
        reset, z = sigmoid(xr + hr), sigmoid(xz + hz)
        inner = reset * hn if after else (reset * h) @ r[:, 2 * size:] + br[2 * size:]
        return (1 - z) * np.tanh(xn + inner) + z * h, c
    pre = x @ wx + bw + h @ r + br
    return (np.tanh(pre) if mode == "rnn_tanh" else np.maximum(pre, 0)), c


def rnn_text(mode: str, layers: int, direction: str, after: bool, masked: bool, proj: int = 0) -> str:
    gates = {"lstm": 4, "gru": 3}.get(mode, 1)
    d = 2 if direction == "bidirectional" else 1
    weights, size = [], proj or 2
    for layer in range(layers):
        for k in range(d):
            rows = 3 if layer == 0 else size * d
            weights += [(f"w{layer}{k}", f"f32[{rows},{gates * 2}]"), (f"r{layer}{k}", f"f32[{size},{gates * 2}]"),
                        (f"bw{layer}{k}", f"f32[{gates * 2}]"), (f"br{layer}{k}", f"f32[{gates * 2}]"),
                        *([(f"p{layer}{k}", f"f32[2,{proj}]")] if proj else [])]
    state, cells = f"f32[{layers * d},B,{size}]", [f"f32[{layers * d},B,2]"] if mode == "lstm" else []
    inputs = [("x", "f32[T,B,3]"), ("h0", state), *(("c0", t) for t in cells),
              *([("n", "i32[B]")] if masked else []), *weights]
    results = ["y", "h", *(["c"] if mode == "lstm" else [])]
    types = [f"f32[T,B,{size * d}]", state, *cells]
    return (f"graph @g({', '.join(f'%{n}: {t}' for n, t in inputs)}) {{ "
            f"{', '.join('%' + r for r in results)} = rnn {', '.join('%' + n for n, _ in inputs)} "
            f"{{mode = {mode}, hidden = 2, num_layers = {layers}, direction = {direction}, "
            f"reset_after = {str(after).lower()}, lengths = {str(masked).lower()}, proj = {proj}}} "
            f": {', '.join(types)}  return {', '.join(f'{r} = %{r}' for r in results)} }}")


def unrolled(inputs: dict[str, Array], mode: str, layers: int, direction: str, after: bool) -> dict[str, Array]:
    x, lengths = inputs["x"], inputs.get("n")
    d = 2 if direction == "bidirectional" else 1
    finals: list[tuple[Array, Array]] = []
    for layer in range(layers):
        outputs = []
        for k in range(d):
            h, c = inputs["h0"][layer * d + k].copy(), inputs.get("c0", inputs["h0"])[layer * d + k].copy()
            w = [inputs[f"{n}{layer}{k}"] for n in ("w", "r", "bw", "br", "p") if f"{n}{layer}{k}" in inputs]
            y = np.zeros((*x.shape[:2], h.shape[-1]))
            for t in (reversed(range(len(x))) if k == 1 or direction == "reverse" else range(len(x))):
                on = (np.ones(x.shape[1], bool) if lengths is None else t < lengths)[:, None]
                new_h, new_c = cell(mode, x[t], h, c, w, after)
                h, c = np.where(on, new_h, h), np.where(on, new_c, c)
                y[t] = np.where(on, new_h, 0)
            outputs.append(y)
            finals.append((h, c))
        x = np.concatenate(outputs, -1)
    out = {"y": x, "h": np.stack([h for h, _ in finals])}
    return out | ({"c": np.stack([c for _, c in finals])} if mode == "lstm" else {})


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("layers", "direction"), [(1, "forward"), (1, "reverse"), (2, "bidirectional")])
@pytest.mark.parametrize(("mode", "after", "proj"), [
    ("lstm", True, 0), ("lstm", True, 1), ("lstm", True, 5), ("gru", True, 0), ("gru", False, 0),
    ("rnn_tanh", True, 0), ("rnn_relu", True, 0)])
def test_rnn(mode: str, after: bool, proj: int, layers: int, direction: str, masked: bool) -> None:
    graph = parse(rnn_text(mode, layers, direction, after, masked, proj))
    rng = np.random.default_rng(7)
    dims = {"T": 4, "B": 3}
    inputs: dict[str, Array] = {n: rng.standard_normal(resolve(v.shape, dims))
                                for n, v in zip(graph.input_names, graph.inputs, strict=True)}
    if masked:
        inputs["n"] = np.array([4, 0, 2], np.int32)
    got = evaluate(graph, inputs, float64=True)
    for name, want in unrolled(inputs, mode, layers, direction, after).items():
        np.testing.assert_allclose(got[name], want, rtol=1e-9, atol=1e-9, err_msg=name)
    assert to_text(parse(to_text(graph))) == to_text(graph)


def test_the_expansion_is_the_definition() -> None:
    text = rnn_text("lstm", 2, "bidirectional", True, True)
    graph: Graph = parse(text)
    op = graph.block.ops[0]
    for old, new in zip(op.results, expand_rnn(Builder.at(op), op), strict=True):
        old.replace_by(new)
    op.erase()
    verify(graph)
    assert_same_numbers(text, graph, rtol=0, atol=0)


RNN_FAULTS = [
    ("hidden = 2", "hidden = 3", "rnn: h0 must be f32[1,B,3], got f32[1,B,2]"),
    ("mode = gru", "mode = gruu", "rnn: bad attributes"),
    ("direction = forward", "direction = sideways", "rnn: bad attributes"),
    ("num_layers = 1", "num_layers = 2", "rnn: expected 10 operands"),
    ("%w00: f32[3,6]", "%w00: f32[4,6]", "rnn: W of layer 0 direction 0 must be f32[3,6], got f32[4,6]"),
    ("%br00: f32[6]", "%br00: f32[7]", "rnn: bR of layer 0 direction 0 must be f32[6], got f32[7]"),
    ("%x: f32[T,B,3]", "%x: f32[T,3]", "rnn: x must be [T,B,I] of floats, got f32[T,3]"),
    ("proj = 0", "proj = 1", "rnn: proj is the size of an LSTM's projected h, or 0; got 1 in mode gru"),
]
PROJECTED_FAULTS = [
    ("proj = 1", "proj = 0", "rnn: expected 7 operands (x, h0, c0 and 4 weights), got 8"),
    ("proj = 1", "proj = -1", "rnn: proj is the size of an LSTM's projected h, or 0; got -1 in mode lstm"),
    ("proj = 1", "proj = 3", "rnn: h0 must be f32[1,B,3], got f32[1,B,1]"),
    ("%h0: f32[1,B,1]", "%h0: f32[1,B,2]", "rnn: h0 must be f32[1,B,1], got f32[1,B,2]"),
    ("%r00: f32[1,8]", "%r00: f32[2,8]", "rnn: R of layer 0 direction 0 must be f32[1,8], got f32[2,8]"),
    ("%p00: f32[2,1]", "%p00: f32[1,2]", "rnn: P of layer 0 direction 0 must be f32[2,1], got f32[1,2]"),
]


@pytest.mark.parametrize(("old", "new", "message"), RNN_FAULTS)
def test_rnn_typing(old: str, new: str, message: str) -> None:
    text = rnn_text("gru", 1, "forward", True, False)
    assert old in text
    with pytest.raises(ParseError) as caught:
        parse(text.replace(old, new))
    assert message in str(caught.value)


@pytest.mark.parametrize(("old", "new", "message"), PROJECTED_FAULTS)
def test_typing_of_a_projection(old: str, new: str, message: str) -> None:
    text = rnn_text("lstm", 1, "forward", True, False, proj=1)
    assert old in text
    with pytest.raises(ParseError) as caught:
        parse(text.replace(old, new))
    assert message in str(caught.value)


def test_the_cost_counts_the_projection() -> None:
    (plain, projected) = (parse(rnn_text("lstm", 1, "forward", True, False, p)).block.ops[0] for p in (0, 5))
    flops = [op.opdef.cost(op, {"T": 4, "B": 3}).flops for op in (plain, projected)]
    assert flops[1] - flops[0] == 4 * 3 * 2 * (3 * 8 + 2 * 5)  # R has 3 rows more, and P


HALTING = """graph @g(%x: f32[T,3], %bound: f32[]) {{
  %zero = const splat(0.0) : f32[]
  %none = const splat(0) : i32[]
  %h0 = const [0.0, 0.0, 0.0] : f32[3]
  %h, %n, %done, %y = scan carry(h = %h0, n = %none, done = %zero) over(x = %x)
    {{steps = T, reverse = {reverse}, pad = {pad}, until = done}} {{
  ^(%hh: f32[3], %nn: i32[], %dd: f32[], %xt: f32[3]):
    %a = add %hh, %xt : f32[3]
    %one = const splat(1) : i32[]
    %m = add %nn, %one : i32[]
    %s = reduce_sum %a {{axes = [0]}} : f32[]
    %over = gt %s, %bound : bool[]
    %d = cast %over {{dtype = f32}} : f32[]
    yield carry(h = %a, n = %m, done = %d) emit(y = %a)
  }} : f32[3], i32[], f32[], f32[T,3]
  return h = %h, n = %n, y = %y
}}"""


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("pad", ["zero", "repeat"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scalar_condition_ends_the_whole_loop(steps: int, pad: str, reverse: bool) -> None:
    graph = parse(HALTING.format(reverse=str(reverse).lower(), pad=pad))
    assert parse(to_text(graph)).to_text() == to_text(graph)
    verify(graph)
    compiled = compile_graph(graph)
    x = np.abs(np.random.default_rng(1).standard_normal((steps, 3))).astype(np.float32)
    for bound in (-1.0, 4.0, 1e9):
        h, n, y = np.zeros(3, np.float32), 0, np.zeros_like(x)
        over, last = False, np.zeros(3, np.float32)
        for t in (reversed(range(steps)) if reverse else range(steps)):
            if not over:
                h, n = h + x[t], n + 1
                over, last = h.sum() > bound, h
                y[t] = last
            elif pad == "repeat":
                y[t] = last
        inputs = {"x": x, "bound": np.array(bound, np.float32)}
        for got in (evaluate(graph, inputs), dict(zip("hny", compiled(*inputs.values()), strict=True))):
            np.testing.assert_allclose(got["h"], h, rtol=1e-6)
            assert got["n"] == n
            np.testing.assert_allclose(got["y"], y, rtol=1e-6)


def test_scalar_conditions_and_lengths_do_not_mix() -> None:
    text = HALTING.format(reverse="false", pad="zero").replace("over(x = %x)", "over(x = %x) lengths(%ln)")
    with pytest.raises(ParseError, match="with lengths, h must have the batch B as its first dim"):
        parse(text.replace("%bound: f32[])", "%bound: f32[], %ln: i32[B])"))
