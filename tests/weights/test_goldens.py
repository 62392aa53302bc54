"""Against outputs of OpenVINO, TensorFlow and oneDNN, from weights in their own layouts (tests/data/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rnngraph.weights import load
from tests.weights.support import Array, run, same_bits

DATA = Path(__file__).resolve().parent.parent / "data" / "weights"


def read(file: str, case: str) -> tuple[dict[str, Array], Array, Array]:
    """The arrays of a case, the input and the output, [T, B, ...]."""
    with np.load(DATA / f"{file}.npz", allow_pickle=False) as data:
        arrays = {name.removeprefix(f"{case}/"): data[name] for name in data.files if name.startswith(f"{case}/")}
        return arrays, data["x"].transpose(1, 0, 2), arrays.pop("y").transpose(1, 0, 2)


@pytest.mark.parametrize(("file", "case", "system"), [
    ("openvino", "openvino_lstm", "openvino"),
    ("openvino", "openvino_gru", "openvino"),
    ("openvino", "openvino_gru_after", "openvino"),
    ("openvino", "openvino_rnn", "openvino"),
    ("onednn", "onednn_lstm", "onednn"),
    ("onednn", "onednn_gru", "onednn"),
    ("onednn", "onednn_lbr_gru", "onednn"),
    ("tensorflow", "tf_basic_lstm", "tf"),
    ("tensorflow", "tf_lstm_peepholes_projection", "tf"),
    ("tensorflow", "tf_gru", "tf"),
    ("tensorflow", "tf_basic_rnn", "tf"),
    ("tensorflow", "tf_multi", "tf"),
    ("tensorflow", "keras_cudnn_lstm", "keras_cudnn"),
    ("tensorflow", "keras_cudnn_gru", "keras_cudnn"),
])
def test_outputs(file: str, case: str, system: str) -> None:
    arrays, x, y = read(file, case)
    w = load(arrays, system)
    np.testing.assert_allclose(run(w, x)[0], y, rtol=0, atol=2e-6)
    back = w.to(system)
    same_bits(dict(zip(sorted(arrays), (back[n] for n in sorted(back)), strict=True)),
              {name: arrays[name] for name in sorted(arrays)})
