"""Recurrences written as Loop, in the forms of tf2onnx and of scripted PyTorch: scans over their sequences, raised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import rnngraph as rg
from rnngraph.ir import Array, Op, Scan
from tests.frontends.onnx_graphs import info, model, runtime

STEPS, BATCH, WIDTH, HIDDEN = 5, 2, 3, 4
RNG = np.random.default_rng(0)
node = helper.make_node


def array(*shape: int) -> Array:
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


CONSTANTS: dict[str, Array] = {
    "W": array(WIDTH, 4 * HIDDEN), "R": array(HIDDEN, 4 * HIDDEN), "b": array(4 * HIDDEN), "zero": np.array(0),
    "one": np.array(1), "i0": np.array(0, np.int32), "i1": np.array(1, np.int32), "endless": np.array(2**63 - 1),
    "yes": np.array(True), "at0": np.array([0]), "at1": np.array([1]), "at2": np.array([2]),
    "width": np.array([HIDDEN])}


def lstm(read: list[Any], gate: str) -> list[Any]:
    """One step from `xt`, `h` and `c`; the gates are i f g o."""
    parts = ["gi", "gf", "gg", "go"]
    return [*read, node("MatMul", ["xt", "W"], ["a"]), node("MatMul", ["h", "R"], ["r"]),
            node("Add", ["a", "r"], ["ar"]),
            node("Add", ["ar", "b"], ["s"]), node("Split", ["s"], parts, axis=1, num_outputs=4),
            *(node(gate, [p], [f"s{p}"]) for p in ("gi", "gf", "go")), node("Tanh", ["gg"], ["tg"]),
            node("Mul", ["sgi", "tg"], ["new"]), node("Mul", ["sgf", "c"], ["old"]),
            node("Add", ["new", "old"], ["cn"]),
            node("Tanh", ["cn"], ["tc"]), node("Mul", ["sgo", "tc"], ["hn"]), node("Identity", ["hn"], ["out"])]


def zeros(x: str, batch_axis: int) -> list[Any]:
    """h0 and c0 as exporters write them: by the shape of x."""
    value = numpy_helper.from_array(np.zeros(1, np.float32))
    return [node("Shape", [x], ["shape_b"]),
            node("Slice", ["shape_b", f"at{batch_axis}", f"at{batch_axis + 1}", "at0"], ["b1"]),
            node("Concat", ["b1", "width"], ["hshape"], axis=0),
            node("ConstantOfShape", ["hshape"], ["h0"], value=value)]


def graph(body: list[Any], counters: list[str]) -> Any:
    states = [info("h", (None, HIDDEN)), info("c", (None, HIDDEN))]
    return helper.make_graph(
        body, "body", [info("it", (), "i64"), info("go_on", (), "bool"), *(info(c, (), "i32") for c in counters),
                       *states],
        [info("stay", (), "bool"), *(info(f"{c}_n", (), "i32") for c in counters), info("hn", (None, HIDDEN)),
         info("cn", (None, HIDDEN)), info("out", (None, HIDDEN))])


def below(a: str, out: str, comparison: str) -> list[Any]:
    """a < T, in three spellings."""
    if comparison == "Not":
        return [node("GreaterOrEqual", [a, "T"], [f"{out}_not"]), node("Not", [f"{out}_not"], [out])]
    return [node(comparison, [a, "T"] if comparison == "Less" else ["T", a], [out])]


def tf2onnx(gate: str = "Sigmoid", comparison: str = "Less") -> Any:
    """Counters that are carried, a condition on them, x read at one of them."""
    before = [node("Transpose", ["x"], ["xs"], perm=[1, 0, 2]), node("Shape", ["xs"], ["shape"]),
              node("Cast", ["shape"], ["shape32"], to=TensorProto.INT32),
              node("Slice", ["shape32", "at0", "at1", "at0"], ["t1"]),
              node("Squeeze", ["t1", "at0"], ["T"]), *zeros("x", 0)]
    body = [*lstm([node("Gather", ["xs", "time"], ["xt"], axis=0)], gate),
        node("Add", ["time", "i1"], ["time_n"]), node("Add", ["loop", "i1"], ["loop_n"]),
        *below("time_n", "k1", comparison),
        *below("loop_n", "k2", comparison), node("And", ["k1", "k2"], ["stay"])]
    loop = node("Loop", ["endless", "start", "i0", "i0", "h0", "h0"], ["f1", "f2", "hT", "cT", "ys"], name="while",
                body=graph(body, ["loop", "time"]))
    return model([*before, *below("i0", "start", comparison), loop, node("Transpose", ["ys"], ["y"], perm=[1, 0, 2])],
                 [info("x", ("batch", "time", WIDTH))], [info("y", (None, None, HIDDEN)), info("hT", (None, HIDDEN))],
                 CONSTANTS, 18)


def counted(read: list[Any]) -> Any:
    """So many steps; x is read at the number of the step, or where ``read`` says."""
    before = [node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["T"]),
              node("Sub", ["T", "one"], ["last"]),
              *zeros("x", 1)]
    loop = node("Loop", ["T", "yes", "h0", "h0"], ["hT", "cT", "y"], name="loop",
                body=graph([*lstm(read, "Sigmoid"), node("Identity", ["go_on"], ["stay"])], []))
    return model([*before, loop], [info("x", ("time", "batch", WIDTH))],
                 [info("y", (None, None, HIDDEN)), info("hT", (None, HIDDEN))], CONSTANTS, 18)


def same(made: Any, *shapes: tuple[int, ...]) -> rg.CompiledModel:
    compiled = rg.compile(made)
    assert type(compiled) is rg.CompiledModel, "one program for all sizes"
    for shape in shapes:
        x = array(*shape)
        for got, expected in zip(compiled(x), runtime(made, {"x": x}), strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    return compiled


def ops(compiled: rg.CompiledModel, name: str) -> list[Op]:
    return [op for op in compiled.program.graph.walk() if op.name == name]


@pytest.mark.parametrize("comparison", ["Less", "Greater", "Not"])
def test_a_while_loop_of_tf2onnx_is_an_lstm(comparison: str) -> None:
    compiled = same(tf2onnx(comparison=comparison), (BATCH, STEPS, WIDTH), (1, 1, WIDTH), (3, 9, WIDTH))
    assert "raise-rnn: while: the scan is an LSTM" in compiled.explain()


def test_a_hard_sigmoid_lstm_of_tf2onnx_is_a_scan_over_its_sequence() -> None:
    compiled = same(tf2onnx("HardSigmoid"), (BATCH, STEPS, WIDTH), (1, 1, WIDTH))
    (scan,) = ops(compiled, "scan")
    assert scan.impl == "llvm.scan"
    assert Scan(scan).attrs.carries == ("s2", "s3"), "the counters are gone"
    assert not ops(compiled, "take")


READS = {
    "step": ([node("Gather", ["x", "it"], ["xt"], axis=0)], False),
    "vector": ([node("Unsqueeze", ["it", "at0"], ["at"]), node("Gather", ["x", "at"], ["row"], axis=0),
                node("Squeeze", ["row", "at0"], ["xt"])], False),
    "from the end": ([node("Sub", ["last", "it"], ["back"]), node("Gather", ["x", "back"], ["xt"], axis=0)], True),
}


@pytest.mark.parametrize("how", READS)
def test_a_counted_loop_that_reads_a_row_a_step_is_an_lstm(how: str) -> None:
    read, backwards = READS[how]
    compiled = same(counted(read), (STEPS, BATCH, WIDTH), (1, 3, WIDTH))
    assert "raise-rnn: loop: the scan is an LSTM" in compiled.explain()
    assert bool(ops(compiled, "reverse")) == backwards


def test_rows_that_may_be_missing_stay_reads() -> None:
    """Step i reads row i + 1, which the last step does not have: nothing to iterate over."""
    read = [node("Add", ["it", "one"], ["next"]), node("Gather", ["x", "next"], ["xt"], axis=0)]
    compiled = rg.compile(counted(read))
    assert "nothing shows that these are within it" in compiled.explain()
    with pytest.raises(rg.errors.InputError, match="indices must be in"):
        compiled(array(STEPS, BATCH, WIDTH))


def masked(padding: str, past: str) -> Any:
    """tf.nn.dynamic_rnn with sequence_length: from a row's length on states stay, outputs are 0 or the state."""
    where = [node("Unsqueeze", ["seq", "at1"], ["seq2"]), node("Gather", ["x", "time"], ["xt"], axis=0),
             *({"GreaterOrEqual": [node("GreaterOrEqual", ["time", "seq2"], ["past"])],
                "Less": [node("Less", ["time", "seq2"], ["active"]), node("Not", ["active"], ["past"])],
                "Greater": [node("Greater", ["seq2", "time"], ["active"]), node("Not", ["active"], ["past"])]}[past])]
    made = [n for n in lstm(where, "Sigmoid") if n.output[0] != "out"]
    for n in made:  # what a step gives is chosen between
        n.output[:] = [{"hn": "h_new", "cn": "c_new"}.get(o, o) for o in n.output]
        n.input[:] = [{"cn": "c_new"}.get(i, i) for i in n.input]
    chosen = [node("Where", ["past", "h", "h_new"], ["hn"]), node("Where", ["past", "c", "c_new"], ["cn"]),
              node("Where", ["past", "nothing", "h_new"], ["out"]) if padding == "zero" else
              node("Identity", ["hn"], ["out"])]
    body = [*made, *chosen, node("Add", ["time", "i1"], ["time_n"]), node("Less", ["time_n", "T"], ["stay"])]
    before = [node("Shape", ["x"], ["shape"]), node("Cast", ["shape"], ["shape32"], to=TensorProto.INT32),
              node("Gather", ["shape32", "zero"], ["T"]), node("Less", ["i0", "T"], ["start"]), *zeros("x", 1)]
    loop = node("Loop", ["endless", "start", "i0", "h0", "h0"], ["f", "hT", "cT", "y"], name="while",
                body=graph(body, ["time"]))
    return model([*before, loop], [info("x", ("time", "batch", WIDTH)), info("seq", ("batch",), "i32")],
                 [info("y", (None, None, HIDDEN)), info("hT", (None, HIDDEN)), info("f", (), "i32")],
                 {**CONSTANTS, "nothing": np.zeros((), np.float32)}, 18)


@pytest.mark.parametrize("past", ["GreaterOrEqual", "Less", "Greater"])
@pytest.mark.parametrize("padding", ["zero", "repeat"])
def test_a_mask_made_of_lengths(padding: str, past: str) -> None:
    made = masked(padding, past)
    compiled = rg.compile(made)
    for lengths in ([5, 2, 3], [9, 0, -1], [5, 5, 5]):
        inputs = {"x": array(STEPS, 3, WIDTH), "seq": np.array(lengths, np.int32)}
        for got, expected in zip(compiled(**inputs), runtime(made, inputs), strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    said = compiled.explain()
    assert "while: its mask compares the step with %seq: now the lengths of the scan" in said
    assert "raise-rnn: while: the scan is an LSTM" in said


@pytest.mark.parametrize(("made", "lengths"), [
    (tf2onnx(), None), (masked("zero", "Less"), [5, 2, 3]), (masked("repeat", "Greater"), [4, 1, 5])])
def test_loops_go_out_as_lstm_nodes(made: Any, lengths: list[int] | None) -> None:
    out = rg.to_onnx(made)
    kinds = [n.op_type for n in out.graph.node]
    assert kinds.count("LSTM") == 1
    assert not {"Loop", "Scan"} & set(kinds)
    inputs = {"x": array(STEPS, 3, WIDTH)} | ({} if lengths is None else {"seq": np.array(lengths, np.int32)})
    for got, expected in zip(runtime(out, inputs), runtime(made, inputs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("told", ["size", "number"])
def test_a_whole_reversal_with_lengths_is_a_reversal(told: str) -> None:
    """tf2onnx writes tf.reverse as ReverseSequence, each length being the size of the axis."""
    steps = "time" if told == "size" else STEPS
    before = [node("Shape", ["x"], ["shape"]), node("Slice", ["shape", "at1", "at2", "at0"], ["t1"]),
              node("Slice", ["shape", "at0", "at1", "at0"], ["b1"]), node("Expand", ["t1", "b1"], ["n"])]
    turned = node("ReverseSequence", ["x", "n"], ["y"], time_axis=1, batch_axis=0)
    made = model([*before, turned, node("Neg", ["y"], ["z"])], [info("x", ("batch", steps, WIDTH))], ["y", "z"],
                 CONSTANTS, 18)
    compiled = same(made, (BATCH, STEPS, WIDTH), (1, STEPS, WIDTH))
    assert ops(compiled, "reverse")
    assert not ops(compiled, "gather_nd")


def test_a_reversal_of_a_part_stays_one() -> None:
    made = model([node("ReverseSequence", ["x", "n"], ["y"], time_axis=1, batch_axis=0), node("Neg", ["y"], ["z"])],
                 [info("x", (BATCH, STEPS, WIDTH))], ["y", "z"], {"n": np.array([STEPS, STEPS - 1])}, 18)
    assert ops(same(made, (BATCH, STEPS, WIDTH)), "gather_nd")


def test_a_range_of_sizes_has_their_dtype() -> None:
    before = [node("Shape", ["x"], ["shape"]), node("Cast", ["shape"], ["s32"], to=TensorProto.INT32),
              node("Gather", ["s32", "one"], ["T"]), node("Range", ["i1", "T", "i1"], ["places"]),
              node("Mul", ["places", "i1"], ["y"])]
    made = model(before, [info("x", ("batch", "time", WIDTH))], [info("y", (None,), "i32")], CONSTANTS, 18)
    (y,) = (rg.compile(made)(array(BATCH, STEPS, WIDTH)),)
    np.testing.assert_array_equal(y, np.arange(1, STEPS))
    assert np.asarray(y).dtype == np.int32


@pytest.mark.parametrize("axes", ["at0", "none"])
def test_sizes_reduced_over_axes_or_over_none(axes: str) -> None:
    """tf2onnx sets noop_with_empty_axes beside axes that are there."""
    before = [node("Shape", ["x"], ["shape"]), node("Slice", ["shape", "at1", "at2", "at0"], ["t1"]),
              node("ReduceMax", ["t1", axes], ["m"], keepdims=1, noop_with_empty_axes=1),
              node("ConstantOfShape", ["m"], ["y"]), node("Neg", ["y"], ["z"])]
    made = model(before, [info("x", ("batch", "time", WIDTH))], [info("y", (None,)), info("z", (None,))],
                 {**CONSTANTS, "none": np.zeros(0, np.int64)}, 18)
    same(made, (BATCH, STEPS, WIDTH), (1, 2, WIDTH))


def test_a_loop_without_a_count_whose_state_grows_is_unrolled() -> None:
    """Its condition compares a counter with a size; the state has one row more after each step."""
    body = helper.make_graph(
        [node("Add", ["k", "i1"], ["kn"]), node("Less", ["kn", "T"], ["stay"]),
         node("Slice", ["x", "at0", "at1", "at1"], ["first"]), node("Concat", ["ys", "first"], ["yn"], axis=1)],
        "body", [info("it", (), "i64"), info("go", (), "bool"), info("k", (), "i32"), info("ys", (None, None, WIDTH))],
        [info("stay", (), "bool"), info("kn", (), "i32"), info("yn", (None, None, WIDTH))])
    before = [node("Shape", ["x"], ["shape"]), node("Cast", ["shape"], ["s32"], to=TensorProto.INT32),
              node("Gather", ["s32", "one"], ["T"]), node("Less", ["i0", "T"], ["start"])]
    loop = node("Loop", ["", "start", "i0", "x"], ["kk", "y"], body=body)
    made = model([*before, loop], [info("x", ("batch", "time", WIDTH))],
                 [info("kk", (), "i32"), info("y", (None, None, WIDTH))], CONSTANTS, 18)
    compiled = rg.compile(made)
    for shape in ((BATCH, STEPS, WIDTH), (1, 2, WIDTH)):
        x = array(*shape)
        for got, want in zip(compiled(x), runtime(made, {"x": x}), strict=True):
            np.testing.assert_array_equal(got, want)
