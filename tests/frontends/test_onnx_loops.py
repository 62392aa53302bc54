"""If, Scan and Loop against ONNX Runtime: known and computed conditions, sizes as trip counts, captures, directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import rnngraph as rg
from rnngraph.errors import ImportModelError
from rnngraph.ir import Array
from tests.frontends.onnx_graphs import info, model, runtime

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 2, 3)).astype(np.float32)
WEIGHTS = {n: (0.5 * RNG.standard_normal((3, 3))).astype(np.float32) for n in "uw"}
H0 = RNG.standard_normal((2, 3)).astype(np.float32)


def same(made: Any, inputs: dict[str, Array]) -> rg.CompiledModel:
    compiled = rg.compile(made)
    for name, expected in zip(compiled.output_names, runtime(made, inputs), strict=True):
        np.testing.assert_allclose(compiled.run(inputs)[name], expected, rtol=0, atol=1e-5)
    return compiled


def branch(op: str, out: str) -> Any:
    return helper.make_graph([helper.make_node(op, ["x"], [out])], op, [], [info(out, ("b", 3))])


def if_model(condition: list[Any], inputs: list[Any]) -> Any:
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Tanh", "t"), else_branch=branch("Neg", "n"))
    return model([*condition, node], [info("x", ("b", 3)), *inputs], [info("y", (None, 3))], {"two": np.array(2)}, 14)


def test_a_known_condition_leaves_one_branch() -> None:
    constant = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", TensorProto.BOOL, [], [False]))
    compiled = same(if_model([constant], []), {"x": H0})
    assert "neg" in str(compiled.program.graph)
    assert "tanh" not in str(compiled.program.graph)


def test_a_condition_on_an_input_makes_a_program_for_each_value() -> None:
    made = if_model([], [info("c", (), "bool")])
    for flag in (True, False):
        same(made, {"x": H0, "c": np.array(flag)})


def test_a_condition_on_a_size_makes_a_program_for_each_size() -> None:
    condition = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Slice", ["s", "zero", "one"], ["b"]),
                 helper.make_node("Greater", ["b", "two"], ["c"])]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Tanh", "t"), else_branch=branch("Neg", "n"))
    made = model([*condition, node], [info("x", ("b", 3))], [info("y", (None, 3))],
                 {"two": np.array([2]), "zero": np.array([0]), "one": np.array([1])}, 14)
    for x in (H0, np.concatenate([H0, H0])):
        same(made, {"x": x})


def test_a_computed_condition_selects() -> None:
    condition = [helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
                 helper.make_node("Greater", ["m", "zero"], ["c"])]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Tanh", "t"), else_branch=branch("Neg", "n"))
    made = model([*condition, node], [info("x", ("b", 3))], [info("y", (None, 3))],
                 {"zero": np.array(0, np.float32)}, 14)
    for x in (np.abs(H0), -np.abs(H0)):
        same(made, {"x": x})


def step() -> list[Any]:
    return [helper.make_node("MatMul", ["h", "w"], ["p"]), helper.make_node("MatMul", ["xt", "u"], ["q"]),
            helper.make_node("Add", ["p", "q"], ["s"]), helper.make_node("Tanh", ["s"], ["hn"]),
            helper.make_node("Identity", ["hn"], ["o"])]


@pytest.mark.parametrize(("direction", "out_direction"), [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("axis", [0, 1])
def test_scan(axis: int, direction: int, out_direction: int) -> None:
    shape = ("t", 2, 3) if axis == 0 else (2, "t", 3)
    body = helper.make_graph(step(), "body", [info("h", (2, 3)), info("xt", (2, 3))],
                             [info("hn", (2, 3)), info("o", (2, 3))])
    node = helper.make_node("Scan", ["h0", "x"], ["hT", "y"], num_scan_inputs=1, body=body, scan_input_axes=[axis],
                            scan_input_directions=[direction], scan_output_axes=[1 - axis],
                            scan_output_directions=[out_direction], name="rec")
    made = model([node], [info("h0", (2, 3)), info("x", shape)], [info("hT", (2, 3)), info("y", (None, None, None))],
                 WEIGHTS, 14)
    compiled = same(made, {"h0": H0, "x": X if axis == 0 else X.transpose(1, 0, 2).copy()})
    same(made, {"h0": H0, "x": X[:1] if axis == 0 else X[:1].transpose(1, 0, 2).copy()})
    raised = next(p for p in compiled.report.passes if p.name == "raise-rnn")
    assert "mode = rnn_tanh" in raised.after, "a Scan that is a simple RNN is raised"


def loop_model(trips: list[Any], trip: str, condition: str, body_condition: list[Any], *, outputs: bool = True) -> Any:
    body = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["xt"], axis=0), *step(), *body_condition], "body",
        [info("i", (), "i64"), info("c", (), "bool"), info("h", (2, 3))],
        [info("cn", (), "bool"), info("hn", (2, 3)), *([info("o", (2, 3))] if outputs else [])])
    node = helper.make_node("Loop", [trip, condition, "h0"], ["hT", *(["y"] if outputs else [])], body=body, name="rec")
    return model([*trips, node], [info("h0", (2, 3)), info("x", ("t", 2, 3))],
                 [info("hT", (2, 3)), *([info("y", (None, 2, 3))] if outputs else [])],
                 {**WEIGHTS, "zero": np.array(0), "yes": np.array(True),
                  "limit": np.array(0.5, np.float32), "three": np.array(3)}, 14)


KEEP = [helper.make_node("Identity", ["c"], ["cn"])]
LENGTH = [helper.make_node("Shape", ["x"], ["sh"]), helper.make_node("Gather", ["sh", "zero"], ["n"])]


def test_a_loop_over_the_steps_of_a_sequence() -> None:
    made = loop_model(LENGTH, "n", "yes", KEEP)
    for steps in (4, 1):
        same(made, {"h0": H0, "x": X[:steps]})


def test_a_loop_of_constant_length() -> None:
    same(loop_model([], "three", "", KEEP), {"h0": H0, "x": X})


def test_a_computed_condition_ends_a_loop() -> None:
    until = [helper.make_node("ReduceMax", ["hn"], ["m"], keepdims=0), helper.make_node("Less", ["m", "limit"], ["cn"])]
    made = loop_model(LENGTH, "n", "yes", until, outputs=False)
    for scale in (0.0, 0.01, 1.0):
        same(made, {"h0": (H0 * scale).astype(np.float32), "x": (X * scale).astype(np.float32)})
    with pytest.raises(ImportModelError, match="the length of its scan outputs is known only when the model runs"):
        rg.compile(loop_model(LENGTH, "n", "yes", until))


def test_a_loop_whose_state_grows_is_unrolled() -> None:
    body = helper.make_graph(
        [helper.make_node("Concat", ["s", "h0"], ["sn"], axis=0), helper.make_node("Identity", ["c"], ["cn"])], "body",
        [info("i", (), "i64"), info("c", (), "bool"), info("s", ("k", 3))],
        [info("cn", (), "bool"), info("sn", ("m", 3))])
    node = helper.make_node("Loop", ["three", "", "h0"], ["y"], body=body)
    made = model([node], [info("h0", (2, 3))], [info("y", (None, 3))], {"three": np.array(3)}, 14)
    same(made, {"h0": H0})


@pytest.mark.parametrize("lengths", [None, [4, 2, 3]])
@pytest.mark.parametrize("direction", [0, 1])
def test_scan_of_opset_8_has_rows_of_their_own(direction: int, lengths: list[int] | None) -> None:
    """The batch stands in front of everything, the body sees one row, and a row may be shorter."""
    body = helper.make_graph(
        [helper.make_node("Mul", ["h", "w"], ["p"]), helper.make_node("Add", ["p", "xt"], ["s"]),
         helper.make_node("Tanh", ["s"], ["hn"]), helper.make_node("Identity", ["hn"], ["o"])], "body",
        [info("h", (3,)), info("xt", (3,))], [info("hn", (3,)), info("o", (3,))])
    names = ["" if lengths is None else "n", "h0", "x"]
    node = helper.make_node("Scan", names, ["hT", "y"], num_scan_inputs=1, body=body, directions=[direction])
    inputs = [info("h0", ("b", 3)), info("x", ("b", "t", 3)), *([info("n", ("b",), "i64")] if lengths else [])]
    made = model([node], inputs, [info("hT", (None, 3)), info("y", (None, None, 3))],
                 {"w": np.array([0.5, -0.3, 0.8], np.float32)}, 8)
    x = RNG.standard_normal((3, 4, 3)).astype(np.float32)
    given = {"h0": RNG.standard_normal((3, 3)).astype(np.float32), "x": x}
    same(made, given if lengths is None else given | {"n": np.array(lengths)})


def test_a_loop_within_a_loop() -> None:
    """The inner one reads the outer one's step and state, and a value from outside of both."""
    inner = helper.make_graph(
        [helper.make_node("Mul", ["g", "half"], ["m"]), helper.make_node("Add", ["m", "h"], ["gn"]),
         helper.make_node("Identity", ["ci"], ["cin"])], "inner",
        [info("j", (), "i64"), info("ci", (), "bool"), info("g", (2, 3))],
        [info("cin", (), "bool"), info("gn", (2, 3))])
    outer = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["xt"], axis=0),
         helper.make_node("Loop", ["three", "", "xt"], ["f"], body=inner), helper.make_node("Tanh", ["f"], ["hn"]),
         helper.make_node("Identity", ["hn"], ["o"]), helper.make_node("Identity", ["c"], ["cn"])], "outer",
        [info("i", (), "i64"), info("c", (), "bool"), info("h", (2, 3))],
        [info("cn", (), "bool"), info("hn", (2, 3)), info("o", (2, 3))])
    node = helper.make_node("Loop", ["n", "", "h0"], ["hT", "y"], body=outer)
    made = model([*LENGTH, node], [info("h0", (2, 3)), info("x", ("t", 2, 3))],
                 [info("hT", (2, 3)), info("y", (None, 2, 3))],
                 {"half": np.array(0.5, np.float32), "zero": np.array(0), "three": np.array(3)}, 14)
    for steps in (4, 1):
        same(made, {"h0": H0, "x": X[:steps]})


def test_branches_within_branches_and_in_a_loop() -> None:
    """An If in a loop's body on what the step computes: both branches, selected."""
    branches = [helper.make_graph([helper.make_node(op, ["s"], [f"{op}o"])], op, [], [info(f"{op}o", (2, 3))])
                for op in ("Tanh", "Neg")]
    body = helper.make_graph(
        [helper.make_node("Add", ["h", "xt"], ["s"]), helper.make_node("ReduceMax", ["s"], ["m"], keepdims=0),
         helper.make_node("Greater", ["m", "limit"], ["big"]),
         helper.make_node("If", ["big"], ["hn"], then_branch=branches[0], else_branch=branches[1]),
         helper.make_node("Identity", ["hn"], ["o"])], "body",
        [info("h", (2, 3)), info("xt", (2, 3))], [info("hn", (2, 3)), info("o", (2, 3))])
    node = helper.make_node("Scan", ["h0", "x"], ["hT", "y"], num_scan_inputs=1, body=body)
    made = model([node], [info("h0", (2, 3)), info("x", ("t", 2, 3))], [info("hT", (2, 3)), info("y", (None, 2, 3))],
                 {"limit": np.array(1.0, np.float32)}, 14)
    same(made, {"h0": H0, "x": X})


def test_a_loop_that_its_state_may_end_before_its_counter_does() -> None:
    """It runs as often as the counter says at most, so that its rows are read as a sequence."""
    body = helper.make_graph(
        [helper.make_node("Gather", ["x", "k"], ["xt"], axis=0), helper.make_node("Add", ["h", "xt"], ["hn"]),
         helper.make_node("Add", ["k", "one"], ["kn"]), helper.make_node("Less", ["kn", "T"], ["more"]),
         helper.make_node("ReduceMax", ["hn"], ["m"], keepdims=0), helper.make_node("Less", ["m", "limit"], ["small"]),
         helper.make_node("And", ["more", "small"], ["go_on"])], "body",
        [info("i", (), "i64"), info("c", (), "bool"), info("k", (), "i64"), info("h", (2, 3))],
        [info("go_on", (), "bool"), info("kn", (), "i64"), info("hn", (2, 3))])
    first = [*LENGTH, helper.make_node("Identity", ["n"], ["T"]), helper.make_node("Less", ["zero", "T"], ["start"])]
    node = helper.make_node("Loop", ["", "start", "zero", "h0"], ["k", "hT"], body=body)
    made = model([*first, node], [info("h0", (2, 3)), info("x", ("t", 2, 3))],
                 [info("hT", (2, 3)), info("k", (), "i64")],
                 {"limit": np.array(2.0, np.float32), "zero": np.array(0), "one": np.array(1)}, 14)
    for x in (X, X[:1], np.abs(X) + 1, -np.abs(X)):
        same(made, {"h0": H0, "x": x})
    assert "a step reads its own place of %x" in rg.compile(made).explain()
