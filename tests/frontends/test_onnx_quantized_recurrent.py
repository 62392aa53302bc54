"""com.microsoft.DynamicQuantizeLSTM against ONNX Runtime with a thread for each row: fewer of them round rows of h
together."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import rnngraph as rg
from rnngraph.errors import ImportModelError
from rnngraph.ir import Array
from tests.frontends.onnx_graphs import info

STEPS, WIDTH, HIDDEN = 7, 5, 8


def quantized(rng: np.random.Generator, directions: int, dtype: str, *, columns: bool, peepholes: bool,
              lengths: bool) -> Any:
    """Weights within +-63 of the zero point: what u8 by i8 holds on every CPU."""
    zero = 128 if dtype == "uint8" else 0
    scales = (directions, 4 * HIDDEN) if columns else (directions,)
    tensors = {"b": 0.3 * rng.standard_normal((directions, 8 * HIDDEN)).astype(np.float32)}
    for name, rows in (("w", WIDTH), ("r", HIDDEN)):
        tensors[name] = (rng.integers(-63, 64, (directions, rows, 4 * HIDDEN)) + zero).astype(dtype)
        tensors[f"{name}_scale"] = rng.uniform(0.004, 0.006, scales).astype(np.float32)
        tensors[f"{name}_zero"] = np.full(scales, zero, dtype)
    if peepholes:
        tensors["p"] = 0.3 * rng.standard_normal((directions, 3 * HIDDEN)).astype(np.float32)
    names = ["x", "w", "r", "b", "lens" if lengths else "", "", "", "p" if peepholes else "", "w_scale", "w_zero",
             "r_scale", "r_zero"]
    node = helper.make_node("DynamicQuantizeLSTM", names, ["y", "yh", "yc"], domain="com.microsoft", name="quantized",
                            hidden_size=HIDDEN, direction="forward" if directions == 1 else "bidirectional")
    inputs = [info("x", ("t", "b", WIDTH)), *([info("lens", ("b",), "i32")] if lengths else [])]
    graph = helper.make_graph([node], "g", inputs, [info(n, (None,) * r) for n, r in (("y", 4), ("yh", 3), ("yc", 3))],
                              [numpy_helper.from_array(a, n) for n, a in tensors.items()])
    return helper.make_model(graph, ir_version=8, opset_imports=[
        helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)])


def expected(made: Any, inputs: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = inputs["x"].shape[1]
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(o) for o in session.run(None, inputs)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("directions", "columns", "peepholes"), [(1, False, False), (1, True, True), (2, True, False)])
def test_the_numbers_of_onnx_runtime(directions: int, columns: bool, peepholes: bool, dtype: str, batch: int) -> None:
    rng = np.random.default_rng(batch)
    made = quantized(rng, directions, dtype, columns=columns, peepholes=peepholes, lengths=False)
    x = rng.standard_normal((STEPS, batch, WIDTH)).astype(np.float32)
    for got, want in zip(rg.compile(made)(x), expected(made, {"x": x}), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_a_row_is_rounded_by_its_own_range_in_generated_code() -> None:
    rng = np.random.default_rng(3)
    made = quantized(rng, 2, "int8", columns=False, peepholes=False, lengths=False)
    compiled = rg.compile(made)
    x = rng.standard_normal((STEPS, 4, WIDTH)).astype(np.float32)
    x[0, 0, 0], x[0, 1, 0] = 3.0, -3.0  # the range of all of x, in every batch below
    whole = compiled(x)[0]
    np.testing.assert_allclose(compiled(x[:, :2])[0], whole[:, :, :2], rtol=0, atol=1e-6)
    assert {k.backend for k in compiled.report.kernels} == {"llvm"}
    assert [r.native for r in rg.recurrences(made)] == [True, True]


def test_lengths() -> None:
    """With one thread for each row, ONNX Runtime's rows are on their own, as here."""
    rng = np.random.default_rng(7)
    made = quantized(rng, 2, "int8", columns=False, peepholes=False, lengths=True)
    inputs = {"x": rng.standard_normal((STEPS, 3, WIDTH)).astype(np.float32), "lens": np.array([7, 2, 4], np.int32)}
    for got, want in zip(rg.compile(made)(**inputs), expected(made, inputs), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_scales_that_do_not_fit() -> None:
    made = quantized(np.random.default_rng(0), 1, "int8", columns=False, peepholes=False, lengths=False)
    (scale,) = (t for t in made.graph.initializer if t.name == "r_scale")
    scale.CopyFrom(numpy_helper.from_array(np.ones(5, np.float32), "r_scale"))
    with pytest.raises(ImportModelError, match=r"'quantized'.*expected a scale and a zero point of R of shape \[1\]"):
        rg.compile(made)
