"""Sound ONNX models for the mutator: small, and each with other ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.frontends.onnx_graphs import info, model

_RNG = np.random.default_rng(0)


def _w(*shape: int) -> Any:
    return _RNG.standard_normal(shape).astype(np.float32)


def _file(made: onnx.ModelProto) -> bytes:
    data: bytes = made.SerializeToString()
    return data


def recurrent(kind: str, gates: int, direction: str = "forward", **attributes: Any) -> bytes:
    """One recurrent node with its weights, lengths and an initial state."""
    n = 2 if direction == "bidirectional" else 1
    node = helper.make_node(kind, ["x", "w", "r", "b", "lengths", "h0"], ["y", "yh"], hidden_size=3,
                            direction=direction, **attributes)
    weights = {"w": _w(n, gates * 3, 2), "r": _w(n, gates * 3, 3), "b": _w(n, gates * 6)}
    return _file(model([node], [info("x", ("t", "b", 2)), info("lengths", ("b",), "i32"), info("h0", (n, "b", 3))],
                 [info("y", ("t", n, "b", 3)), info("yh", (n, "b", 3))], weights))


def shapes() -> bytes:
    """Shape arithmetic, slices, a split, a gather and a reshape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "zero"], ["b"]),
        helper.make_node("Unsqueeze", ["b", "axes"], ["b1"]),
        helper.make_node("Concat", ["b1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["r"]), helper.make_node("Transpose", ["r"], ["p"], perm=[0, 2, 1]),
        helper.make_node("Slice", ["p", "starts", "ends", "axes1"], ["c"]),
        helper.make_node("Split", ["c"], ["c0", "c1"], axis=2, num_outputs=2),
        helper.make_node("Add", ["c0", "c1"], ["a"]), helper.make_node("Expand", ["a", "wide"], ["e"]),
        helper.make_node("Pad", ["e", "pads"], ["q"]), helper.make_node("Softmax", ["q"], ["y"], axis=-1),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1, 4]), "starts": np.array([0]),
                 "ends": np.array([3]), "axes1": np.array([1]), "wide": np.array([1, 1, 1]),
                 "pads": np.array([0, 0, 1, 0, 0, 1])}
    made = model(nodes, [info("x", ("batch", 4, 8))], [info("y", (None, None, None))], constants, 18)
    return _file(made)


def network() -> bytes:
    """Convolution, normalisation, pooling, a dense layer."""
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"], pads=[1, 1], strides=[2], kernel_shape=[3]),
        helper.make_node("BatchNormalization", ["c", "g", "g", "g", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2], strides=[1]),
        helper.make_node("Flatten", ["m"], ["f"]), helper.make_node("Gemm", ["f", "d", "db"], ["z"], transB=1),
        helper.make_node("ReduceMean", ["z"], ["u"], axes=[-1], keepdims=1), helper.make_node("Sub", ["z", "u"], ["y"]),
    ]
    constants = {"k": _w(4, 2, 3), "kb": _w(4), "g": _w(4), "v": np.abs(_w(4)), "d": _w(5, 12), "db": _w(5)}
    return _file(model(nodes, [info("x", ("batch", 2, 8))], [info("y", ("batch", 5))], constants, 13))


def loop(kind: str) -> bytes:
    """A body that accumulates, in a Loop or a Scan."""
    body = helper.make_graph(
        [helper.make_node("Add", ["h", "xt"], ["s"]), helper.make_node("Tanh", ["s"], ["hn"]),
         helper.make_node("Identity", ["hn"], ["o"])], "body",
        [info("h", (2, 3)), info("xt", (2, 3))], [info("hn", (2, 3)), info("o", (2, 3))])
    if kind == "Scan":
        nodes = [helper.make_node("Scan", ["h0", "x"], ["h", "y"], num_scan_inputs=1, body=body)]
        return _file(model(nodes, [info("h0", (2, 3)), info("x", ("t", 2, 3))],
                           [info("h", (2, 3)), info("y", ("t", 2, 3))], opset=16))
    body = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["xt"], axis=0), helper.make_node("Add", ["h", "xt"], ["s"]),
         helper.make_node("Tanh", ["s"], ["hn"]), helper.make_node("Identity", ["hn"], ["o"]),
         helper.make_node("Identity", ["c"], ["cn"])], "body",
        [info("i", (), "i64"), info("c", (), "bool"), info("h", (2, 3))],
        [info("cn", (), "bool"), info("hn", (2, 3)), info("o", (2, 3))])
    nodes = [helper.make_node("Shape", ["x"], ["s0"]), helper.make_node("Gather", ["s0", "zero"], ["n"]),
             helper.make_node("Loop", ["n", "yes", "h0"], ["h", "y"], body=body)]
    return _file(model(nodes, [info("h0", (2, 3)), info("x", ("t", 2, 3))], [info("h", (2, 3)), info("y", ("t", 2, 3))],
                 {"zero": np.array(0), "yes": np.array(True)}, 16))


def branch() -> bytes:
    """An If on a constant, in it another on an input."""
    inner = [helper.make_graph([helper.make_node(op, ["x"], [f"{op}o"])], op, [], [info(f"{op}o", (2, 3))])
             for op in ("Relu", "Tanh")]
    outer = [helper.make_graph([helper.make_node("If", ["flag"], ["io"], then_branch=inner[0], else_branch=inner[1])],
                               "a", [], [info("io", (2, 3))]),
             helper.make_graph([helper.make_node("Neg", ["x"], ["no"])], "b", [], [info("no", (2, 3))])]
    nodes = [helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True])),
             helper.make_node("If", ["c"], ["y"], then_branch=outer[0], else_branch=outer[1])]
    made = model(nodes, [info("x", (2, 3)), info("flag", (), "bool")], [info("y", (2, 3))], opset=13)
    return _file(made)


def indexing() -> bytes:
    """TopK, gathers, scatters, comparison and where."""
    nodes = [
        helper.make_node("TopK", ["x", "two"], ["v", "i"], axis=1),
        helper.make_node("GatherElements", ["x", "i"], ["g"], axis=1),
        helper.make_node("Greater", ["g", "v"], ["m"]), helper.make_node("Where", ["m", "g", "v"], ["w"]),
        helper.make_node("ScatterND", ["x", "at", "up"], ["s"]), helper.make_node("ArgMax", ["s"], ["am"], axis=1),
        helper.make_node("OneHot", ["am", "depth", "onoff"], ["oh"]), helper.make_node("Cast", ["oh"], ["ohf"], to=1),
        helper.make_node("ReduceSum", ["ohf", "ax"], ["z"], keepdims=0),
        helper.make_node("Einsum", ["w", "w"], ["e"], equation="bi,bj->ij"),
    ]
    constants = {"two": np.array([2]), "at": np.array([[0], [1]]), "up": _w(2, 5), "depth": np.array(5),
                 "onoff": np.array([0.0, 1.0], np.float32), "ax": np.array([1])}
    return _file(model(nodes, [info("x", (3, 5))], [info("z", (None, None)), info("e", (2, 2))], constants,
                 17))


def seeds() -> list[bytes]:
    """All of them."""
    return [recurrent("LSTM", 4), recurrent("GRU", 3, "bidirectional", linear_before_reset=1),
            recurrent("RNN", 1, "reverse", clip=1.0, activations=["Relu"]), shapes(), network(), loop("Scan"),
            loop("Loop"), branch(), indexing()]
