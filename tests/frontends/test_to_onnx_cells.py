"""Every cell of benchmarks/cells.py as ONNX: valid, and computed alike by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import rnngraph as rg
from benchmarks.cell_table import TABLE
from rnngraph.ir import Shape, evaluate, resolve
from rnngraph.nn import RNN, Input, trace

TOLERANCE = 1e-5  # of the output's scale, against float64
UNITS, SIZES = 8, {"batch": 2, "time": 3}
FUSED = {"LSTM": "LSTM", "weight-norm LSTM": "LSTM", "GRU, reset after": "GRU", "GRU, reset before": "GRU",
         "SimpleRNN": "RNN", "ESN": "RNN", "plain echo state": "RNN"}


@pytest.mark.parametrize("name", TABLE)
def test_cell(name: str) -> None:
    entry = TABLE[name]
    shape: Shape = ("batch", "time", *entry.features(UNITS))
    layer = RNN(entry.make(UNITS), return_sequences=True)
    proto = rg.to_onnx(layer, inputs=Input(shape))
    onnx.checker.check_model(proto, full_check=True)
    sizes = resolve(shape, SIZES)
    x = np.random.default_rng(0).standard_normal(sizes).astype(np.float32) * 0.5
    run = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = run.run(None, {"x": x})
    want = evaluate(trace(layer, Input(shape)), {"x": x}, float64=True)["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(want).max())))
    kinds = [node.op_type for node in proto.graph.node if node.op_type in ("LSTM", "GRU", "RNN", "Scan", "Loop")]
    assert kinds == [FUSED.get(name, "Scan")]
