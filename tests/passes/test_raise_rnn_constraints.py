"""raise-rnn: for each constraint a cell that breaks exactly it, with the remark."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rnngraph.ir import BOOL, F32, Builder, Dim, Graph, TensorType, Value, build_graph, ops
from rnngraph.passes import run
from rnngraph.passes.raise_rnn import CONSTRAINTS
from rnngraph.rewrite import PassContext
from tests.testing import canonical_text

H = 4
Values = dict[str, Value]
Step = Callable[[Builder, Values, Values, Values], Values]


def const(b: Builder, *shape: int) -> Value:
    rng = np.random.default_rng(len(b.block.ops))
    return b.const(rng.standard_normal(shape).astype(np.float32))


def dense(b: Builder, x: Value, n: int = H) -> Value:
    width = x.shape[-1]
    assert isinstance(width, int)
    return b.matmul(x, const(b, width, n))


def pre(b: Builder, x: Value, h: Value) -> Value:
    return b.add(dense(b, x), dense(b, h))


def clip(b: Builder, x: Value) -> Value:
    return b.elementwise(ops.MAX, b.elementwise(ops.MIN, x, 1.0), -1.0)


class Lstm:
    """An LSTM step whose parts can be replaced."""

    def __init__(self, *, gate: Callable[[Builder, str, Values], Value] | None = None,
                 sigmoid: Callable[[Builder, str, Value], Value] | None = None,
                 tanh: Callable[[Builder, str, Value], Value] | None = None,
                 state: Callable[[Builder, str, Value], Value] | None = None) -> None:
        self.gate = gate or (lambda b, g, v: pre(b, v["x"], v["h"]))
        self.sigmoid = sigmoid or (lambda b, g, a: b.sigmoid(a))
        self.tanh = tanh or (lambda b, where, a: b.tanh(a))
        self.state = state or (lambda b, name, s: s)

    def __call__(self, b: Builder, state: Values, x: Values, outer: Values) -> Values:
        values = state | x | outer
        i, f, o = (self.sigmoid(b, g, self.gate(b, g, values)) for g in "ifo")
        g = self.tanh(b, "candidate", self.gate(b, "g", values))
        c = self.state(b, "c", b.add(b.mul(f, state["c"]), b.mul(i, g)))
        return {"h": self.state(b, "h", b.mul(o, self.tanh(b, "output", c))), "c": c}


def one_state(update: Callable[[Builder, Value, Value, Values], Value]) -> Step:
    return lambda b, s, x, outer: {"h": update(b, x["x"], s["h"], outer)}


def gru(b: Builder, x: Value, h: Value, reset: Callable[[Value, Value], Value]) -> Value:
    r, z = b.sigmoid(pre(b, x, h)), b.sigmoid(pre(b, x, h))
    n = b.tanh(b.add(dense(b, x), reset(r, h)))
    return b.add(n, b.mul(z, b.sub(h, n)))


def graph(step: Step, *, emit: Callable[[Builder, Values], Values] | None = None, carries: str = "hc",
          shape: tuple[Dim, ...] = ("B", H), x_shape: tuple[Dim, ...] = ("T", "B", H)) -> Graph:
    """One scan of layer "cell" over x; ``row`` is a [B,H] input that the step may capture."""
    def body(b: Builder, v: Values) -> Values:
        with b.named("cell"):
            mask = b.op(ops.RANDOM_MASK, attrs=ops.RandomMaskAttrs(1, 0.5, ("B", H), F32))
            outer = {"row": v["row"], "mask": mask}
            emitted = emit or (lambda s, new: {"y": new["h"]})

            def inner(s: Builder, state: Values, x: Values) -> tuple[Values, Values]:
                new = step(s, state, x, outer)
                return new, emitted(s, new)

            last, ys = b.scan({n: v[n] for n in carries}, {"x": v["x"]}, inner)
        return {**{f"last_{n}": s for n, s in last.items()}, **ys}

    states = {n: TensorType(F32, shape) for n in carries}
    inputs = {"x": TensorType(F32, x_shape), "row": TensorType(F32, ("B", H)), **states}
    return build_graph(inputs, body)


def hidden_last(b: Builder, v: Values) -> Value:
    return b.add(dense(b, v["x"]), dense(b, v["h"]))


def peephole(b: Builder, g: str, v: Values) -> Value:
    a = hidden_last(b, v)
    return b.add(a, b.mul(v["c"], b.broadcast(const(b, H), v["c"].shape))) if g == "i" else a


def peephole_matmul(b: Builder, g: str, v: Values) -> Value:
    return b.add(hidden_last(b, v), dense(b, v["c"])) if g == "f" else hidden_last(b, v)


def normalized(b: Builder, a: Value) -> Value:
    mean = b.expand(b.reshape(b.reduce(ops.REDUCE_MEAN, a, (1,)), ("B", 1)), a.shape)
    d = b.sub(a, mean)
    var = b.reshape(b.reduce(ops.REDUCE_MEAN, b.mul(d, d), (1,)), ("B", 1))
    return b.div(d, b.expand(b.op(ops.SQRT, b.add(var, 1e-3)), a.shape))


def hard_sigmoid(b: Builder, g: str, a: Value) -> Value:
    return clip(b, b.add(b.mul(a, 0.2), 0.5))


def own_weights(b: Builder, g: str, v: Values) -> Value:
    t = b.matmul(v["h"], const(b, H, H))
    scale = b.broadcast(b.reduce(ops.REDUCE_SUM, t, (0, 1)), (H, H), ())
    return b.add(dense(b, v["x"]), b.matmul(v["h"], b.mul(const(b, H, H), scale)))


def tied(b: Builder, s: Values, x: Values, outer: Values) -> Values:
    f, o = b.sigmoid(pre(b, x["x"], s["h"])), b.sigmoid(pre(b, x["x"], s["h"]))
    g = b.tanh(pre(b, x["x"], s["h"]))
    c = b.add(b.mul(f, s["c"]), b.mul(b.sub(1.0, f), g))
    return {"h": b.mul(o, b.tanh(c)), "c": c}


def minimal_gated(b: Builder, x: Value, h: Value, outer: Values) -> Value:
    f = b.sigmoid(pre(b, x, h))
    n = b.tanh(b.add(dense(b, x), dense(b, b.mul(f, h))))
    return b.add(n, b.mul(f, b.sub(h, n)))


def dropout_gru(after: bool) -> Callable[[Builder, Value, Value, Values], Value]:
    def step(b: Builder, x: Value, h: Value, outer: Values) -> Value:
        masked = b.mul(outer["mask"], h)
        r, z = b.sigmoid(pre(b, x, masked)), b.sigmoid(pre(b, x, masked))
        gated = b.mul(r, dense(b, masked)) if after else dense(b, b.mul(r, masked))
        return b.add(b.mul(z, h), b.mul(b.sub(1.0, z), b.tanh(b.add(dense(b, x), gated))))

    return step


def half_reset(b: Builder, x: Value, h: Value, outer: Values) -> Value:
    """A GRU whose reset gate uses only half of its columns."""
    r, z = b.sigmoid(pre(b, x, h)), b.sigmoid(pre(b, x, h))
    part = b.mul(b.slice(r, 1, 2, 2), b.slice(h, 1, 0, 2))
    n = b.tanh(b.add(dense(b, x), dense(b, part)))
    return b.add(n, b.mul(z, b.sub(h, n)))


def masked() -> Graph:
    """An LSTM that a third state, the last output, makes none either: the mask is the better reason."""
    inputs = {"x": TensorType(F32, ("T", "B", H)), "m": TensorType(BOOL, ("T", "B")),
              **{n: TensorType(F32, ("B", H)) for n in ("h", "c", "y")}}

    def body(b: Builder, v: Values) -> Values:
        def step(s: Builder, state: Values, x: Values) -> tuple[Values, Values]:
            new = Lstm()(s, state, x, {})
            keep = s.broadcast(x["m"], ("B", H), (0,))
            new = {n: s.op(ops.SELECT, keep, t, state[n]) for n, t in {**new, "y": new["h"]}.items()}
            return new, {"y": new["y"]}

        with b.named("cell"):
            _, ys = b.scan({n: v[n] for n in "hcy"}, {"x": v["x"], "m": v["m"]}, step)
        return ys

    return build_graph(inputs, body)


def halting() -> Graph:
    """An RNN whose rows end when the carry says so."""
    def body(b: Builder, v: Values) -> Values:
        with b.named("cell"):
            def inner(s: Builder, state: Values, x: Values) -> tuple[Values, Values]:
                return {"h": s.tanh(s.add(dense(s, x["x"]), dense(s, state["h"]))), "done": state["done"]}, {}

            last, _ = b.scan({"h": v["h"], "done": v["done"]}, {"x": v["x"]}, inner, until="done")
        return {"h": last["h"]}

    return build_graph({"x": TensorType(F32, ("T", "B", H)), "h": TensorType(F32, ("B", H)),
                        "done": TensorType(F32, ("B", 1))}, body)


CASES: list[tuple[str, Graph, str]] = [
    ("mask", masked(), "the mask %m leaves steps out: cuDNN-style nodes take lengths, no mask; give lengths= where "
     "only the ends of rows are padding"),
    ("until", halting(), "the loop ends when %done says so for every row; a fused node runs all its steps"),
    ("states", graph(lambda b, s, x, o: {**Lstm()(b, s, x, o), "n": b.add(s["n"], 1.0)}, carries="hcn"),
     "the step carries 3 states (h, c, n); a fused node has h, or h and c"),
    ("state-shape", graph(one_state(lambda b, x, h, o: b.tanh(b.add(x, h))), carries="h", shape=("B", 2, H),
                          x_shape=("T", "B", 2, H)),
     "state h is f32[B,2,4]; a fused node's states are [batch, units]"),
    ("emits", graph(Lstm(), emit=lambda b, new: {"y": b.mul(new["h"], new["c"])}),
     "output sequence y is not the new state h, which is all that a fused node gives for each step"),
    ("emits-cell", graph(Lstm(), emit=lambda b, new: {"y": new["h"], "cs": new["c"]}),
     "output sequence cs is the cell state c of every step; a fused node gives only the last one"),
    ("activation", graph(Lstm(tanh=lambda b, w, a: b.op(ops.RELU, a))),
     "the activation of the output is relu, cuDNN-style nodes need tanh"),
    ("activation", graph(Lstm(tanh=lambda b, w, a: b.op(ops.RELU, a) if w == "candidate" else b.tanh(a))),
     "the activation of candidate g is relu, cuDNN-style nodes need tanh"),
    ("activation", graph(Lstm(tanh=lambda b, w, a: b.sigmoid(a) if w == "candidate" else b.tanh(a))),
     "the activation of candidate g is sigmoid, cuDNN-style nodes need tanh"),
    ("activation", graph(one_state(lambda b, x, h, o: b.sigmoid(pre(b, x, h))), carries="h"),
     "the activation of the state h is sigmoid, cuDNN-style nodes need tanh or relu"),
    ("gate-activation", graph(Lstm(sigmoid=hard_sigmoid)),
     "the activation of gate o is hard_sigmoid-like (clip), cuDNN-style nodes need sigmoid"),
    ("gate-activation", graph(Lstm(sigmoid=lambda b, g, a: b.op(ops.RELU, a) if g == "f" else b.sigmoid(a))),
     "the activation of gate f is relu, cuDNN-style nodes need sigmoid"),
    ("clip", graph(Lstm(state=lambda b, name, s: clip(b, s) if name == "c" else s)),
     "state c is clipped (min, max); a fused node's states are not"),
    ("clip", graph(one_state(lambda b, x, h, o: clip(b, gru(b, x, h, lambda r, h: dense(b, b.mul(r, h))))),
                   carries="h"),
     "state h is clipped (min, max); a fused node's states are not"),
    ("gate-clip", graph(Lstm(gate=lambda b, g, v: clip(b, hidden_last(b, v)))),
     "the sum of gate i is clipped (min, max) before its activation"),
    ("gate-clip", graph(one_state(lambda b, x, h, o: b.tanh(clip(b, pre(b, x, h)))), carries="h"),
     "the sum of gate h is clipped (min, max) before its activation"),
    ("clip", graph(Lstm(state=lambda b, name, s: clip(b, dense(b, s)) if name == "h" else s)),
     "state h is clipped (min, max); a fused node's states are not"),
    ("projection", graph(Lstm(state=lambda b, name, s: b.add(dense(b, s), 1.0) if name == "h" else s)),
     "the projection of o * tanh(c) is one term of h besides others (a bias, a residual); a fused node's h is one "
     "matmul of it"),
    ("projection", graph(Lstm(state=lambda b, name, s: b.add(dense(b, s), s) if name == "h" else s)),
     "the projection of o * tanh(c) is one term of h besides others (a bias, a residual); a fused node's h is one "
     "matmul of it"),
    ("projection", graph(Lstm(state=lambda b, name, s: b.add(dense(b, s), dense(b, s)) if name == "h" else s)),
     "the projection of o * tanh(c) is several matmuls, or one of a part of the columns; a fused node's h is one "
     "matmul of it"),
    ("projection", graph(Lstm(state=lambda b, name, s: dense(b, b.slice(s, 1, 0, 2)) if name == "h" else s)),
     "the projection of o * tanh(c) is several matmuls, or one of a part of the columns; a fused node's h is one "
     "matmul of it"),
    ("activation", graph(Lstm(tanh=lambda b, w, a: b.op(ops.RELU, a) if w == "output" else b.tanh(a),
                              state=lambda b, name, s: dense(b, s) if name == "h" else s)),
     "the activation of the output is relu, cuDNN-style nodes need tanh"),
    ("gate-activation", graph(Lstm(state=lambda b, name, s: b.mul(s, 0.5) if name == "h" else s)),
     "the activation of gate o is not a plain function of its pre-activation, cuDNN-style nodes need sigmoid"),
    ("update", graph(Lstm(state=lambda b, name, s: b.add(s, 0.5) if name == "h" else s)),
     "the new state h is not o * tanh(c), with c the new cell state"),
    ("update", graph(lambda b, s, x, o: {"h": s["c"], "c": b.tanh(pre(b, x["x"], s["h"]))}),
     "the new state h is not o * tanh(c), with c the new cell state"),
    ("update", graph(one_state(lambda b, x, h, o: b.mul(b.tanh(pre(b, x, h)), 0.5)), carries="h"),
     "the new state h is not (1-z) * n + z * h with n = tanh(..), nor tanh(..) or relu(..) alone"),
    ("peephole", graph(Lstm(gate=peephole)), "peephole: gate i reads the cell state c"),
    ("peephole", graph(Lstm(gate=peephole_matmul)), "peephole: gate f reads the cell state c"),
    ("recurrent-dropout", graph(Lstm(gate=lambda b, g, v: pre(b, v["x"], b.mul(v["h"], v["mask"])))),
     "recurrent dropout multiplies the state h before the recurrent matmul of gate i"),
    *(("recurrent-dropout", graph(one_state(dropout_gru(after)), carries="h"),
       "recurrent dropout multiplies the state h before the recurrent matmul of gate n") for after in (True, False)),
    ("input-dropout", graph(Lstm(gate=lambda b, g, v: pre(b, b.mul(v["x"], v["mask"]), v["h"]))),
     "x is multiplied by a mask in the step, before the input matmul of gate i"),
    ("layer-norm", graph(Lstm(gate=lambda b, g, v: normalized(b, hidden_last(b, v)))),
     "gate i is normalized over the features in the step (layer normalization)"),
    ("layer-norm", graph(Lstm(tanh=lambda b, w, a: b.tanh(normalized(b, a) if w == "output" else a))),
     "state h is normalized over the features in the step (layer normalization)"),
    ("step-weights", graph(Lstm(gate=own_weights)), "a weight of gate i is computed anew in every step"),
    ("bare-input", graph(Lstm(gate=lambda b, g, v: b.add(v["x"], dense(b, v["h"])))),
     "x is added to gate i without a matmul: its producer outside the scan is not a visible x @ W (+ b)"),
    ("elementwise-state", graph(one_state(lambda b, x, h, o: b.tanh(
        b.add(dense(b, x), b.mul(h, b.broadcast(const(b, H), h.shape))))), carries="h"),
     "the state h enters gate h element by element, without a matmul"),
    ("row-bias", graph(Lstm(gate=lambda b, g, v: b.add(hidden_last(b, v), v["row"]))),
     "gate i adds a value f32[B,4] that differs from row to row of the batch; a bias is one vector"),
    ("row-bias", graph(Lstm(gate=lambda b, g, v: b.add(hidden_last(b, v), dense(b, v["row"])))),
     "gate i adds a value f32[B,4] that differs from row to row of the batch; a bias is one vector"),
    ("operand", graph(Lstm(gate=lambda b, g, v: pre(b, b.tanh(v["x"]), v["h"]))),
     "a matmul of gate i reads a tanh, neither x nor h"),
    ("term", graph(Lstm(gate=lambda b, g, v: b.op(ops.EXP, hidden_last(b, v)))),
     "gate i holds a term of a exp that is neither a matmul of x or h nor a bias"),
    ("term", graph(one_state(half_reset), carries="h"),
     "gate r holds a term of some of the columns that is neither a matmul of x or h nor a bias"),
    ("reset", graph(one_state(lambda b, x, h, o: gru(b, x, h, lambda r, h: dense(b, h))), carries="h"),
     "candidate n has no reset gate on h"),
    ("tied-gates", graph(tied), "gates i and f are one gate; a fused node would compute it twice"),
    ("tied-gates", graph(one_state(minimal_gated), carries="h"),
     "gates r and z are one gate; a fused node would compute it twice"),
    ("input-shape", graph(one_state(lambda b, x, h, o: b.tanh(b.add(
        dense(b, b.broadcast(x, h.shape)), dense(b, h)))), carries="h", x_shape=("T", H)),
     "the sequence under gate h is f32[T,4]; a fused node reads [time, batch, features]"),
]


@pytest.mark.parametrize(("constraint", "before", "reason"), CASES, ids=[f"{c}-{k}" for k, (c, *_) in enumerate(CASES)])
def test_a_cell_that_breaks_a_constraint_stays_a_scan(constraint: str, before: Graph, reason: str) -> None:
    graph_, context = before.clone(), PassContext()
    run("raise-rnn", graph_, context)
    assert [str(r) for r in context.remarks] == [f"missed: raise-rnn: cell: {reason}"]
    assert canonical_text(graph_) == canonical_text(before)


def test_every_constraint_is_tested() -> None:
    assert {c.name for c in CONSTRAINTS} == {name for name, *_ in CASES}
