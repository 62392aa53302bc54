"""stateful=True: states that stay from call to call, as in Keras."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import rnngraph as rg
from rnngraph import nn
from rnngraph.errors import InputError
from rnngraph.ir import Array
from rnngraph.runtime.model import CompiledModel

B, T, F = 2, 9, 5
X = np.random.default_rng(0).standard_normal((B, T, F)).astype(np.float32)


def compiled(*layers: nn.Layer) -> CompiledModel:
    return rg.compile(nn.Sequential(list(layers)), rg.Input(("batch", "time", F)), seed=1)


def array(outputs: Any) -> Array:
    return np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)


@pytest.mark.parametrize("layer", [
    lambda: nn.LSTM(8, return_sequences=True, stateful=True), lambda: nn.GRU(6, return_sequences=True, stateful=True),
    lambda: nn.RNN([nn.LSTMCell(4), nn.GRUCell(5)], return_sequences=True, stateful=True),
    lambda: nn.SimpleRNN(4, return_sequences=True, return_state=True, stateful=True)])
def test_calls_go_on_where_the_last_one_ended(layer: Any) -> None:
    model = compiled(layer())
    whole = array(model(X))
    model.reset_states()
    parts = [array(model(X[:, a:b])) for a, b in ((0, 4), (4, 5), (5, 9))]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


def test_beside_torch() -> None:
    reference = torch.nn.GRU(F, 8, batch_first=True)
    layer = nn.GRU(8, stateful=True, return_sequences=True)
    layer.build((None, None, F))
    wi, wh, bi, bh = (p.detach().numpy() for p in reference.parameters())

    def gates(a: Array) -> Array:  # r z n -> z r n
        r, z, n = np.split(a, 3)
        return np.concatenate([z, r, n])

    layer.set_weights([gates(wi).T, gates(wh).T, np.stack([gates(bi), gates(bh)])])
    model, state = rg.compile(layer, rg.Input(("batch", "time", F))), None
    for _ in range(3):
        with torch.no_grad():
            want, state = reference(torch.from_numpy(X), state)
        np.testing.assert_allclose(array(model(X)), want.numpy(), rtol=0.0, atol=1e-6)
    assert state is not None
    np.testing.assert_allclose(model.states["gru.h"], state[0].numpy(), rtol=0.0, atol=1e-6)


def test_beside_keras() -> None:
    """Two calls, a call with an initial state, a call after it, a reset: the same outputs and kept states."""
    theirs = keras.layers.LSTM(6, stateful=True, return_sequences=True)
    theirs.build((B, T, F))
    ours = nn.LSTM(6, stateful=True, return_sequences=True, name="l")
    ours.build((None, None, F))
    rng = np.random.default_rng(4)
    ours.set_weights([np.asarray(rng.uniform(-0.5, 0.5, w.shape), np.float32) for w in ours.weights.values()])
    theirs.cell.set_weights(list(ours.weights.values()))
    model = rg.compile(ours, rg.Input(("batch", "time", F)))
    given = [np.full((B, 6), v, np.float32) for v in (0.3, -0.2)]
    for initial in (None, None, given, None, "reset", None):
        if initial == "reset":
            theirs.reset_states()
            model.reset_states()
            continue
        want = theirs(X, initial_state=None if initial is None else [torch.from_numpy(a) for a in given])
        got = array(model(X, initial_state=initial))
        np.testing.assert_allclose(got, np.asarray(want.detach()), rtol=0.0, atol=1e-6)
        for name, state in zip(("l.h", "l.c"), theirs.states, strict=True):
            np.testing.assert_allclose(model.states[name], np.asarray(state.value.detach()), rtol=0.0, atol=1e-6)


def test_only_stateful_layers_keep_their_states() -> None:
    model = compiled(nn.GRU(4, return_sequences=True, name="plain"), nn.GRU(4, stateful=True, name="kept"))
    model(X)
    assert list(model.states) == ["kept.h"]
    assert compiled(nn.GRU(4)).states == {}
    with pytest.raises(InputError, match="no layer with stateful=True"):
        compiled(nn.GRU(4)).reset_states()


def test_backwards_unrolled_and_both_ways() -> None:
    for layer, steps in ((nn.GRU(4, go_backwards=True, stateful=True, name="l"), "time"),
                         (nn.GRU(4, unroll=True, stateful=True, name="l"), T),
                         (nn.Bidirectional(nn.GRU(4, stateful=True), name="l"), "time")):
        model = rg.compile(layer, rg.Input(("batch", steps, F)))
        plain = rg.compile(layer, rg.Input(("batch", steps, F)))
        first = array(model(X))
        names = list(model.states)
        assert names == (["l.h"] if len(names) == 1 else ["l/forward.h", "l/backward.h"])
        second = array(plain(X, initial_state=model.states))
        np.testing.assert_array_equal(array(model(X)), second)
        assert not np.array_equal(first, second)


def test_an_initial_state_overrides_and_is_kept_on() -> None:
    model = compiled(nn.LSTM(4, stateful=True, name="l"))
    plain = compiled(nn.LSTM(4, name="l"))
    model(X)
    h, c = np.full((B, 4), 0.5, np.float32), np.full((B, 4), -0.5, np.float32)
    kept = model.states
    np.testing.assert_array_equal(array(model(X, initial_state=[h, c])), array(plain(X, initial_state=[h, c])))
    after = model.states
    model.reset_states(kept)
    half = {"l.h": h}  # a state that is not given is the kept one
    np.testing.assert_array_equal(array(model(X, initial_state=half)),
                                  array(plain(X, initial_state={"l.h": h, "l.c": kept["l.c"]})))
    assert not np.array_equal(after["l.h"], model.states["l.h"])


def test_an_initial_state_in_the_model_overrides_too() -> None:
    x, h = nn.Input(("batch", "time", F)), nn.Input(("batch", 4), name="h")
    model = rg.compile(nn.Model([x, h], nn.GRU(4, stateful=True, name="l")(x, initial_state=h)))
    zero = np.zeros((B, 4), np.float32)
    first, second = array(model(X, zero)), array(model(X, zero))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(model.states["l.h"], first)


def test_lengths_and_masks_keep_the_states_of_ended_rows() -> None:
    model, plain = compiled(nn.GRU(4, stateful=True, name="l")), compiled(nn.GRU(4, name="l"))
    model(X)
    kept = model.states
    want = array(plain(X, lengths=[T, 0], initial_state=kept))
    np.testing.assert_array_equal(array(model(X, lengths=[T, 0])), want)
    np.testing.assert_array_equal(model.states["l.h"][1], kept["l.h"][1])
    before = model.states
    model(X, mask=np.zeros((B, T), bool))
    np.testing.assert_array_equal(model.states["l.h"], before["l.h"])


def test_the_batch_is_fixed_until_a_reset() -> None:
    model = compiled(nn.GRU(4, stateful=True, name="l"))
    model(X)
    with pytest.raises(InputError, match=r"'l.h'.*\[2, 4\].*\[1, 4\].*reset_states"):
        model(X[:1])
    model.reset_states()
    assert array(model(X[:1])).shape == (1, 4)
    with pytest.raises(InputError, match="input 'x'"):
        model(X[:1, 0])


def test_reset_by_layer_and_with_values() -> None:
    model = compiled(nn.LSTM(4, stateful=True, return_sequences=True, name="a"), nn.GRU(3, stateful=True, name="b"))
    model(X)
    kept = model.states
    model.reset_states("a")
    assert list(model.states) == ["b.h"]
    h = np.full((B, 4), 0.1, np.float32)
    model.reset_states({"a": [h, 2 * h], "b.h": kept["b.h"]})
    np.testing.assert_array_equal(model.states["a.c"], 2 * h)
    h[:] = 9.0
    assert model.states["a.h"].max() < 1.0
    for bad in ({"c": h}, {"a": h}, {"a.h": h.astype(np.float64)}, {"a.h": np.zeros((B, 5), np.float32)}, {"": h}):
        with pytest.raises(InputError):
            model.reset_states(bad)
    for what in (5, [h, h], h):
        with pytest.raises(InputError, match="expected a layer's or state's name, or a mapping"):
            model.reset_states(what)  # type: ignore[arg-type]


def test_calls_in_threads_take_turns() -> None:
    model = compiled(nn.GRU(4, stateful=True, name="l"))
    x = np.ones((1, 1, F), np.float32)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: model(x), range(100)))
    want = array(compiled(nn.GRU(4, name="l"))(np.ones((1, 100, F), np.float32)))
    np.testing.assert_array_equal(model.states["l.h"], want)


def test_a_failed_call_keeps_the_states() -> None:
    model = compiled(nn.GRU(4, stateful=True, name="l"))
    model(X)
    kept = model.states
    with pytest.raises(InputError):
        model(X.astype(np.float64))
    with pytest.raises(InputError):
        model(X, lengths=[T + 1, 0])
    np.testing.assert_array_equal(model.states["l.h"], kept["l.h"])


def test_streams_and_traces_have_states_of_their_own() -> None:
    model = compiled(nn.GRU(4, stateful=True, name="l"))
    model(X)
    kept = model.states
    session = model.stream(B)
    np.testing.assert_array_equal(session.state["l.h"], np.zeros((B, 4), np.float32))
    session.feed(X)
    np.testing.assert_array_equal(model.states["l.h"], kept["l.h"])
    assert rg.trace(nn.GRU(4, stateful=True), rg.Input(("batch", "time", F))).input_names == ("x",)


def test_no_rows_leave_nothing() -> None:
    model = compiled(nn.GRU(4, stateful=True, name="l"))
    assert array(model(X[:0])).shape == (0, 4)
    assert model.states == {}
    kept = array(model(X))
    model(X[:, :0])
    np.testing.assert_array_equal(model.states["l.h"], kept)
