"""Loops that write what their steps give into a state, by Concat or Scatter, and that read slices at their step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph.ir import Array
from tests.frontends.onnx_graphs import info, model, runtime

BATCH, WIDTH = 2, 3
RNG = np.random.default_rng(0)
CONSTANTS: dict[str, Array] = {
    "W": RNG.standard_normal((WIDTH, WIDTH)).astype(np.float32),
    "U": RNG.standard_normal((WIDTH, WIDTH)).astype(np.float32), "zero": np.array(0), "one": np.array(1),
    "yes": np.array(True), "at0": np.array([0]), "at1": np.array([1]), "two": np.array(2), "width": np.array([WIDTH]),
    "batch1": np.array([1, 1, 1]), "ends": np.array([10**9]), "strides": np.array([10**9])}
node = helper.make_node
READ = [node("Gather", ["x", "it"], ["xt"], axis=0)]
CELL = [node("MatMul", ["h", "W"], ["r"]), node("MatMul", ["xt", "U"], ["u"]),
        node("Add", ["u", "r"], ["a"]), node("Tanh", ["a"], ["hn"])]
ROW = [node("Unsqueeze", ["hn", "at0"], ["row"])]
BEFORE = [node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["T"]),
          node("Slice", ["shape", "at1", "s2", "at0"], ["b1"]), node("Concat", ["b1", "width"], ["hs"], axis=0),
          node("ConstantOfShape", ["hs"], ["h0"]), node("ConstantOfShape", ["shape"], ["zeros"])]


def loop(steps: list[Any], start: str, *, read: list[Any] | None = None, before: list[Any] | None = None,
         extra: list[Any] | None = None, count: str = "T") -> Any:
    """h and ys are carried; ``start`` is what ys is at first."""
    body = helper.make_graph(
        [*(READ if read is None else read), *CELL, *ROW, *steps, node("Identity", ["go"], ["stay"])], "body",
        [info("it", (), "i64"), info("go", (), "bool"), info("h", (None, WIDTH)), info("ys", (None, None, WIDTH))],
        [info("stay", (), "bool"), info("hn", (None, WIDTH)), info("yn", (None, None, WIDTH)), *(extra or [])])
    outs = ["hT", "y", *(f"e{i}" for i in range(len(extra or [])))]
    made = node("Loop", [count, "yes", "h0", start], outs, name="loop", body=body)
    return model([*BEFORE, *(before or []), made], [info("x", ("time", "batch", WIDTH))],
                 [info("hT", (None, WIDTH)), info("y", (None, None, WIDTH)),
                  *(info(o, (None, None, WIDTH)) for o in outs[2:])], {**CONSTANTS, "s2": np.array([2])}, 18)


def same(made: Any, *steps: int) -> rg.CompiledModel:
    compiled = rg.compile(made)
    assert type(compiled) is rg.CompiledModel, "one program for all sizes"
    for count in steps:
        x = RNG.standard_normal((count, BATCH, WIDTH)).astype(np.float32)
        for got, want in zip(compiled(x), runtime(made, {"x": x}), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    return compiled


PLACES = [node("Unsqueeze", ["it", "at0"], ["i1"])]
LAST = [node("Sub", ["T", "one"], ["last"])]
WRITES = {
    "behind": ([node("Concat", ["ys", "row"], ["yn"], axis=0)], "none"),
    "in front": ([node("Concat", ["row", "ys"], ["yn"], axis=0)], "none"),
    "two rows": ([node("Neg", ["row"], ["n"]), node("Concat", ["ys", "row", "n"], ["yn"], axis=0)], "none"),
    "behind what is there": ([node("Concat", ["ys", "row"], ["yn"], axis=0)], "x"),
    "ScatterND": ([*PLACES, node("Unsqueeze", ["i1", "at0"], ["at"]), node("ScatterND", ["ys", "at", "row"], ["yn"])],
                  "zeros"),
    "ScatterND backwards": ([node("Sub", ["last", "it"], ["b"]), node("Reshape", ["b", "ones"], ["at"]),
                             node("ScatterND", ["ys", "at", "row"], ["yn"])], "zeros"),
    "ScatterElements": ([node("Reshape", ["it", "batch1"], ["i3"]), node("Shape", ["row"], ["rs"]),
                         node("Expand", ["i3", "rs"], ["at"]),
                         node("ScatterElements", ["ys", "at", "row"], ["yn"], axis=0)], "zeros"),
}


@pytest.mark.parametrize("how", WRITES)
def test_what_a_step_writes_is_an_output(how: str) -> None:
    steps, start = WRITES[how]
    before = [*LAST, node("Slice", ["x", "at0", "at0", "at0"], ["none"]),
              node("Concat", ["at1", "at1"], ["ones"], axis=0)]
    compiled = same(loop(steps, start, before=before), 5, 1)
    assert "raise-rnn: loop: the scan is an RNN (tanh)" in compiled.explain()
    names = {op.name for op in compiled.program.graph.walk()}
    assert not names & {"scatter_nd", "scatter_elements"}


def test_a_state_that_is_read_too_stays_a_state() -> None:
    """The scan has it, with its Scatter; the numbers are right."""
    steps = [*PLACES, node("Unsqueeze", ["i1", "at0"], ["at"]), node("ScatterND", ["ys", "at", "row"], ["yn"]),
             node("ReduceSum", ["ys", "at0"], ["e"], keepdims=0)]
    compiled = same(loop(steps, "zeros", extra=[info("e", (None, WIDTH))]), 5, 1)
    assert "scatter_nd" in {op.name for op in compiled.program.graph.walk()}


def test_a_place_that_may_be_missing_stays_a_write() -> None:
    steps = [node("Add", ["it", "two"], ["j"]), node("Reshape", ["j", "ones"], ["at"]),
             node("ScatterND", ["ys", "at", "row"], ["yn"])]
    before = [node("Concat", ["at1", "at1"], ["ones"], axis=0), *LAST]
    compiled = rg.compile(loop(steps, "zeros", before=before, count="last"))
    assert "scatter_nd" in {op.name for op in compiled.program.graph.walk()}
    with pytest.raises(rg.errors.InputError, match="indices must be in"):
        compiled(np.zeros((3, BATCH, WIDTH), np.float32))


SLICES = {
    "one place": ([node("Add", ["it", "one"], ["e"]), node("Unsqueeze", ["e", "at0"], ["e1"]),
                   node("Slice", ["x", "i1", "e1", "at0"], ["w"])], "T"),
    "a stride beyond the axis": ([node("Slice", ["x", "i1", "ends", "at0", "strides"], ["w"])], "T"),
    "a window": ([node("Add", ["it", "two"], ["e"]), node("Unsqueeze", ["e", "at0"], ["e1"]),
                  node("Slice", ["x", "i1", "e1", "at0"], ["w"])], "last"),
    "with another axis": ([node("Concat", ["at0", "i1"], ["ss"], axis=0), node("Add", ["i1", "at1"], ["e1"]),
                           node("Concat", ["ends", "e1"], ["es"], axis=0),
                           node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
                           node("Slice", ["turned", "ss", "es"], ["v"]),
                           node("Transpose", ["v"], ["w"], perm=[1, 0, 2])],
                          "T"),
}


@pytest.mark.parametrize("how", SLICES)
def test_a_slice_at_the_step(how: str) -> None:
    steps, count = SLICES[how]
    read = [*PLACES, *steps, node("ReduceMax", ["w", "at0"], ["xt"], keepdims=0)]
    write = [node("Concat", ["ys", "row"], ["yn"], axis=0)]
    before = [*LAST, node("Slice", ["x", "at0", "at0", "at0"], ["none"])]
    compiled = same(loop(write, "none", read=read, before=before, count=count), 5, 2)
    if how != "a window":
        assert "raise-rnn: loop: the scan is an RNN (tanh)" in compiled.explain()
