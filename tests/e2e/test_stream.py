"""Sessions: chunks of any size give the bits of the whole sequence; states, rows, threads, lifetime."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import rnngraph as rg
from rnngraph import backends, nn
from rnngraph.errors import InputError, StreamError
from rnngraph.ir import Array
from rnngraph.nn import ops
from rnngraph.runtime.model import CompiledModel
from tests.testing import WITHOUT_LLVM

B, T, F = 3, 16, 6
X = np.random.default_rng(0).standard_normal((B, T, F)).astype(np.float32)
CHUNKS = [[1] * T, [2] * 8, [7, 7, 2], [3, 1, 5, 0, 4, 2, 1], [T]]


class Trace(nn.Cell):
    """Two states, one of which is not the output, and an output that is no state."""

    def __init__(self, units: int) -> None:
        super().__init__({"h": units, "slow": units})
        self.units = units

    def build(self, n: int) -> None:
        self.w, self.r = self.add_weight("w", (n, self.units)), self.add_weight("r", (self.units, self.units))

    def step(self, x: Any, state: Any) -> Any:
        h = ops.tanh(x @ self.w + state["slow"] @ self.r)
        slow = 0.9 * state["slow"] + 0.1 * h
        return h * slow, {"h": h, "slow": slow}


def normalized() -> nn.Layer:
    return nn.Sequential([nn.LSTM(9, return_sequences=True), nn.LayerNormalization(), nn.GRU(8, return_sequences=True),
                          nn.Dense(4, "relu")])


def branches() -> nn.Layer:
    x = nn.Input(("batch", "time", F))
    low = nn.GRU(8, return_sequences=True, name="low")(x)
    high = nn.LSTM(8, return_sequences=True, return_state=True, name="high")(ops.concat([low, x]))
    return nn.Model(x, [low * high[0], high[2]])


MODELS: dict[str, Callable[[], nn.Layer]] = {
    "lstm": lambda: nn.LSTM(16, return_sequences=True),
    "lstm-last": lambda: nn.LSTM(16),
    "lstm-relu": lambda: nn.LSTM(11, activation="relu", return_sequences=True),
    "gru": lambda: nn.GRU(10, return_sequences=True, return_state=True),
    "gru-reset-before": lambda: nn.GRU(10, reset_after=False),
    "rnn": lambda: nn.SimpleRNN(7, return_sequences=True),
    "stack": lambda: nn.Sequential([nn.LSTM(12, return_sequences=True), nn.LSTM(12, return_sequences=True)]),
    "stacked-cells": lambda: nn.RNN([nn.LSTMCell(8), nn.GRUCell(5)], return_sequences=True),
    "user-cell": lambda: nn.RNN(Trace(8), return_sequences=True),
    "user-cell-last": lambda: nn.RNN(Trace(8)),
    "normalized": normalized,
    "branches": branches,
}


def listed(outputs: Any) -> list[Array]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def compiled(name: str) -> CompiledModel:
    return rg.compile(MODELS[name](), rg.Input(("batch", "time", F)) if name != "branches" else None, seed=3)


def joined(pieces: list[list[Array]], whole: list[Array]) -> list[Array]:
    """Outputs with time are the pieces in a row, others are the last piece's."""
    outputs = zip(*pieces, strict=True)
    return [np.concatenate(p, 1) if w.ndim == 3 else p[-1] for p, w in zip(outputs, whole, strict=True)]


@pytest.mark.parametrize("name", MODELS)
def test_chunks_give_the_bits_of_the_whole_sequence(name: str) -> None:
    model = compiled(name)
    whole = listed(model(X))
    for sizes in CHUNKS:
        session, at, pieces = model.stream(B), 0, []
        for n in sizes:
            pieces.append(listed(session.feed(X[:, at : at + n])))
            at += n
        for got, want in zip(joined(pieces, whole), whole, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=f"chunks {sizes}")


@pytest.mark.parametrize("name", MODELS)
def test_steps_give_the_bits_of_the_whole_sequence(name: str) -> None:
    model = compiled(name)
    whole = listed(model(X))
    session = model.stream(B)
    pieces = [listed(session.step(X[:, t])) for t in range(T)]
    for k, want in enumerate(whole):
        got = np.stack([p[k] for p in pieces], 1) if want.ndim == 3 else pieces[-1][k]
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("pad", [True, False], ids=["zero", "repeat"])
@pytest.mark.parametrize("cell", [lambda: nn.LSTMCell(9), lambda: nn.GRUCell(8), lambda: Trace(8)],
                         ids=["lstm", "gru", "user"])
def test_rows_that_end_keep_their_states(cell: Callable[[], nn.Cell], pad: bool) -> None:
    model = rg.compile(nn.Sequential([
        nn.RNN(cell(), return_sequences=True, zero_output_for_mask=pad),
        nn.RNN(cell(), return_sequences=True, return_state=True, zero_output_for_mask=pad)]),
        rg.Input(("batch", "time", F)))
    lengths = np.array([T, 5, 0], np.int32)
    whole = listed(model(X, lengths=lengths))
    for sizes in CHUNKS:
        session, at, pieces = model.stream(B, lengths=True), 0, []
        for n in sizes:
            pieces.append(listed(session.feed(X[:, at : at + n], lengths=np.clip(lengths - at, 0, n))))
            at += n
        for got, want in zip(joined(pieces, whole), whole, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=f"chunks {sizes}")


@pytest.mark.parametrize("name", ["lstm", "gru-reset-before", "user-cell", "stack"])
def test_masks_of_any_pattern(name: str) -> None:
    model = compiled(name)
    mask = np.random.default_rng(2).random((B, T)) < 0.6
    want = np.asarray(model(X, mask=mask))
    session = model.stream(B, mask=True)
    steps = [np.asarray(session.step(X[:, t], mask[:, t])) for t in range(T)]
    np.testing.assert_array_equal(np.stack(steps, 1) if want.ndim == 3 else steps[-1], want)
    session.reset()
    for at in (0, 7, 14):
        last = np.asarray(session.feed(X[:, at : at + 7], mask=mask[:, at : at + 7]))
    np.testing.assert_array_equal(last, want[:, 14:] if want.ndim == 3 else want)


def test_beside_torch_carrying_its_state() -> None:
    reference = torch.nn.LSTM(F, 8, batch_first=True)
    layer = nn.LSTM(8, return_sequences=True)
    layer.build((None, None, F))
    w, r, bi, bh = (p.detach().numpy() for p in reference.parameters())
    layer.set_weights([w.T, r.T, bi + bh])
    session, state = rg.compile(layer, rg.Input(("batch", "time", F))).stream(B), None
    for at, n in ((0, 5), (5, 1), (6, 10)):
        with torch.no_grad():
            want, state = reference(torch.from_numpy(X[:, at : at + n]), state)
        np.testing.assert_allclose(session.feed(X[:, at : at + n]), want.numpy(), rtol=0.0, atol=1e-6)
    assert state is not None
    np.testing.assert_allclose(session.state["lstm.c"], state[1][0].numpy(), rtol=0.0, atol=1e-6)


# --- states --------------------------------------------------------------------------------------------------------


def test_state_is_read_set_and_reset() -> None:
    model = compiled("lstm")
    session = model.stream(B)
    first = session.feed(X)
    state = session.state
    assert list(state) == ["lstm.h", "lstm.c"]
    second = session.feed(X)
    assert not np.array_equal(first, second)
    session.state = state
    np.testing.assert_array_equal(session.feed(X), second)
    session.reset()
    np.testing.assert_array_equal(session.feed(X), first)
    kept = session.state
    session.state = {"lstm.h": np.zeros((B, 16), np.float32)}
    np.testing.assert_array_equal(session.state["lstm.c"], kept["lstm.c"])


def test_state_is_a_copy() -> None:
    session = compiled("lstm").stream(B)
    given = np.ones((B, 16), np.float32)
    session.state = {"lstm.h": given}
    given[:] = 7.0
    session.state["lstm.h"][:] = 8.0
    np.testing.assert_array_equal(session.state["lstm.h"], np.ones((B, 16), np.float32))
    y = compiled("lstm-last").stream(B)
    out = y.feed(X)
    assert isinstance(out, np.ndarray)
    before = out.copy()
    out[:] = 0.0
    np.testing.assert_array_equal(y.state["lstm.h"], before)


def test_an_initial_state_is_where_reset_leads() -> None:
    model = compiled("gru")
    h = np.full((B, 10), 0.5, np.float32)
    session = model.stream(B, initial_state=h)
    want = listed(model(X, initial_state=h))[0]
    np.testing.assert_array_equal(listed(session.feed(X))[0], want)
    session.reset()
    np.testing.assert_array_equal(session.state["gru.h"], h)


def test_rows_are_reset_alone() -> None:
    model = compiled("gru-reset-before")
    session, fresh = model.stream(B), model.stream(B)
    session.feed(X)
    kept = session.state["gru.h"]
    session.reset(rows=[1])
    np.testing.assert_array_equal(session.state["gru.h"][[0, 2]], kept[[0, 2]])
    np.testing.assert_array_equal(np.asarray(session.feed(X))[1], np.asarray(fresh.feed(X))[1])


def test_states_that_follow_from_an_input_without_time() -> None:
    x, speaker = nn.Input(("batch", "time", F)), nn.Input(("batch", 4), name="speaker")
    start = nn.Dense(8, "tanh", name="start")(speaker)
    y = nn.GRU(8, return_sequences=True, name="gru")(x, initial_state=start)
    model = rg.compile(nn.Model([x, speaker], y))
    who = np.random.default_rng(5).standard_normal((B, 4)).astype(np.float32)
    session = model.stream(B)
    with pytest.raises(StreamError, match="speaker"):
        _ = session.state
    got = np.concatenate([np.asarray(session.feed(X[:, a : a + 4], who)) for a in range(0, T, 4)], 1)
    np.testing.assert_allclose(got, np.asarray(model(X, who)), rtol=0.0, atol=1e-6)


def test_a_learned_state_is_where_streams_start() -> None:
    x = nn.Input(("batch", "time", F))
    model = rg.compile(nn.Model(x, nn.GRU(8, return_sequences=True)(x, initial_state=nn.LearnedState(8, "ones")(x))))
    session = model.stream(B)
    np.testing.assert_array_equal(session.state["gru.h"], np.ones((B, 8), np.float32))
    got = np.concatenate([np.asarray(session.feed(X[:, a : a + 4])) for a in range(0, T, 4)], 1)
    np.testing.assert_array_equal(got, np.asarray(model(X)))


def test_a_graph_whose_states_are_inputs() -> None:
    layer = nn.GRU(5, return_sequences=True, return_state=True)
    graph = rg.trace(layer, rg.Input(("batch", "time", F)), initial_state=True)
    assert graph.input_names == ("x", "gru.h0")
    model = rg.compile(rg.ir.parse(graph.to_text()))
    h = np.full((B, 5), 0.25, np.float32)
    want = listed(model(X, h))
    session = model.stream(B, initial_state={"gru.h0": h})
    got = [listed(session.feed(X[:, :9])), listed(session.feed(X[:, 9:]))]
    for a, b in zip(joined(got, want), want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_dropout_masks_that_hold_for_all_steps() -> None:
    layer = nn.GRU(8, dropout=0.3, recurrent_dropout=0.3, return_sequences=True)
    model = rg.compile(layer, rg.Input(("batch", "time", F)), training=True, seed=7)
    want, session = np.asarray(model(X)), model.stream(B)
    got = np.concatenate([np.asarray(session.feed(X[:, a : a + 5])) for a in range(0, T, 5)], 1)
    np.testing.assert_array_equal(got, want)


def test_the_reference_alone_streams_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BACKENDS", WITHOUT_LLVM)
    model = compiled("lstm")
    assert {op.impl for op in model.program.graph.block.body} <= {"", "reference.op"}
    want, session = np.asarray(model(X)), model.stream(B)
    got = np.stack([np.asarray(session.step(X[:, t])) for t in range(T)], 1)
    np.testing.assert_allclose(got, want, rtol=0.0, atol=1e-6)


def test_an_rnn_node_streams() -> None:
    graph = rg.trace(nn.Sequential([nn.LSTM(5, return_sequences=True), nn.LSTM(5, return_sequences=True)]),
                     rg.Input(("batch", "time", F)))
    rg.passes.run("canonicalize,cse,raise-rnn,merge-stacked", graph)
    assert [op.name for op in graph.block.body].count("rnn") == 1
    model = rg.compile(graph)
    want = np.asarray(model(X))
    session = model.stream(B)
    got = np.concatenate([np.asarray(session.feed(X[:, a : a + 5])) for a in range(0, T, 5)], 1)
    np.testing.assert_array_equal(got, want)
    assert all(a.shape == (2, B, 5) for a in session.state.values())


# --- many sessions, long lives -----------------------------------------------------------------------------------


def test_sessions_in_threads_do_not_meet() -> None:
    model = compiled("lstm")
    inputs = [np.random.default_rng(k).standard_normal((1, T, F)).astype(np.float32) for k in range(8)]
    want = [np.asarray(model(x)) for x in inputs]
    sessions = [model.stream() for _ in inputs]

    def run(k: int) -> list[Array]:
        return [np.asarray(sessions[k].step(inputs[k][:, t])) for t in range(T)]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for k, ys in enumerate(pool.map(run, range(8))):
                np.testing.assert_array_equal(np.stack(ys, 1), want[k])
            for s in sessions:
                s.reset()


def test_one_session_in_threads_takes_turns() -> None:
    model = compiled("gru-reset-before")
    session = model.stream()
    x = np.ones((1, F), np.float32)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: session.step(x), range(200)))
    np.testing.assert_array_equal(session.state["gru.h"], model(np.ones((1, 200, F), np.float32)))


def steps_do_not_leak(count: int) -> None:
    session = compiled("lstm").stream()
    x = X[:1, 0].copy()
    for _ in range(100):
        session.step(x)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(count):
        session.step(x)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 20_000


def test_steps_do_not_leak() -> None:
    steps_do_not_leak(2_000)


@pytest.mark.slow
def test_many_steps_do_not_leak() -> None:
    steps_do_not_leak(100_000)


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused_and_leaves_the_states() -> None:
    session = compiled("lstm").stream(B)
    session.feed(X)
    before = session.state
    for bad in (X, X[:2, 0], X[:, 0].astype(np.float64), X[:, 0, :5]):
        with pytest.raises(InputError, match="input 'x'"):
            session.step(bad)
    for bad in (X[:, 0], X[:2], X.astype(np.float64), X[..., :5]):
        with pytest.raises(InputError, match="input 'x'"):
            session.feed(bad)
    with pytest.raises(InputError, match="missing"):
        session.step()
    with pytest.raises(InputError, match="unknown"):
        session.step(z=X[:, 0])
    with pytest.raises(InputError, match="expected 1 input"):
        session.step(X[:, 0], X[:, 0])
    for name, array in session.state.items():
        np.testing.assert_array_equal(array, before[name])


def test_bad_states_are_refused() -> None:
    session = compiled("lstm").stream(B)
    for bad in ({"lstm.z": 0.0}, {"lstm.h": np.zeros((2, 16), np.float32)}, [np.zeros((B, 16), np.float32)], 3,
                {"lstm.h": np.zeros((B, 16))}, {"lstm.h": np.zeros((B, 16), np.float32), "lstm.h0": 0}):
        with pytest.raises(InputError):
            session.state = bad  # type: ignore[assignment]
    with pytest.raises(InputError, match="rows must be in"):
        session.reset(rows=[B])
    for rows in (np.ones(B, np.bool_), [0.0, 1.0]):
        with pytest.raises(InputError, match="numbers of rows"):
            session.reset(rows=rows)  # type: ignore[arg-type]  # a mask would be read as rows 0 and 1
    session.reset(rows=[])
    with pytest.raises(StreamError, match="lengths=True"):
        session.feed(X, lengths=[1, 1, 1])
    with pytest.raises(InputError, match="number of steps"):
        compiled("lstm").stream(B, lengths=True).feed(X, lengths=[1, T + 1, 0])


def test_bad_sizes_are_refused() -> None:
    model = compiled("lstm")
    for batch in (0, -1, 1.5, True, "two"):
        with pytest.raises(StreamError, match="batch"):
            model.stream(batch)  # type: ignore[arg-type]
    with pytest.raises(StreamError, match="no symbol"):
        model.stream(dims={"depth": 3})
    with pytest.raises(StreamError, match="the model's batch is 4"):
        rg.compile(nn.LSTM(4), rg.Input((4, "time", F))).stream(3)
    y = rg.compile(nn.LSTM(4), rg.Input((4, "time", F))).stream().step(np.ones((4, F), np.float32))
    assert isinstance(y, np.ndarray)
    assert y.shape == (4, 4)


def test_indices_are_checked() -> None:
    model = rg.compile(nn.Sequential([nn.Embedding(10, 4), nn.GRU(5, return_sequences=True)]),
                       rg.Input(("batch", "time"), dtype="i32"))
    session = model.stream(2)
    words = np.array([[1, 2, 9], [0, 3, 3]])
    want = np.asarray(model(words))
    got = np.stack([np.asarray(session.step(words[:, t])) for t in range(3)], 1)
    np.testing.assert_array_equal(got, want)
    with pytest.raises(InputError, match=r"0\.\.9"):
        session.step(np.array([1, 10]))
