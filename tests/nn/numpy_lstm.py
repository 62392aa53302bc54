"""The LSTM with its options in float64, written from the equations of PyTorch, ONNX and tf.nn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tests.nn.numpy_cells import Array, Step, sigmoid, wide


@dataclass(frozen=True)
class Options:
    """gates: the order of the weights' columns. Others: the arguments of the cell."""

    gates: str = "ifco"
    clip: float = np.inf
    cell_clip: tuple[float, float] = (-np.inf, np.inf)
    proj_clip: float = np.inf
    forget_bias: float = 0.0


def lstm(weights: Mapping[str, Array], o: Options) -> Step:
    w = wide(weights)

    def bounded(v: Array) -> Array:
        return np.clip(v, -o.clip, o.clip)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        h, c = state
        z = x @ w["kernel"] + h @ w["recurrent_kernel"] + w.get("bias", 0.0)
        pre = dict(zip(o.gates, np.split(z, len(o.gates), axis=1), strict=True))
        pre = {g: v + (c * w.get(f"peephole_{g}", 0.0) if g in "if" else 0.0) for g, v in pre.items()}
        if "i" not in pre:  # tf.contrib: the input gate is what the forget gate leaves
            f = sigmoid(bounded(pre["f"] + o.forget_bias))
            i = 1.0 - f
        elif "f" not in pre:  # ONNX: the other way round
            i = sigmoid(bounded(pre["i"]))
            f = 1.0 - i
        else:
            i, f = sigmoid(bounded(pre["i"])), sigmoid(bounded(pre["f"] + o.forget_bias))
        c = np.clip(f * c + i * np.tanh(bounded(pre["c"])), *o.cell_clip)
        h = sigmoid(bounded(pre["o"] + c * w.get("peephole_o", 0.0))) * np.tanh(c)
        if "projection" in w:
            h = np.clip(h @ w["projection"], -o.proj_clip, o.proj_clip)
        return h, [h, c]

    return step
