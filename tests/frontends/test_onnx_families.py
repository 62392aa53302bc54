"""Every family of ops on symbolic sizes, in all the versions of its opsets, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph.errors import ImportModelError, InputError
from rnngraph.ir import Array
from tests.frontends.onnx_graphs import info, model, runtime

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 6, 4)).astype(np.float32)
IMAGE = RNG.standard_normal((2, 4, 9, 8)).astype(np.float32)
W = RNG.standard_normal((6, 4, 3, 2)).astype(np.float32)
V = {n: RNG.standard_normal(4).astype(np.float32) for n in ("scale", "bias", "mean")} | {
    "var": np.array([0.5, 1.0, 2.0, 0.1], np.float32)}
TYPES = {"float32": "f32", "int64": "i64", "int32": "i32"}


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def agree(op: str, opset: int, x: Array, symbols: tuple[int | str, ...], constants: Mapping[str, Array],
          attributes: Mapping[str, Any], outputs: int = 1, tolerance: float = 1e-5) -> None:
    """One node on x, whose dims are symbols, with constants as its further inputs; at two sizes."""
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, ["x", *constants], names, **attributes)
    made = model([node], [info("x", symbols, TYPES[x.dtype.name])], names, {n: a for n, a in constants.items() if n},
                 opset)
    compiled = rg.compile(made)
    assert type(compiled) is rg.CompiledModel  # one program for all sizes
    for part in (x, x[1:]):
        got = compiled.run({"x": part})
        for name, want in zip(names, runtime(made, {"x": part}), strict=True):
            assert (got[name].shape, got[name].dtype) == (want.shape, want.dtype)
            scale = max(1.0, float(np.abs(want.astype(np.float64)).max(initial=0.0))) if want.dtype.kind == "f" else 0.0
            np.testing.assert_allclose(got[name], want, rtol=0, atol=tolerance * scale)  # integers are equal


SYMBOLS = ("batch", "time", 4)
OPEN = ("batch", 4, "height", "width")
NODES: list[tuple[str, int, dict[str, Array], dict[str, Any]]] = [
    ("Softmax", 7, {}, {"axis": 1}), ("Softmax", 11, {}, {"axis": 2}), ("Softmax", 12, {}, {}), ("Softmax", 13, {}, {}),
    ("LogSoftmax", 12, {}, {"axis": 1}), ("LogSoftmax", 13, {}, {"axis": 1}), ("Hardmax", 13, {}, {"axis": -1}),
    ("Hardmax", 11, {}, {"axis": 1}),
    ("ReduceSum", 11, {}, {"axes": [1], "keepdims": 0}), ("ReduceSum", 13, {"axes": ints(-1)}, {}),
    ("ReduceMean", 13, {}, {"axes": [0, 2]}), ("ReduceMean", 18, {"axes": ints(1)}, {"keepdims": 0}),
    ("ReduceMax", 18, {}, {}), ("ReduceL2", 13, {}, {"axes": [1]}), ("ReduceLogSumExp", 18, {"axes": ints(1)}, {}),
    ("ReduceProd", 13, {}, {"axes": [2]}), ("ReduceSumSquare", 18, {"axes": ints(0)}, {}),
    ("ReduceSum", 13, {"axes": ints()}, {"noop_with_empty_axes": 1}),
    ("ArgMax", 11, {}, {"axis": 1}), ("ArgMax", 13, {}, {"axis": 1, "keepdims": 0, "select_last_index": 1}),
    ("ArgMin", 13, {}, {"axis": -1}), ("CumSum", 14, {"axis": np.array(1, np.int64)}, {"reverse": 1, "exclusive": 1}),
    ("Clip", 7, {}, {"min": -0.5, "max": 0.25}), ("Clip", 11, {"lo": np.array(-0.5, np.float32)}, {}),
    ("Clip", 13, {"": ints(), "hi": np.array(0.5, np.float32)}, {}),
    ("Elu", 7, {}, {"alpha": 0.7}), ("Celu", 12, {}, {"alpha": 0.7}), ("Selu", 7, {}, {}), ("Mish", 18, {}, {}),
    ("HardSigmoid", 7, {}, {"alpha": 0.3}), ("HardSwish", 14, {}, {}), ("LeakyRelu", 7, {}, {"alpha": 0.1}),
    ("PRelu", 9, {"slope": V["var"]}, {}), ("ThresholdedRelu", 10, {}, {"alpha": 0.5}), ("Softplus", 7, {}, {}),
    ("Softsign", 7, {}, {}), ("Shrink", 9, {}, {"bias": 0.1, "lambd": 0.3}), ("Gelu", 20, {}, {}),
    ("Gelu", 20, {}, {"approximate": "tanh"}), ("Erf", 13, {}, {}), ("Round", 11, {}, {}), ("Sign", 13, {}, {}),
    ("IsNaN", 13, {}, {}), ("IsInf", 20, {}, {"detect_positive": 0}), ("Mod", 13, {"d": np.full(1, 0.7, np.float32)},
                                                                      {"fmod": 1}),
    ("Pow", 13, {"p": np.array(2, np.int64)}, {}), ("Dropout", 7, {}, {"ratio": 0.4}), ("Dropout", 13, {}, {}),
    ("Gather", 13, {"i": ints(-1, 0)}, {"axis": 2}), ("Gather", 11, {"i": np.array(2, np.int32)}, {"axis": 2}),
    ("TopK", 10, {"k": ints(2)}, {}), ("OneHot", 11, {}, {}), ("Trilu", 14, {"k": np.array(1, np.int64)}, {"upper": 0}),
    ("LayerNormalization", 17, {n: V[n] for n in ("scale", "bias")}, {"axis": -1}),
    ("LpNormalization", 7, {}, {"axis": 1, "p": 1}), ("Pad", 7, {}, {"pads": [0, 1, 0, 0, 2, 0], "mode": "reflect"}),
    ("Pad", 13, {"pads": ints(0, 1, -1, 0, 2, 1), "v": np.array(3, np.float32)}, {}),
    ("Pad", 18, {"pads": ints(2, 1), "": ints(), "axes": ints(1)}, {"mode": "edge"}),
    ("Pad", 19, {"pads": ints(2, 1), "": ints(), "axes": ints(1)}, {"mode": "wrap"}),
    ("Einsum", 12, {"b": X[0, :5, :].copy()}, {"equation": "btc,kc->btk"}),
    ("MatMul", 13, {"b": W[:4, 0, :, 0].copy()}, {}), ("MatMul", 9, {"b": V["bias"]}, {}),
    ("MatMul", 13, {"b": X[:1].transpose(0, 2, 1).copy()}, {}),
    ("Tile", 13, {"n": ints(2, 1, 3)}, {}), ("QuantizeLinear", 13, {"s": np.array(0.02, np.float32),
                                                                   "z": np.array(120, np.uint8)}, {}),
    ("QuantizeLinear", 13, {"s": V["var"], "z": np.array([3, -3, 0, 5], np.int8)}, {"axis": 2}),
]


@pytest.mark.parametrize(("op", "opset", "constants", "attributes"), NODES,
                         ids=[f"{i}-{op}-{opset}" for i, (op, opset, *_) in enumerate(NODES)])
def test_sequences(op: str, opset: int, constants: dict[str, Array], attributes: dict[str, Any]) -> None:
    x, symbols = X, SYMBOLS
    if op == "OneHot":
        constants = {"depth": ints(5), "values": np.array([0.5, 2.0], np.float32)}
        agree(op, opset, RNG.integers(-5, 5, (3, 6)), ("batch", "time"), constants, {"axis": 1})
        return
    agree(op, opset, x, symbols, {n: np.asarray(a) for n, a in constants.items()}, attributes, 2 if op == "TopK" else 1)


IMAGES: list[tuple[str, int, dict[str, Array], dict[str, Any]]] = [
    ("Conv", 7, {"w": W}, {}), ("Conv", 11, {"w": W}, {"strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
    ("Conv", 11, {"w": W[:, :2].copy()}, {"group": 2}), ("Conv", 11, {"w": W, "b": RNG.random(6).astype(np.float32)},
                                                        {"auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", 11, {"w": W.transpose(1, 0, 2, 3).copy()}, {"strides": [2, 3], "pads": [1, 0, 0, 1]}),
    ("ConvTranspose", 11, {"w": W[:4]}, {"group": 2, "output_padding": [1, 0], "strides": [2, 1]}),
    ("ConvTranspose", 11, {"w": W[:4]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("MaxPool", 7, {}, {"kernel_shape": [3, 2]}),
    ("MaxPool", 12, {}, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1}),
    ("MaxPool", 12, {}, {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    ("AveragePool", 7, {}, {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "count_include_pad": 1}),
    ("AveragePool", 11, {}, {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "strides": [2, 1]}),
    ("LpPool", 11, {}, {"kernel_shape": [3, 2], "p": 2}), ("GlobalAveragePool", 7, {}, {}),
    ("GlobalMaxPool", 7, {}, {}), ("GlobalLpPool", 7, {}, {"p": 1}),
    ("BatchNormalization", 7, V, {}), ("BatchNormalization", 9, V, {"epsilon": 0.01}),
    ("BatchNormalization", 15, V, {}), ("InstanceNormalization", 7, {n: V[n] for n in ("scale", "bias")}, {}),
    ("LRN", 13, {}, {"size": 3, "alpha": 0.1}), ("MeanVarianceNormalization", 13, {}, {}),
]


@pytest.mark.parametrize(("op", "opset", "constants", "attributes"), IMAGES,
                         ids=[f"{i}-{op}-{opset}" for i, (op, opset, *_) in enumerate(IMAGES)])
def test_images(op: str, opset: int, constants: dict[str, Array], attributes: dict[str, Any]) -> None:
    agree(op, opset, IMAGE, OPEN, constants, attributes)


def test_max_pool_says_where() -> None:
    for order in (0, 1):
        agree("MaxPool", 12, IMAGE, OPEN, {}, {"kernel_shape": [3, 2], "strides": [2, 2], "storage_order": order}, 2)


def test_quantized_layers() -> None:
    """DynamicQuantizeLinear, MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv, DequantizeLinear in a row."""
    weights = RNG.integers(-63, 63, (4, 5)).astype(np.int8)  # larger ones ONNX Runtime saturates without VNNI
    scale, zero = np.array(0.03, np.float32), np.array(3, np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]), helper.make_node("Cast", ["i"], ["f"], to=1),
        helper.make_node("Mul", ["s", "ws"], ["sw"]), helper.make_node("Mul", ["f", "sw"], ["y"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "ys", "yz"], ["qy"]),
        helper.make_node("DequantizeLinear", ["qy", "ys", "yz"], ["d"]),
    ]
    constants: dict[str, Array] = {"w": weights, "ws": scale, "wz": zero, "ys": np.array(0.1, np.float32),
                                   "yz": np.array(9, np.uint8)}
    made = model(nodes, [info("x", SYMBOLS)], ["y", "qy", "d"], constants)
    compiled = rg.compile(made)
    for x in (X, X[:1]):
        got = compiled.run({"x": x})
        for name, want in zip(("y", "qy", "d"), runtime(made, {"x": x}), strict=True):
            np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-5 * max(1.0, float(np.abs(want).max())))


@pytest.mark.parametrize(("inner", "extreme"), [(16, True), (258, True), (259, True), (1200, True), (1200, False)])
@pytest.mark.parametrize("constant", [True, False])
def test_integer_products_are_exact(inner: int, extreme: bool, constant: bool) -> None:
    """Where f32 does not hold the sum of all terms, parts of it are added as integers."""
    low, high = (250, 256) if extreme else (0, 256)
    a = RNG.integers(low, high, (3, 5, inner)).astype(np.uint8)
    w = RNG.integers(low, high, (inner, 6)).astype(np.uint8)
    zeros = {"az": np.array(1, np.uint8), "wz": np.array([0, 1, 2, 3, 4, 5], np.uint8)}
    made = model([helper.make_node("MatMulInteger", ["a", "w", "az", "wz"], ["y"])],
                 [info("a", ("b", "t", inner), "u8"), *([] if constant else [info("w", (inner, 6), "u8")])],
                 ["y"], zeros | ({"w": w} if constant else {}))
    compiled = rg.compile(made)
    got = compiled.run({"a": a} if constant else {"a": a, "w": w})["y"]
    want = (a.astype(np.int64) - 1) @ (w.astype(np.int64) - zeros["wz"])
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, want)
    assert not [op for op in compiled.report.passes[-1].end.graph.walk()
                if op.name == "matmul" and not op.impl.startswith("llvm")]


def test_integer_weights_that_are_not_computed_while_the_model_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnngraph.frontends.depends.MAX_ELEMENTS", 1000)
    w = RNG.integers(0, 256, (300, 6)).astype(np.uint8)
    made = model([helper.make_node("MatMulInteger", ["a", "w", "", "z"], ["y"])], [info("a", ("b", 300), "u8")], ["y"],
                 {"w": w, "z": np.array(7, np.uint8)})
    a = RNG.integers(0, 256, (2, 300)).astype(np.uint8)
    np.testing.assert_array_equal(rg.compile(made)(a), a.astype(np.int64) @ (w.astype(np.int64) - 7))


@pytest.mark.parametrize("group", [1, 2])
def test_integer_convolutions_are_exact(group: int) -> None:
    x = RNG.integers(240, 256, (2, 300, 9)).astype(np.uint8)
    w = RNG.integers(240, 256, (4, 300 // group, 3)).astype(np.uint8)
    made = model([helper.make_node("ConvInteger", ["x", "w", "xz"], ["y"], group=group)],
                 [info("x", ("b", 300, 9), "u8")], ["y"], {"w": w, "xz": np.array(2, np.uint8)})
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64) - 2, 3, 2)  # [2, 300, 7, 3]
    parts = [np.einsum("bctk,mck->bmt", c, f) for c, f in zip(
        np.split(windows, group, 1), np.split(w.astype(np.int64), group), strict=True)]
    np.testing.assert_array_equal(rg.compile(made)(x), np.concatenate(parts, 1))


def test_open_sizes_that_meet_are_one() -> None:
    made = model([helper.make_node("Add", ["x", "b"], ["y"])], [info("x", ("m", 4)), info("b", ("n", 4))], ["y"])
    compiled = rg.compile(made)
    np.testing.assert_array_equal(compiled(X[0], X[1]), X[0] + X[1])
    with pytest.raises(InputError, match="dim 'm' is 1 here but 6 in 'x'"):
        compiled(X[0], X[1, :1])


@pytest.mark.parametrize(("op", "inputs", "attributes", "message"), [
    ("BitShift", ["x", "x"], {"direction": "UP"}, "direction must be LEFT or RIGHT"),
    ("MaxPool", ["x"], {"kernel_shape": [2, 2]}, "kernel_shape must be 1 number"),
    ("MaxPool", ["x"], {"kernel_shape": [2], "auto_pad": "SAME"}, "auto_pad must be one of NOTSET"),
    ("Softmax", ["x"], {"axis": 5}, "axis 5 does not fit rank 3"),
    ("Einsum", ["x"], {"equation": "ij"}, "does not fit an operand of rank 3"),
    ("GroupNormalization", ["x", "v", "v"], {"num_groups": 0}, "expected num_groups"),
    ("Conv", ["x", "v"], {}, "expected weights"), ("Dropout", ["x", "v", "t"], {}, "training_mode is set"),
])
def test_nodes_that_are_not_sound(op: str, inputs: list[str], attributes: dict[str, Any], message: str) -> None:
    constants = {"v": np.array([0.5], np.float32), "t": np.array(True)}
    node = helper.make_node(op, inputs, ["y"], name="bad", **attributes)
    made = model([node], [info("x", SYMBOLS)], [info("y", (None,))], constants, 18)
    with pytest.raises(ImportModelError, match=rf"node 'bad' \({op}\).*{message}"):
        rg.compile(made)
