"""LearnedState: one trained row for the whole batch, beside torch's GRU started from the same row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import rnngraph as rg
from rnngraph.errors import ShapeError
from rnngraph.nn import GRU, LSTM, LearnedState, Model

X = np.random.default_rng(0).standard_normal((3, 6, 5)).astype(np.float32)


@pytest.mark.parametrize("time_major", [False, True])
def test_beside_torch(time_major: bool) -> None:
    layer, state = GRU(7, return_sequences=True, time_major=time_major), LearnedState(7, batch_axis=int(time_major))
    x = rg.Input(("time", "batch", 5) if time_major else ("batch", "time", 5))
    model = Model(x, layer(x, initial_state=state(x)))
    rng = np.random.default_rng(1)
    model.set_weights({n: np.asarray(rng.standard_normal(w.shape) * 0.4, np.float32) for n, w in model.weights.items()})
    compiled = rg.compile(model, target="cpu", verify="numeric")
    assert all(k.backend == "llvm" for k in compiled.report.kernels)
    w = {n.split("/")[-1]: v for n, v in model.weights.items()}
    peer = torch.nn.GRU(5, 7, batch_first=True)
    zrh = np.concatenate([np.arange(7, 14), np.arange(7), np.arange(14, 21)])  # r z n of torch in Keras's z r h
    with torch.no_grad():
        for name, array in (("weight_ih_l0", w["kernel"].T[zrh]), ("weight_hh_l0", w["recurrent_kernel"].T[zrh]),
                            ("bias_ih_l0", w["bias"][0][zrh]), ("bias_hh_l0", w["bias"][1][zrh])):
            getattr(peer, name).copy_(torch.tensor(array))
        want = peer(torch.tensor(X), torch.tensor(np.broadcast_to(w["state"], (1, 3, 7)).copy()))[0].numpy()
    got = np.asarray(compiled(np.ascontiguousarray(X.transpose(1, 0, 2)) if time_major else X))
    np.testing.assert_allclose(got.transpose(1, 0, 2) if time_major else got, want, rtol=0, atol=1e-6)


def test_both_states_of_an_lstm_and_the_raised_node() -> None:
    x = rg.Input(("batch", "time", 5))
    y = LSTM(4)(x, initial_state=[LearnedState(4, "ones", name="h0")(x), LearnedState(4, "ones", name="c0")(x)])
    compiled = rg.compile(Model(x, y), target="cpu", verify="numeric")
    assert "the scan is an LSTM: now an rnn node" in compiled.explain()
    want = rg.compile(LSTM(4, return_state=False, name="lstm"), x)(X, initial_state=[np.ones((3, 4), np.float32)] * 2)
    np.testing.assert_array_equal(compiled(X), want)


@pytest.mark.parametrize("units", [0, -1, 2.5, "4", (4, 0), True])
def test_sizes_that_are_none(units: Any) -> None:
    with pytest.raises(ShapeError, match="expected a positive int"):
        LearnedState(units)


def test_an_axis_that_is_not_there() -> None:
    with pytest.raises(ShapeError, match="with the batch as axis 4"):
        rg.trace(LearnedState(3, batch_axis=4), rg.Input(("batch", 5)))
