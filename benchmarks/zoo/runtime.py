"""ONNX Runtime as a Run: the oracle and the peer."""

from __future__ import annotations

import onnxruntime

from benchmarks.zoo.case import Run


def session(data: bytes, threads: int) -> Run:
    """ONNX Runtime on a model, by names."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    made = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in made.get_outputs()]
    return lambda inputs: dict(zip(names, made.run(None, dict(inputs)), strict=True))
