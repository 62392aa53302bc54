"""while_loop and raw_rnn beside loops over rows written in numpy; native and by the reference."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Array, evaluate
from rnngraph.nn import ops

B = 5
RNG = np.random.default_rng(0)
W = (RNG.standard_normal((6, 6)) * 0.6).astype(np.float32)
X = RNG.standard_normal((B, 6)).astype(np.float32)


class Halting(nn.Layer):
    """h = tanh(h W) until the mean of h is below a bound that the row gives."""

    def __init__(self, steps: int = 20) -> None:
        super().__init__("halting")
        self.steps = steps

    def setup(self, shape: Any) -> None:
        self.w = self.add_weight("w", (6, 6))

    def call(self, x: Any) -> Any:
        state = {"h": x, "bound": 0.05 + 0.0 * x[:, :1]}
        last, steps = nn.while_loop(lambda s: ops.mean(ops.abs(s["h"]), 1, keepdims=True) > s["bound"],
                                    lambda s: {"h": ops.tanh(s["h"] @ self.w), "bound": s["bound"]}, state, self.steps)
        return last["h"], steps


def halting_in_numpy(x: Array, most: int) -> tuple[Array, list[int]]:
    rows, counts = [], []
    for row in x.astype(np.float64):
        n = 0
        while n < most and np.abs(row).mean() > 0.05:
            row, n = np.tanh(row @ W.astype(np.float64)), n + 1
        rows.append(row)
        counts.append(n)
    return np.array(rows), counts


def halting(steps: int = 20) -> nn.Layer:
    layer = Halting(steps)
    layer.build((None, 6))
    layer.set_weights([W])
    return layer


@pytest.mark.parametrize("most", [1, 3, 20, 200])
def test_each_row_ends_for_itself(most: int) -> None:
    model = rg.compile(halting(most), rg.Input(("batch", 6)))
    x = np.concatenate([X, 0.01 * X[:1], 5 * X[1:]])
    h, steps = model(x)
    want, counts = halting_in_numpy(x, most)
    np.testing.assert_allclose(h, want, rtol=0.0, atol=1e-6)
    assert steps.tolist() == counts
    assert steps.dtype == np.int32
    if most == 200:
        assert len(set(counts)) > 2
        assert 0 in counts
        assert max(counts) < 200


def test_the_loop_is_native_and_fused() -> None:
    model = rg.compile(halting(), rg.Input(("batch", 6)))
    (decision,) = [op for op in model.program.graph.block.body if op.name == "scan"]
    assert decision.impl == "llvm.scan"


def test_a_loop_whose_rows_are_done_is_over() -> None:
    """Fifty million steps of which a few are run."""
    model = rg.compile(halting(50_000_000), rg.Input(("batch", 6)))
    model(X)
    start = time.perf_counter()
    _, steps = model(X)
    assert time.perf_counter() - start < 5.0
    assert max(steps) < 1000


def test_a_condition_that_never_holds_runs_nothing() -> None:
    x = rg.Input(("batch", 6))
    last, steps = rg.while_loop(lambda v: v[:, 0] > 1e9, lambda v: v + 1.0, x, 4)
    y, n = rg.compile(nn.Model(x, [last, steps]))(X)
    np.testing.assert_array_equal(y, X)
    assert n.tolist() == [0] * B


def test_a_symbol_bounds_the_steps() -> None:
    x = rg.Input(("batch", "time", 6))
    last, steps = rg.while_loop(lambda v: v[:, 0] < 1e9, lambda v: v + 1.0, x[:, 0], "time")
    model = rg.compile(nn.Model(x, [last, steps]))
    for n in (1, 4, 9):
        _, count = model(np.zeros((2, n, 6), np.float32))
        assert count.tolist() == [n, n]


def test_structures_and_integers() -> None:
    x = rg.Input(("batch", 2), dtype="i32")

    def body(state: Any) -> Any:
        (a, b), seen = state
        return (b, a + b), [seen[0] + 1]

    start = ((x[:, :1], x[:, 1:]), [ops.zeros_like(x[:, :1])])
    ((a, b), [seen]), steps = rg.while_loop(lambda s: s[0][1][:, 0] < 100, body, start, 50)
    got = rg.compile(nn.Model(x, [a, b, seen, steps]))(np.array([[0, 1], [1, 50], [7, 200]], np.int32))
    np.testing.assert_array_equal(np.concatenate([np.reshape(g, (3, 1)) for g in got], 1),
                                  [[89, 144, 11, 11], [51, 101, 2, 2], [7, 200, 0, 0]])


def test_bad_loops_are_refused() -> None:
    x = rg.Input(("batch", 6))
    for most in (0, -1, True, 1.5, None):
        with pytest.raises(TraceError, match="max_steps"):
            rg.while_loop(lambda v: v[:, 0] > 0.0, lambda v: v, x, most)  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="condition must be bool"):
        rg.while_loop(lambda v: v[:, 0], lambda v: v, x, 3)
    with pytest.raises(TraceError, match="condition must be bool"):
        rg.while_loop(lambda v: v > 0.0, lambda v: v, x, 3)
    with pytest.raises(TraceError, match="keeps its structure, shapes and dtypes"):
        rg.while_loop(lambda v: v[:, 0] > 0.0, lambda v: v[:, :3], x, 3)
    with pytest.raises(ShapeError, match="one batch"):
        rg.while_loop(lambda v: v[0][:, 0] > 0.0, lambda v: v, [x, ops.reshape(x, (6, "batch"))], 3)


# --- raw_rnn -------------------------------------------------------------------------------------------------------

WORDS, UNITS, END = 7, 12, 0


class Decoder(nn.Layer):
    """Greedy: the most likely word of a step is the input of the next; a row ends with its END."""

    def __init__(self, most: int, pad: str = "zero") -> None:
        super().__init__("decoder")
        self.most, self.pad = most, pad
        self.cell = nn.GRUCell(UNITS)

    def children(self) -> Any:
        return {"cell": self.cell}

    def setup(self, shape: Any) -> None:
        self.embed = self.add_weight("embed", (WORDS, 4))
        self.out = self.add_weight("out", (UNITS, WORDS))

    def call(self, h: Any) -> Any:
        def loop(time: Any, output: Any, state: Any, loop_state: Any) -> Any:
            if output is None:
                first = ops.one_hot(ops.sum(h, 1) * 0.0 + 1.0, WORDS) @ self.embed
                return ops.sum(h, 1) > 1e9, first, h, None, None
            word = ops.argmax(output @ self.out, dtype="f32")
            following = ops.one_hot(word, WORDS) @ self.embed
            return word == float(END), following, state, ops.reshape(word, ("batch", 1)), None

        words, last, _, steps = nn.raw_rnn(self.cell, loop, self.most, pad=self.pad)
        return words, last, steps


def decode_in_numpy(h: Array, weights: dict[str, Array], most: int) -> tuple[list[list[int]], Array]:
    """Row by row in float64; a GRU that resets after the matmul, gates z r h."""
    w = {n.split("/")[-1]: a.astype(np.float64) for n, a in weights.items()}
    rows, lasts = [], []
    for state in h.astype(np.float64):
        x, words = w["embed"][1], list[int]()
        while len(words) < most and (not words or words[-1] != END):
            gx, gh = x @ w["kernel"] + w["bias"][0], state @ w["recurrent_kernel"] + w["bias"][1]
            (xz, xr, xn), (hz, hr, hn) = np.split(gx, 3), np.split(gh, 3)
            z, r = 1 / (1 + np.exp(-xz - hz)), 1 / (1 + np.exp(-xr - hr))
            state = z * state + (1 - z) * np.tanh(xn + r * hn)
            words.append(int(np.argmax(state @ w["out"])))
            x = w["embed"][words[-1]]
        rows.append(words)
        lasts.append(state)
    return rows, np.array(lasts)


@pytest.mark.parametrize("pad", ["zero", "repeat"])
def test_a_greedy_decoder(pad: str) -> None:
    decoder, most = Decoder(14, pad), 14
    decoder.build((None, UNITS))
    rng = np.random.default_rng(4)
    shapes = [w.shape for w in decoder.weights.values()]
    decoder.set_weights([np.asarray(rng.standard_normal(s) * 0.9, np.float32) for s in shapes])
    h = rng.standard_normal((30, UNITS)).astype(np.float32)
    model = rg.compile(decoder, rg.Input(("batch", UNITS)))
    assert [op.impl for op in model.program.graph.block.body if op.name == "scan"] == ["llvm.scan"]
    words, last, steps = model(h)
    want, lasts = decode_in_numpy(h, decoder.weights, most)
    assert steps.tolist() == [len(row) for row in want]
    assert len(set(steps.tolist())) > 2
    for got, row in zip(words[..., 0].astype(int).tolist(), want, strict=True):
        assert got == row + [row[-1] if pad == "repeat" else 0] * (most - len(row))
    np.testing.assert_allclose(last, lasts, rtol=0.0, atol=1e-5)


def test_outputs_states_and_loop_states() -> None:
    x = rg.Input(("batch", 3))

    def loop(time: Any, output: Any, state: Any, total: Any, x: Any) -> Any:
        if output is None:
            return x[:, 0] > 2.0, x, None, None, ops.zeros_like(x[:, :1])
        return time[:, 0] >= 3.0, output, None, {"twice": 2.0 * output}, total + time

    cell = nn.LSTMCell(3)
    outputs, state, total, steps = nn.raw_rnn(cell, loop, 5, inputs=x)
    model = nn.Model(x, [outputs["twice"], state["h"], state["c"], total, steps])
    assert sorted(model.weights) == ["raw_rnn/bias", "raw_rnn/kernel", "raw_rnn/recurrent_kernel"]
    given = np.array([[1, 0, 2], [3, 0, 0]], np.float32)
    y, h_n, c_n, t, n = rg.compile(model)(given)
    assert (y.shape, n.tolist(), t.ravel().tolist()) == ((2, 5, 3), [3, 0], [6.0, 0.0])
    np.testing.assert_array_equal(y[0, 2], 2 * h_n[0])
    assert not y[0, 3:].any()
    assert not y[1].any()
    assert not c_n[1].any()


def test_bad_loop_functions_are_refused() -> None:
    x = rg.Input(("batch", 3))

    def never(time: Any, output: Any, state: Any, loop_state: Any, x: Any) -> Any:
        return x[:, 0] > 1e9, x, state, None, None

    with pytest.raises(TraceError, match="pad must be one of"):
        nn.raw_rnn(nn.GRUCell(3), never, 3, inputs=x, pad="last")
    with pytest.raises(TraceError, match="loop_fn must return"):
        nn.raw_rnn(nn.GRUCell(3), lambda *a: None, 3, inputs=x)  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="next_input"):
        nn.raw_rnn(nn.GRUCell(3), lambda *a: (x[:, 0] > 0.0, None, None, None, None), 3, inputs=x)


# --- argmax, one_hot -----------------------------------------------------------------------------------------------


def test_argmax_and_one_hot() -> None:
    a = np.array([[1, 5, 5], [7, 2, 7], [-3, -2, -1]], np.float32)
    x = rg.Input(("batch", 3))
    model = rg.compile(nn.Model(x, [ops.argmax(x), ops.argmax(x, dtype="f32"), ops.one_hot(ops.argmax(x), 4)]))
    index, floats, hot = model(a)
    np.testing.assert_array_equal(index, a.argmax(1))
    np.testing.assert_array_equal(floats, a.argmax(1).astype(np.float32))
    np.testing.assert_array_equal(hot, np.eye(4, dtype=np.float32)[a.argmax(1)])
    z = rg.Input(("batch", 4, "time"))
    b = RNG.standard_normal((2, 4, 3)).astype(np.float32)
    graph = rg.trace(nn.Model(z, ops.argmax(z, 1)), z)
    np.testing.assert_array_equal(evaluate(graph, {"x": b})["y"], b.argmax(1))
    with pytest.raises(TraceError, match="integer size"):
        ops.argmax(z, 2)
    with pytest.raises(TraceError, match="depth"):
        ops.one_hot(x, 0)


# --- a sweep -------------------------------------------------------------------------------------------------------


def random_loop(seed: int) -> None:
    """A random cell that feeds itself: one and two threads the same bits, and the float64 reference's numbers."""
    rng = np.random.default_rng(seed)
    units, features, most, batch = (int(rng.integers(1, n)) for n in (40, 20, 25, 50))
    cell = [nn.LSTMCell(units), nn.GRUCell(units, reset_after=False), nn.LayerNormLSTMCell(units)][rng.integers(0, 3)]
    bound = float(rng.uniform(-0.05, 0.1))
    x = rg.Input(("batch", features))

    def loop(time: Any, output: Any, state: Any, loop_state: Any, x: Any) -> Any:
        if output is None:
            return x[:, 0] > 1.5, x, None, None, None
        following = ops.concat([output] * (features // units + 1), -1)[:, :features] * 0.5 + x * 0.5
        return ops.mean(output, 1) > bound, following, None, ops.concat([output, following], -1), None

    y, state, _, steps = nn.raw_rnn(cell, loop, most, inputs=x, pad=["zero", "repeat"][rng.integers(2)])
    model = nn.Model(x, [y, steps, *(state.values() if isinstance(state, dict) else [state])])
    given = rng.standard_normal((batch, features)).astype(np.float32)
    want = evaluate(rg.trace(model, x), {"x": given}, float64=True)
    alone, shared = (rg.compile(model, threads=threads)(given) for threads in (1, 2))
    for name, a, b in zip(want, alone, shared, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, want[name], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_random_loops(seed: int) -> None:
    random_loop(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 40))
def test_more_random_loops(seed: int) -> None:
    random_loop(seed)
