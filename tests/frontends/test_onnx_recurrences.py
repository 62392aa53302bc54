"""rg.recurrences of ONNX models whose structure follows from values and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph.frontends.imported import NeedsSize, NeedsValue
from tests.frontends.onnx_graphs import info, model

RNG = np.random.default_rng(0)
WIDTH, HIDDEN = 3, 4


def lstm(name: str, hidden: int, y: str) -> tuple[Any, dict[str, Any]]:
    """An LSTM of x, and its weights."""
    node = helper.make_node("LSTM", ["x", f"{name}.w", f"{name}.r"], [y], name=name, hidden_size=hidden)
    return node, {f"{name}.w": RNG.standard_normal((1, 4 * hidden, WIDTH)).astype(np.float32),
                  f"{name}.r": RNG.standard_normal((1, 4 * hidden, hidden)).astype(np.float32)}


def by_rate() -> onnx.ModelProto:
    """An LSTM in each branch, as in models for several sampling rates."""
    low, weights = lstm("low", HIDDEN, "yl")
    high, more = lstm("high", 2 * HIDDEN, "yh")
    branches = [helper.make_graph([node], name, [], [helper.make_tensor_value_info(y, 1, None)])
                for node, name, y in ((low, "then", "yl"), (high, "else", "yh"))]
    nodes = [helper.make_node("Equal", ["sr", "rate"], ["is"]),
             helper.make_node("If", ["is"], ["y"], name="choice", then_branch=branches[0], else_branch=branches[1])]
    return model(nodes, [info("x", ("time", "batch", WIDTH)), info("sr", (), "i64")],
                 [helper.make_tensor_value_info("y", 1, None)], weights | more | {"rate": np.array(8000)})


@pytest.mark.parametrize(("rate", "layer", "hidden"), [
    (8000, "choice/low", HIDDEN), (16000, "choice/high", 2 * HIDDEN)])
def test_the_branch_of_the_example(rate: int, layer: str, hidden: int) -> None:
    x = np.zeros((5, 2, WIDTH), np.float32)
    (found,) = rg.recurrences(by_rate(), example_inputs=[x, np.array(rate)])
    assert (found.layer, found.form, found.hidden, found.steps, found.native) == (layer, "LSTM", hidden, "time", True)


def test_what_an_example_must_tell() -> None:
    with pytest.raises(NeedsValue, match="the value of input 'sr' must be known: node 'choice'"):
        rg.recurrences(by_rate())
    node, weights = lstm("low", HIDDEN, "yl")
    nodes = [helper.make_node("Squeeze", ["wide"], ["x"]), node]
    made = model(nodes, [info("wide", (1, "time", "batch", WIDTH))], [helper.make_tensor_value_info("yl", 1, None)],
                 weights)
    with pytest.raises(NeedsSize, match="must be known"):
        rg.recurrences(made)
    (found,) = rg.recurrences(made, example_inputs=[np.zeros((1, 7, 2, WIDTH), np.float32)])
    assert (found.layer, found.form, found.steps) == ("low", "LSTM", 7)
