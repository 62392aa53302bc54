"""LSTM and GRU steps in Loop and Scan bodies as exporters vary them: gate orders, joined weights, biases, carries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph.ir import Array
from tests.frontends.onnx_graphs import info, model, runtime

WIDTH, HIDDEN = 3, 4
RNG = np.random.default_rng(0)
node = helper.make_node
LSTM_ORDERS = ["".join(p) for p in permutations("ifgo")]
GRU_ORDERS = ["".join(p) for p in permutations("rzn")]
WEIGHTS = ("separate", "[x,h]", "[h,x]", "transposed")
BIASES = ("none", "one", "two", "on each side", "on the sum")


def array(*shape: int) -> Array:
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


def product(weights: str, gates: int, constants: dict[str, Array], *, h: str = "h", out: str = "s") -> list[Any]:
    """x @ W + h @ R, by one weight or two."""
    n = gates * HIDDEN
    if weights in ("separate", "transposed"):
        shapes = {"W": (WIDTH, n), "R": (HIDDEN, n)}
        nodes = []
        for (name, shape), (x, y) in zip(shapes.items(), (("xt", f"{out}x"), (h, f"{out}h")), strict=True):
            turned = weights == "transposed"
            constants[f"{name}{out}"] = array(*(shape[::-1] if turned else shape))
            nodes += [node("Transpose", [f"{name}{out}"], [f"{name}{out}t"], perm=[1, 0])] * turned
            nodes += [node("MatMul", [x, f"{name}{out}" + "t" * turned], [y])]
        return nodes
    constants[f"K{out}"] = array(WIDTH + HIDDEN, n)
    parts = ["xt", h] if weights == "[x,h]" else [h, "xt"]
    return [node("Concat", parts, [f"{out}c"], axis=1), node("MatMul", [f"{out}c", f"K{out}"], [f"{out}p"])]


def summed(weights: str, biases: str, gates: int, constants: dict[str, Array], *, out: str = "s") -> list[Any]:
    """The products and so many biases, added up to ``out``."""
    terms = [f"{out}x", f"{out}h"] if weights in ("separate", "transposed") else [f"{out}p"]
    b = [f"b{i}{out}" for i in range({"none": 0, "one": 1, "on the sum": 1}.get(biases, 2))]
    constants.update({name: array(gates * HIDDEN) for name in b})
    order: list[str | tuple[str, str]]
    if biases == "on each side" and len(terms) == 2:
        order = [terms[0], b[0], (terms[1], b[1])]
    elif biases == "on the sum":
        order = [*b, *terms]
    else:
        order = [*terms, *b]
    nodes, total = [], ""
    for at, term in enumerate(order):
        if isinstance(term, tuple):
            nodes.append(node("Add", list(term), [f"{out}side"]))
            term = f"{out}side"
        if total:
            nodes.append(node("Add", [total, term], [f"{out}t{at}"]))
        total = f"{out}t{at}" if total else term
    return [*nodes, node("Identity", [total], [out])]


def lstm(order: str, weights: str, biases: str, constants: dict[str, Array]) -> list[Any]:
    return [*product(weights, 4, constants), *summed(weights, biases, 4, constants),
            node("Split", ["s"], list(order), axis=1, num_outputs=4),
            *(node("Tanh" if g == "g" else "Sigmoid", [g], [f"s{g}"]) for g in "ifgo"),
            node("Mul", ["sf", "c"], ["kept"]), node("Mul", ["si", "sg"], ["new"]),
            node("Add", ["kept", "new"], ["cn"]), node("Tanh", ["cn"], ["tc"]), node("Mul", ["so", "tc"], ["hn"])]


def gru(order: str, weights: str, biases: str, constants: dict[str, Array]) -> list[Any]:
    """Reset before the matmul: r and z by one product, in their order, n by another of [x, r * h]."""
    gates = [g for g in order if g != "n"]
    return [*product(weights, 2, constants), *summed(weights, biases, 2, constants),
            node("Split", ["s"], gates, axis=1, num_outputs=2),
            node("Sigmoid", ["r"], ["sr"]), node("Sigmoid", ["z"], ["sz"]), node("Mul", ["sr", "h"], ["rh"]),
            *product(weights, 1, constants, h="rh", out="m"), *summed(weights, biases, 1, constants, out="m"),
            node("Tanh", ["m"], ["tn"]), node("Sub", ["h", "tn"], ["d"]), node("Mul", ["sz", "d"], ["zd"]),
            node("Add", ["tn", "zd"], ["hn"])]


def loop(steps: Sequence[Any], states: Sequence[str], constants: dict[str, Array], extra: Sequence[str]) -> Any:
    """The steps in a Loop, beside carries that nothing needs."""
    more = {"kept": ("k", "k_n", [node("Identity", ["k"], ["k_n"])]),
            "counts": ("n", "n_n", [node("Add", ["n", "one"], ["n_n"])]),
            "last output": ("l", "l_n", [node("Identity", ["hn"], ["l_n"])]),
            "sums": ("q", "q_n", [node("Add", ["q", "hn"], ["q_n"])])}
    chosen = [more[e] for e in extra]
    kinds = {"n": info("n", (), "i64"), "n_n": info("n_n", (), "i64")}

    def typed(name: str) -> Any:
        return kinds.get(name) or info(name, (None, HIDDEN))

    body = helper.make_graph(
        [node("Gather", ["x", "it"], ["xt"], axis=0), *steps, *(n for c in chosen for n in c[2]),
         node("Identity", ["hn"], ["out"]), node("Identity", ["go"], ["stay"])], "body",
        [info("it", (), "i64"), info("go", (), "bool"), *map(typed, [*(c[0] for c in chosen), *states])],
        [info("stay", (), "bool"), *map(typed, [*(c[1] for c in chosen), *(f"{s}n" for s in states), "out"])])
    starts = ["zero" if c[0] == "n" else "h0" for c in chosen]
    made = node("Loop", ["T", "yes", *starts, *["h0"] * len(states)],
                [*(f"f{i}" for i in range(len(chosen))), *(f"{s}T" for s in states), "y"], name="loop", body=body)
    return whole(made, constants)


def scan(steps: Sequence[Any], states: Sequence[str], constants: dict[str, Array]) -> Any:
    body = helper.make_graph([*steps, node("Identity", ["hn"], ["out"])], "body",
                             [*(info(s, (None, HIDDEN)) for s in states), info("xt", (None, WIDTH))],
                             [*(info(f"{s}n", (None, HIDDEN)) for s in states), info("out", (None, HIDDEN))])
    made = node("Scan", [*["h0"] * len(states), "x"], [*(f"{s}T" for s in states), "y"], name="loop", body=body,
                num_scan_inputs=1)
    return whole(made, constants)


def whole(made: Any, constants: dict[str, Array]) -> Any:
    before = [node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["T"]),
              node("Slice", ["shape", "at1", "at2", "at0"], ["b1"]), node("Concat", ["b1", "width"], ["hs"], axis=0),
              node("ConstantOfShape", ["hs"], ["h0"])]
    own: dict[str, Array] = {
        "zero": np.array(0), "one": np.array(1), "yes": np.array(True), "at0": np.array([0]), "at1": np.array([1]),
        "at2": np.array([2]), "width": np.array([HIDDEN])}
    return model([*before, made], [info("x", ("time", "batch", WIDTH))],
                 [info("y", (None, None, HIDDEN)), info("hT", (None, HIDDEN))], {**own, **constants}, 18)


def is_raised(made: Any, what: str) -> None:
    compiled = rg.compile(made)
    assert type(compiled) is rg.CompiledModel
    assert f"raise-rnn: loop: the scan is {what}" in compiled.explain()
    for shape in ((5, 2, WIDTH), (1, 3, WIDTH)):
        x = 2 * array(*shape)
        for got, want in zip(compiled(x), runtime(made, {"x": x}), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", [LSTM_ORDERS[0], *LSTM_ORDERS[5::6], *(
    pytest.param(o, marks=pytest.mark.slow) for i, o in enumerate(LSTM_ORDERS[1:], 1) if i % 6 != 5)])
def test_gates_of_an_lstm_in_any_order(order: str) -> None:
    constants: dict[str, Array] = {}
    is_raised(scan(lstm(order, "separate", "one", constants), "hc", constants), "an LSTM")


@pytest.mark.parametrize("order", GRU_ORDERS[:2])
def test_gates_of_a_gru_in_any_order(order: str) -> None:
    constants: dict[str, Array] = {}
    is_raised(loop(gru(order, "separate", "one", constants), "h", constants, ()), "a GRU (reset before the matmul)")


@pytest.mark.parametrize("biases", BIASES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_and_biases_of_an_lstm(weights: str, biases: str) -> None:
    constants: dict[str, Array] = {}
    is_raised(loop(lstm("igfo", weights, biases, constants), "hc", constants, ()), "an LSTM")


@pytest.mark.parametrize(("weights", "biases"), [("[x,h]", "one"), ("[h,x]", "two"), ("transposed", "on each side")])
def test_weights_and_biases_of_a_gru(weights: str, biases: str) -> None:
    constants: dict[str, Array] = {}
    is_raised(scan(gru("zrn", weights, biases, constants), "h", constants), "a GRU (reset before the matmul)")


@pytest.mark.parametrize("states", ["hc", "ch"])
@pytest.mark.parametrize("extra", [["kept"], ["counts"], ["last output"], ["sums"], ["kept", "counts", "last output"]])
def test_carries_that_nothing_needs(extra: list[str], states: str) -> None:
    """One that stays, a counter, the last output again, a sum that no output of the model reads; h or c first."""
    constants: dict[str, Array] = {}
    is_raised(loop(lstm("ifgo", "separate", "two", constants), states, constants, extra), "an LSTM")
