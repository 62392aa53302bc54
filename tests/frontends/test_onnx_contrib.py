"""ONNX Runtime's own ops beside ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import rnngraph as rg
from rnngraph.errors import ImportModelError
from rnngraph.ir import Array
from tests.frontends.onnx_graphs import info, runtime

RNG = np.random.default_rng(1)
X = RNG.standard_normal((3, 5, 4)).astype(np.float32)
W = RNG.standard_normal((4, 6)).astype(np.float32)
V, B6 = (RNG.standard_normal(n).astype(np.float32) for n in (4, 6))
IMAGE = RNG.standard_normal((2, 3, 7, 6)).astype(np.float32)
KERNEL = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
Q = RNG.integers(0, 255, (3, 5, 4)).astype(np.uint8)
QW = RNG.integers(-60, 60, (4, 6)).astype(np.int8)
S, T = np.array(0.02, np.float32), np.array(0.11, np.float32)
Z, Z8, ZY = np.array(130, np.uint8), np.array(3, np.int8), np.array(120, np.uint8)
SMALL: dict[str, Array] = {"s": S, "z": Z}


def contrib(op: str, inputs: dict[str, Array], attributes: dict[str, Any], x: str = "x") -> onnx.ModelProto:
    """One node; the input called ``x`` is the model's, the others are constants; an empty array is none."""
    names = [n if a.size else "" for n, a in inputs.items()]
    node = helper.make_node(op, names, ["y"], domain="com.microsoft", name="contrib", **attributes)
    code = "f32" if inputs[x].dtype == np.float32 else "u8"
    graph = helper.make_graph([node], "test", [info(x, ("batch", *inputs[x].shape[1:]), code)],
                              [onnx.ValueInfoProto(name="y")],
                              [numpy_helper.from_array(a, n) for n, a in inputs.items() if n != x and a.size])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


CASES: list[tuple[str, dict[str, Array], dict[str, Any]]] = [
    ("FusedMatMul", {"x": X, "w": W.T.copy()}, {"transB": 1, "alpha": 0.5}),
    ("FusedMatMul", {"x": X, "w": X.copy()[:1]}, {"transA": 1}),
    ("FusedGemm", {"x": X[:, 0], "w": W, "b": B6}, {"activation": "LeakyRelu", "activation_alpha": 0.2, "beta": 0.3}),
    ("FusedConv", {"x": IMAGE, "w": KERNEL, "b": V}, {"activation": "Relu", "pads": [1, 1, 1, 1], "strides": [2, 1]}),
    ("FusedConv", {"x": IMAGE, "w": KERNEL}, {"activation": "Clip", "activation_params": [-0.5, 0.5]}),
    ("Gelu", {"x": X}, {}), ("BiasGelu", {"x": X, "b": V}, {}), ("FastGelu", {"x": X, "b": V}, {}),
    ("FastGelu", {"x": X}, {}), ("QuickGelu", {"x": X}, {"alpha": 1.3}),
    ("SkipLayerNormalization", {"x": X[:1], "skip": X[1:2], "g": V, "b": V, "bias": V}, {"epsilon": 1e-5}),
    ("MatMulIntegerToFloat", {"x": Q, "w": QW, "xs": S, "ws": T, "xz": Z, "wz": Z8, "b": B6}, {}),
    ("DynamicQuantizeMatMul", {"x": X, "w": QW, "ws": T, "wz": Z8, "b": B6}, {}),
    ("DynamicQuantizeMatMul", {"x": X, "w": QW, "ws": np.full(6, 0.1, np.float32)}, {}),
    ("QuantizeLinear", {"x": X, **SMALL}, {}), ("DequantizeLinear", {"x": Q, **SMALL}, {}),
    ("QLinearAdd", {"x": Q, "xs": S, "xz": Z, "b": Q[:1], "bs": T, "bz": Z, "ys": T, "yz": ZY}, {}),
    ("QLinearMul", {"x": Q, "xs": S, "xz": Z, "b": Q[:1], "bs": S, "bz": Z, "ys": T, "yz": ZY}, {}),
    ("QLinearSigmoid", {"x": Q, "xs": S, "xz": Z, "ys": T / 28, "yz": ZY * 0}, {}),
    ("QLinearLeakyRelu", {"x": Q, "xs": S, "xz": Z, "ys": S, "yz": ZY}, {"alpha": 0.1}),
    ("QLinearConcat", {"ys": T, "yz": ZY, "x": Q, "xs": S, "xz": Z, "b": Q[:1], "bs": T, "bz": Z}, {"axis": 0}),
    ("QGemm", {"x": Q[:, 0], "xs": S, "xz": Z, "w": QW, "ws": T, "wz": Z8, "c": np.arange(6, dtype=np.int32) * 100,
               "ys": T, "yz": ZY}, {}),
    ("QGemm", {"x": Q[:, 0], "xs": S, "xz": Z, "w": QW, "ws": T, "wz": Z8}, {"alpha": 0.5}),
]


@pytest.mark.parametrize(("op", "inputs", "attributes"), CASES, ids=[f"{i}-{op}" for i, (op, *_) in enumerate(CASES)])
def test_beside_onnx_runtime(op: str, inputs: dict[str, Array], attributes: dict[str, Any]) -> None:
    made = contrib(op, inputs, attributes)
    compiled = rg.compile(made)
    got = compiled.run({"x": inputs["x"]})["y"]
    (want,) = runtime(made, {"x": inputs["x"]})
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if want.dtype == np.float32:
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1.0, float(np.abs(want).max())))
    else:  # halves: ONNX Runtime rounds products of f32, which may fall on either side
        assert np.abs(got.astype(int) - want.astype(int)).max() <= 1
        assert (got == want).mean() > 0.95


@pytest.mark.parametrize(("op", "attributes", "message"), [
    ("FusedMatMul", {"transBatchA": 1}, "transBatchA and transBatchB are not supported"),
    ("FusedGemm", {"activation": "Affine"}, "activation must be one of Relu, Tanh"),
])
def test_what_is_not_supported(op: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ImportModelError, match=rf"node 'contrib' \(com.microsoft.{op}\): {message}"):
        rg.compile(contrib(op, {"x": X[:, 0], "w": W}, attributes))
