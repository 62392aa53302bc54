"""Random models: native code, the reference alone, and the graph after every pass give the float64 numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rnngraph as rg
from rnngraph import backends
from rnngraph.ir import evaluate
from rnngraph.nn import (
    GRU,
    LSTM,
    RNN,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    GRUCell,
    Layer,
    LayerNormalization,
    LSTMCell,
    Model,
    SimpleRNN,
    Tensor,
)
from rnngraph.report.numeric import allowance, deviation, random_inputs
from tests.testing import WITHOUT_LLVM

FEW = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
FEWER = settings(FEW, max_examples=4)  # each evaluates some twenty graphs in float64
MANY = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

ACTIVATIONS = st.sampled_from(["tanh", "tanh", "tanh", "sigmoid", "relu6", "hard_sigmoid", "softsign", "elu", "gelu",
                               "softplus", "silu", "leaky_relu", "selu", "linear"])
EDGES = [1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 130]  # around vectors and tiles
UNITS = st.one_of(st.sampled_from(EDGES), st.integers(1, 130))
STEPS, BATCH, FEATURES = st.integers(0, 70), st.integers(1, 33), st.integers(1, 40)
FLAGS = st.booleans()
RARELY = st.integers(0, 4).map(lambda n: n == 0)


@st.composite
def recurrent(draw: Callable[..., Any], sequences: bool) -> Layer:
    """Any recurrent layer with any options, perhaps in both directions."""
    options: dict[str, Any] = {"return_sequences": sequences, "go_backwards": draw(RARELY),
                               "zero_output_for_mask": draw(FLAGS)}
    kind = draw(st.sampled_from(["lstm", "gru", "simple", "cells"]))
    units = draw(UNITS)
    if kind == "cells":
        layer: RNN = RNN([LSTMCell(units), GRUCell(draw(UNITS))], **options)
    else:
        options |= {"use_bias": not draw(RARELY), "recurrent_dropout": 0.2 if draw(RARELY) else 0.0,
                    "dropout": 0.2 if draw(RARELY) else 0.0}
        if draw(RARELY):
            options["activation"] = draw(ACTIVATIONS)
        if kind != "simple" and draw(RARELY):
            options["recurrent_activation"] = draw(st.sampled_from(["hard_sigmoid", "hard_sigmoid_keras2", "tanh"]))
        if kind == "lstm":
            layer = LSTM(units, peepholes=draw(RARELY), **options)
        elif kind == "gru":
            layer = GRU(units, reset_after=draw(FLAGS), **options)
        else:
            layer = SimpleRNN(units, **options)
    if draw(RARELY) or draw(RARELY):
        return Bidirectional(layer, merge_mode=draw(st.sampled_from(["concat", "concat", "sum", "mul", "ave"])))
    return layer


@st.composite
def between(draw: Callable[..., Any]) -> Layer:
    which = draw(st.integers(0, 3))
    if which == 0:
        return Dense(draw(UNITS), draw(ACTIVATIONS), use_bias=draw(FLAGS))
    return LayerNormalization() if which == 1 else Dropout(0.3) if which == 2 else Activation(draw(ACTIVATIONS))


@st.composite
def models(draw: Callable[..., Any]) -> Model:
    """Layers on top of each other, some with a skip connection round them; one or two outputs."""
    given = rg.Input(("batch", "time", draw(FEATURES)))
    outputs: list[Tensor] = []
    y: Tensor = given
    for _ in range(draw(st.integers(1, 3))):
        x, y = y, draw(recurrent(True))(y)
        if draw(RARELY):
            y = rg.nn.ops.concat([x, y])
        elif draw(RARELY):
            y = y + Dense(int(y.shape[-1]))(x)
        if draw(RARELY):
            outputs.append(y)
        if draw(RARELY) or draw(RARELY):
            y = draw(between())(y)
    outputs.append(draw(recurrent(False))(y) if draw(FLAGS) else y)
    model = Model(given, outputs)
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    model.set_weights([np.asarray(rng.standard_normal(w.shape) * min(0.5, w.shape[0] ** -0.5), np.float32)
                       for w in model.weights.values()])
    return model


def check(model: Model, data: Any, *, tolerance: float, **options: Any) -> None:
    """Compile once, call with several sizes; every output within ``tolerance`` of its scale, or of the order of what
    float32 loses in this model anyway (`allowance`)."""
    training = data.draw(RARELY, "training")
    how = {"lengths": data.draw(FLAGS, "lengths"), "initial_state": data.draw(FLAGS, "initial_state")}
    compiled = rg.compile(model, target="cpu", training=training, **options)
    graph = rg.trace(model, training=training, **how)
    for _ in range(2):
        dims = {"time": data.draw(STEPS, "time"), "batch": data.draw(BATCH, "batch")}
        inputs = random_inputs(graph, dims, data.draw(st.integers(0, 99), "seed"))
        want = evaluate(graph, inputs, float64=True)
        allowed = allowance(graph, inputs, want, tolerance)
        got = compiled.run(inputs)
        assert list(got) == list(want)
        for name in want:
            assert got[name].shape == want[name].shape
            error, scale = deviation(got[name], want[name])
            assert error <= allowed[name], f"{name}: off by {error:.3g} where the scale is {scale:.3g}, {dims}"


@FEW
@given(models(), st.integers(1, 3), st.data())
def test_native_code_is_the_reference(model: Model, threads: int, data: Any) -> None:
    check(model, data, threads=threads, tolerance=1e-5)


@FEWER
@given(models(), st.data())
def test_every_pass_keeps_the_numbers(model: Model, data: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:  # without native code to build: only the passes are of interest
        patch.setattr(backends, "BACKENDS", WITHOUT_LLVM)
        check(model, data, verify="numeric", tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@MANY
@given(models(), st.integers(1, 4), st.data())
def test_native_code_is_the_reference_long(model: Model, threads: int, data: Any) -> None:
    check(model, data, threads=threads, verify="numeric", tolerance=1e-5)


KINDS: list[Callable[[int], Layer]] = [
    lambda h: LSTM(h, return_sequences=True), lambda h: GRU(h, return_sequences=True),
    lambda h: GRU(h, return_sequences=True, reset_after=False), lambda h: SimpleRNN(h, return_sequences=True)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_hidden_size(kind: int) -> None:
    """All sizes up to 130, a quarter of them with each kind, the ragged and whole ones with all."""
    for hidden in sorted({*range(1 + kind, 131, 4), 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 127, 128, 129, 130}):
        model = KINDS[kind](hidden)
        given = rg.Input(("batch", "time", 1 + hidden % 5))
        compiled = rg.compile(model, given, target="cpu", threads=1 + hidden % 2)
        graph = rg.trace(model, given, lengths=True)
        inputs = random_inputs(graph, {"batch": 1 + hidden % 33, "time": 1 + hidden % 7}, hidden)
        error, scale = deviation(compiled.run(inputs)["y"], evaluate(graph, inputs, float64=True)["y"])
        assert error <= 1e-5 * scale, hidden
