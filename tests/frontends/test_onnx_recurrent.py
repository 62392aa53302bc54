"""LSTM, GRU and RNN nodes against ONNX Runtime, over all attributes."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph.ir import Array, evaluate
from rnngraph.report.numeric import allowance
from tests.frontends.onnx_graphs import info, model, runtime

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
NAMES = ("Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu",
         "Softsign", "Softplus")
STEPS, BATCH, WIDTH, HIDDEN = 5, 3, 4, 6


ALPHA = ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu")
BETA = ("Affine", "ScaledTanh", "HardSigmoid")


def activations(names: list[str], rng: np.random.Generator) -> dict[str, Any]:
    """The functions, and values for those that consume them.

    Always for those whose defaults ONNX Runtime takes as 0: the specification has those of the ops of their names.
    """
    found: dict[str, Any] = {"activations": names}
    if rng.random() < 0.5 or {"Affine", "ScaledTanh", "ThresholdedRelu"} & set(names):
        found["activation_alpha"] = [float(rng.uniform(0.1, 0.9)) for a in names if a in ALPHA]
        found["activation_beta"] = [float(rng.uniform(0.1, 0.9)) for a in names if a in BETA]
    return {k: v for k, v in found.items() if v}


def case(kind: str, rng: np.random.Generator) -> tuple[Any, dict[str, Array]]:
    """A random node with random attributes, and inputs."""
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    n, g = 2 if direction == "bidirectional" else 1, GATES[kind]
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": HIDDEN}
    if rng.random() < 0.6:
        attributes |= activations([str(a) for a in rng.choice(NAMES, n * FUNCTIONS[kind])], rng)
    if rng.random() < 0.3:
        attributes["clip"] = float(rng.choice([0.3, 2.0]))
    if kind == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))
    if kind == "LSTM" and rng.random() < 0.3:
        attributes["input_forget"] = 1
    weights = {"w": (n, g * HIDDEN, WIDTH), "r": (n, g * HIDDEN, HIDDEN)}
    constants = {k: (0.4 * rng.standard_normal(s)).astype(np.float32) for k, s in weights.items()}
    names = ["x", "w", "r", "", "", "", *(["", ""] if kind == "LSTM" else [])]
    inputs = {"x": rng.standard_normal((STEPS, BATCH, WIDTH)).astype(np.float32)}
    infos = [info("x", ("time", "batch", WIDTH))]

    def optional(at: int, name: str, array: Array, shape: tuple[Any, ...], dtype: str = "f32") -> None:
        if rng.random() < 0.6:
            names[at], inputs[name] = name, array
            infos.append(info(name, shape, dtype))

    if rng.random() < 0.8:
        names[3], constants["b"] = "b", rng.standard_normal((n, 2 * g * HIDDEN)).astype(np.float32)
    optional(4, "lens", rng.integers(1, STEPS + 1, BATCH).astype(np.int32), ("batch",), "i32")
    optional(5, "h0", rng.standard_normal((n, BATCH, HIDDEN)).astype(np.float32), (n, "batch", HIDDEN))
    if kind == "LSTM":
        optional(6, "c0", rng.standard_normal((n, BATCH, HIDDEN)).astype(np.float32), (n, "batch", HIDDEN))
        if rng.random() < 0.4:
            names[7], constants["p"] = "p", rng.standard_normal((n, 3 * HIDDEN)).astype(np.float32)
    while not names[-1]:
        names.pop()
    outputs = ["y", "yh", *(["yc"] if kind == "LSTM" else [])]
    node = helper.make_node(kind, names, outputs, name="the_node", **attributes)
    outs = [info("y", (None, n, None, HIDDEN)), *(info(o, (n, None, HIDDEN)) for o in outputs[1:])]
    return model([node], infos, outs, constants, 14), inputs


def check(kind: str, seed: int) -> None:
    for attempt in count():
        made, inputs = case(kind, np.random.default_rng([seed, attempt]))
        expected = runtime(made, inputs)
        if all((np.abs(e) < 100).all() for e in expected):
            break  # else functions without bounds were fed back, and rounding is all that is left
    graph = rg.trace(rg.from_onnx(made))
    exact = evaluate(graph, inputs, float64=True)
    allowed = allowance(graph, inputs, exact, 1e-5)  # of the scale, or what float32 itself loses where states magnify
    got = rg.compile(made).run(inputs)
    for name, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(got[name], exact[name], rtol=0, atol=allowed[name])
        np.testing.assert_allclose(got[name], e, rtol=0, atol=2 * allowed[name])


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("kind", GATES)
def test_random_nodes(kind: str, seed: int) -> None:
    check(kind, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
@pytest.mark.parametrize("kind", GATES)
def test_many_random_nodes(kind: str, seed: int) -> None:
    check(kind, seed)
