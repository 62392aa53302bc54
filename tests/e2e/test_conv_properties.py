"""Random convolutional cells with random options and sizes: native alone, the numbers of the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rnngraph as rg
from rnngraph import nn
from rnngraph.ir import evaluate
from tests.nn.support import randomize, some

TOLERANCE = 1e-5  # of the largest number


@st.composite
def cases(draw: Any) -> tuple[nn.Layer, tuple[int, ...]]:
    """A recurrent layer and the shape of a step."""
    n = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["lstm", "rnn", "gru", "gru_after", "contrib", "mx_lstm", "mx_gru", "mx_rnn"]))
    first = draw(st.booleans()) and kind != "contrib"
    channels, filters = draw(st.integers(1, 4)), draw(st.sampled_from([1, 3, 8, 17, 20]))

    def each(low: int, high: int, step: int = 1) -> tuple[int, ...]:
        return tuple(step * draw(st.integers(low, high)) + (step > 1) for _ in range(n))

    kernel, spatial = each(1, 3), each(3, 6 if n < 3 else 4)
    shape = (channels, *spatial) if first else (*spatial, channels)
    strides, dilation = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    activation = draw(st.sampled_from(["tanh", "relu", "softsign"]))
    cell: nn.Cell
    if kind == "contrib":
        cell = nn.ContribConvLSTMCell(n, shape, filters, kernel, skip_connection=draw(st.booleans()))
    elif kind.startswith("mx"):
        layout = f"NC{'DHW'[3 - n :]}" if first else f"N{'DHW'[3 - n :]}C"
        make = {"mx_lstm": nn.MXNetConvLSTMCell, "mx_gru": nn.MXNetConvGRUCell, "mx_rnn": nn.MXNetConvRNNCell}[kind]
        cell = make(shape, filters, h2h_kernel=each(0, 1, 2), h2h_dilate=draw(st.integers(1, 2)), i2h_kernel=kernel,
                    i2h_stride=strides, i2h_pad=each(0, 1), conv_layout=layout, activation=activation)
    else:
        options: dict[str, Any] = {
            "strides": strides, "padding": draw(st.sampled_from(["valid", "same"])) if dilation == 1 else "same",
            "dilation_rate": dilation, "data_format": "channels_first" if first else None, "activation": activation,
            "use_bias": draw(st.booleans())}
        if kind.startswith("gru"):
            cell = nn.ConvGRUCell(n, filters, kernel, reset_after=kind == "gru_after", **options)
        else:
            cell = (nn.ConvLSTMCell if kind == "lstm" else nn.ConvRNNCell)(n, filters, kernel, **options)
    layer = nn.RNN(cell, return_sequences=draw(st.booleans()), return_state=True, go_backwards=draw(st.booleans()),
                   time_major=draw(st.booleans()), name="r")
    return randomize(layer, (None, None, *shape)), shape


def check(layer: nn.Layer, shape: tuple[int, ...], lengths: bool, threads: int) -> None:
    inputs = rg.Input(("time", "batch", *shape) if layer.time_major else ("batch", "time", *shape))  # type: ignore[attr-defined]
    model = rg.compile(layer, inputs, threads=threads)
    assert {k.backend for k in model.report.kernels} == {"llvm"}, model.explain()
    graph = rg.trace(layer, inputs, lengths=lengths)
    for batch, time in ((2, 3), (5, 1), (1, 4)):
        size = (time, batch) if layer.time_major else (batch, time)  # type: ignore[attr-defined]
        feeds = {"x": some(*size, *shape, seed=batch)}
        if lengths:
            feeds["lengths"] = np.random.default_rng(batch).integers(0, time + 1, batch).astype(np.int32)
        want = evaluate(graph, feeds, float64=True)
        got = model(feeds["x"], lengths=feeds["lengths"]) if lengths else model(feeds["x"])
        for g, w in zip(got, want.values(), strict=True):
            np.testing.assert_allclose(g, w, rtol=0, atol=TOLERANCE * max(1e-3, float(np.abs(w).max(initial=0))))


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(cases(), st.booleans(), st.integers(1, 2))
def test_random_cells(case: tuple[nn.Layer, tuple[int, ...]], lengths: bool, threads: int) -> None:
    check(*case, lengths, threads)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(cases(), st.booleans(), st.integers(1, 3))
def test_more_random_cells(case: tuple[nn.Layer, tuple[int, ...]], lengths: bool, threads: int) -> None:
    check(*case, lengths, threads)
