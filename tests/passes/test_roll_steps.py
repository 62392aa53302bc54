"""roll-steps: copies of a step become a scan, also when the first was simplified, and never when copies differ."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.ir import F32, Builder, Graph, TensorType, Value, build_graph, parse
from rnngraph.passes import run
from rnngraph.rewrite import PassContext
from tests.passes.unrolling import unrolled
from tests.phases.random_cells import RandomCell
from tests.testing import assert_rewrites, assert_same_numbers

RAISE = "canonicalize,fold-constants,cse,dce,roll-steps,hoist-invariant,raise-rnn,merge-bidirectional,merge-stacked"
TIDY = "canonicalize,fold-constants,cse,dce"


def kinds(graph: Graph) -> list[str]:
    return [op.name for op in graph.walk() if op.name in ("scan", "rnn")]


def raised(layer: nn.Layer, *shape: int | str, fold: bool = True) -> tuple[Graph, list[str]]:
    """The layer unrolled, rolled and raised; the numbers are those of the unrolled graph."""
    graph = rg.trace(layer, rg.Input(shape))
    run(TIDY, graph)
    before = unrolled(graph, fold=fold)
    assert kinds(before) == []
    after, context = before.clone(), PassContext()
    run(RAISE, after, context)
    assert_same_numbers(before, after, rtol=1e-9, atol=1e-10)
    return after, [str(r) for r in context.remarks if r.pass_name == "roll-steps"]


@pytest.mark.parametrize("batch", [3, "batch"])
@pytest.mark.parametrize("steps", [2, 3, 5])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.SimpleRNN])
def test_layers(cell: Callable[..., nn.Layer], steps: int, batch: int | str) -> None:
    for sequences in (False, True):
        for fold in (True, False):
            graph, remarks = raised(cell(6, return_sequences=sequences), batch, steps, 4, fold=fold)
            assert kinds(graph) == ["rnn"]
            assert len(remarks) == 1
            assert f"{steps} copies of one step" in remarks[0]


def test_bidirectional_and_stacked_layers_merge() -> None:
    graph, _ = raised(nn.Bidirectional(nn.LSTM(5, return_sequences=True)), 2, 4, 3)
    assert kinds(graph) == ["rnn"]
    graph, _ = raised(nn.Sequential([nn.GRU(5, return_sequences=True), nn.GRU(5)]), 2, 4, 3)
    assert kinds(graph) == ["rnn"]
    assert 'num_layers = 2' in graph.to_text()


def test_a_dense_layer_of_each_step_is_applied_to_the_sequence() -> None:
    model = nn.Sequential([nn.LSTM(5, return_sequences=True), nn.TimeDistributed(nn.Dense(3, activation="relu"))])
    graph, _ = raised(model, 2, 4, 3)
    assert kinds(graph) == ["rnn"]
    assert sum(op.name == "relu" for op in graph.walk()) == 1


# --- graphs made step by step --------------------------------------------------------------------------------------


def cell(b: Builder, x: Value, h: Value, w: Value, u: Value) -> Value:
    return b.tanh(b.add(b.matmul(x, w), b.matmul(h, u)))


def weights(b: Builder, seed: int = 0) -> tuple[Value, Value]:
    rng = np.random.default_rng(seed)
    w, u = rng.uniform(-1, 1, (3, 4)), rng.uniform(-1, 1, (4, 4))
    return b.const(w.astype(np.float32)), b.const(u.astype(np.float32))


X, H = TensorType(F32, (2, 6, 3)), TensorType(F32, (2, 4))


def step_of(b: Builder, x: Value, t: int) -> Value:
    return b.reshape(b.slice(x, 1, t, 1), (2, 3))


def rolled(graph: Graph) -> tuple[Graph, list[str]]:
    run(TIDY, graph)
    after, context = graph.clone(), PassContext()
    run("roll-steps", after, context)
    assert_same_numbers(graph, after, rtol=1e-9, atol=1e-10)
    return after, [str(r) for r in context.remarks]


def test_text() -> None:
    steps = "\n".join(f"""
        %s{t} = slice %x {{axis = 1, start = {t}, size = 1, step = 1}} : f32[B,1,4]
        %x{t} = reshape %s{t} {{shape = [B, 4]}} : f32[B,4]
        %a{t} = add %x{t}, %h{t} : f32[B,4]
        %h{t + 1} = tanh %a{t} : f32[B,4]""" for t in range(3))
    assert_rewrites(f"graph @g(%x: f32[B,3,4], %h0: f32[B,4]) {{ {steps} return y = %h3 }}", "roll-steps", """
        graph @g(%x: f32[B,3,4], %h0: f32[B,4]) {
          %xt = transpose %x {perm = [1, 0, 2]} : f32[3,B,4]
          %last = scan carry(h = %h0) over(x = %xt) {steps = 3} {
          ^(%h: f32[B,4], %x_1: f32[B,4]):
            %a = add %x_1, %h : f32[B,4]
            %n = tanh %a : f32[B,4]
            yield carry(h = %n) emit()
          } : f32[B,4]
          return y = %last
        }""", remarks=["applied: roll-steps: 3 copies of one step with 1 state: now a scan"])


def test_an_input_for_each_step_and_a_state_from_outside() -> None:
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        w, u = weights(b)
        h, ys = v["h"], []
        for t in range(4):
            h = cell(b, b.mul(v[f"x{t}"], v["k"]), h, w, u)
            ys.append(h)
        return {"y": b.concat(ys, 1), "h": h}

    inputs = {f"x{t}": TensorType(F32, (2, 3)) for t in range(4)}
    graph, _ = rolled(build_graph({**inputs, "k": TensorType(F32, (2, 3)), "h": H}, body))
    assert kinds(graph) == ["scan"]
    assert sum(op.name == "tanh" for op in graph.walk()) == 1


@pytest.mark.parametrize("mask", ["select", "product"])
def test_masks_of_single_steps(mask: str) -> None:
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        w, u = weights(b)
        h = v["h"]
        for t in range(6):
            new = cell(b, step_of(b, v["x"], t), h, w, u)
            m = b.broadcast(b.reshape(b.slice(v["m"], 1, t, 1), (2,)), (2, 4), (0,))
            if mask == "select":
                h = b.op(rg.ir.OPS["select"], b.op(rg.ir.OPS["gt"], m, b.full(0.0, (2, 4))), new, h)
            else:
                h = b.add(b.mul(m, new), b.mul(b.sub(b.full(1.0, (2, 4)), m), h))
        return {"h": h}

    graph, _ = rolled(build_graph({"x": X, "m": TensorType(F32, (2, 6)), "h": H}, body))
    assert kinds(graph) == ["scan"]


def test_every_second_step_backwards() -> None:
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        w, u = weights(b)
        h = v["h"]
        for t in (5, 3, 1):
            h = cell(b, step_of(b, v["x"], t), h, w, u)
        return {"h": h}

    graph, _ = rolled(build_graph({"x": X, "h": H}, body))
    assert kinds(graph) == ["scan"]
    assert "reverse = true" in graph.to_text()


@pytest.mark.parametrize(("change", "reason"), [
    ("input weight", "a constant f32[3,4] has other values"),
    ("recurrent weight", "a constant f32[4,4] has other values"),
    ("factor", "a constant f32[] has other values"),
    ("order", "do not read the steps of their sequence one after another"),
    ("state", "reads a state of a copy before the last one"),
    ("activation", None),
])
def test_copies_that_differ_stay(change: str, reason: str | None) -> None:
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        w, u = weights(b)
        other_w, other_u = weights(b, 1)
        states = [v["h"]]
        for t in range(6):
            here = t == 3
            x = step_of(b, v["x"], {3: 4, 4: 3}.get(t, t) if change == "order" else t)
            h = states[max(t - 2, 0)] if change == "state" and here else states[-1]
            a = b.add(b.matmul(x, other_w if change == "input weight" and here else w),
                      b.matmul(h, other_u if change == "recurrent weight" and here else u))
            a = b.add(a, b.mul(states[-1], 0.25 if change == "factor" and here else 0.5))
            states.append(b.sigmoid(a) if change == "activation" and here else b.tanh(a))
        return {"h": states[-1]}

    graph, remarks = rolled(build_graph({"x": X, "h": H}, body))
    assert kinds(graph) == []
    if reason is not None:
        assert any(r.startswith("missed: roll-steps:") and reason in r for r in remarks), remarks


def test_layers_in_a_row_are_no_recurrence() -> None:
    """Not even with one weight: they read no sequence and give none."""
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        _, u = weights(b)
        h = v["h"]
        for _ in range(6):
            h = b.tanh(b.matmul(h, u))
        return {"h": h}

    graph, remarks = rolled(build_graph({"h": H}, body))
    assert kinds(graph) == []
    assert remarks == []


# --- random cells, and long graphs ---------------------------------------------------------------------------------


class RecurrentCell(RandomCell):
    """A random cell in which every state depends on itself and on x."""

    def next_state(self, b: Builder, pool: list[Value], old: Value) -> Value:
        n = old.shape[1]
        assert isinstance(n, int)
        x = next(v for v in pool if v.op is None and v.hint.startswith("x"))
        new = b.add(super().next_state(b, pool, old), self.weigh(b, old, n))
        return b.tanh(b.add(new, self.weigh(b, x, n)))


def depth(graph: Graph) -> int:
    """Ops on the longest path; a recurrence that stayed unrolled makes it grow with the number of steps."""
    found: dict[object, int] = {}
    for op in graph.block.body:
        reads = [*op.operands, *(v for b in op.blocks for v in b.captures())]
        found[op] = 1 + max((found.get(v.op, 0) for v in reads), default=0)
    return max(found.values())


@pytest.mark.parametrize("first", [0, 20, 40, 60, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_cells_are_rolled_and_mean_the_same(first: int) -> None:
    count, apart = 0, []
    for seed in range(first, first + (20 if first < 1000 else 400)):
        graph = RecurrentCell(Random(seed), 6, 10).graph
        if "lengths" in graph.input_names:
            continue
        depths = []
        for steps in (4, 7):
            before = unrolled(parse(re.sub(r"\bT\b", str(steps), graph.to_text())), fold=seed % 2 == 0)
            run(TIDY, before)
            after = before.clone()
            run("roll-steps", after)
            assert_same_numbers(before, after, rtol=1e-7, atol=1e-9, dims={"B": 3})
            depths.append(depth(after))
        if depths[0] != depths[1]:  # the numbers are right, but its steps stayed apart
            apart.append(seed)
        count += 1
    assert count > 5
    assert apart == [], f"seeds whose steps stayed apart: {apart}"


def long_lstm(steps: int) -> Graph:
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        rng = np.random.default_rng(0)
        w, u, bias = (b.const(rng.uniform(-0.5, 0.5, s).astype(np.float32)) for s in ((3, 32), (8, 32), (32,)))
        h = c = b.full(0.0, (2, 8))
        ys = []
        for t in range(steps):
            x = b.reshape(b.slice(v["x"], 1, t, 1), (2, 3))
            gates = b.add(b.add(b.matmul(x, w), b.matmul(h, u)), b.broadcast(bias, (2, 32)))
            i, f, g, o = b.split(gates, 4)
            c = b.add(b.mul(b.sigmoid(f), c), b.mul(b.sigmoid(i), b.tanh(g)))
            h = b.mul(b.sigmoid(o), b.tanh(c))
            ys.append(b.reshape(h, (2, 1, 8)))
        return {"y": b.concat(ys, 1)}

    return build_graph({"x": TensorType(F32, (2, steps, 3))}, body)


def test_500_steps_take_seconds_at_most() -> None:
    graph = long_lstm(500)
    start = time.perf_counter()
    run(RAISE, graph, verify_each=False)
    assert kinds(graph) == ["rnn"]
    assert time.perf_counter() - start < 20  # about 2 s on a free core


def test_in_a_compile() -> None:
    compiled = rg.compile(long_lstm(6), target="cpu", verify="numeric")
    assert "roll-steps: 6 copies of one step with 2 states" in compiled.explain()
    x = np.random.default_rng(1).standard_normal((2, 6, 3)).astype(np.float32)
    want = rg.ir.evaluate(long_lstm(6), {"x": x}, float64=True)["y"]
    np.testing.assert_allclose(compiled(x), want, rtol=0, atol=1e-5 * np.abs(want).max())
