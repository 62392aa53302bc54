"""Files that tf2onnx 1.17 wrote of Keras layers and of TensorFlow's loops: TensorFlow's numbers, what is recognised.

``NAME.OPSET.onnx`` with ``NAME.npz``, the inputs and what TensorFlow 2.21 gives for them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import InputError
from rnngraph.ir import Array

DATA = Path(__file__).resolve().parent.parent / "data" / "tf2onnx"
RAISED = {  # mode, layers, direction, lengths of each recurrence
    "lstm_seq.9": [("lstm", 1, "forward", False)],
    "lstm_seq.18": [("lstm", 1, "forward", False)],
    "gru_seq.9": [("gru", 1, "forward", False)],
    "rnn_seq.9": [("rnn_tanh", 1, "forward", False)],
    "bi_lstm_seq.11": [("lstm", 1, "bidirectional", False)],
    "cell_xh_seq.11": [("lstm", 1, "forward", False)],  # one weight for [x, h], gates i g f o, a bias of 1 in the step
    "gru_before_seq.12": [("gru", 1, "forward", False)],
    "stack_lstm_seq.13": [("lstm", 2, "forward", False)],
    "seq2seq.13": [("lstm", 1, "forward", False)] * 2,
    "one_lstm_seq.15": [("lstm", 1, "forward", False)],  # one row: reshapes in place of transposes
    "dyn_lstm.15": [("lstm", 1, "forward", False)],
    "dyn_proj.15": [("lstm", 1, "forward", False)],
    "dynlen_gru.15": [("gru", 1, "forward", True)],
    "bidynlen_lstm.15": [("lstm", 1, "forward", True)] * 2,
    "scan_fn.15": [("rnn_tanh", 1, "forward", False)],
    "while_array.15": [("lstm", 1, "forward", False)],
    "while_concat.15": [("rnn_tanh", 1, "forward", False)],
    "while_scatter.15": [("rnn_tanh", 1, "forward", False)],
    "bi_gru_seq.17": [("gru", 1, "bidirectional", False)],
    "states_rnn.17": [("rnn_tanh", 1, "forward", False)],
    "stack_gru_seq.18": [("gru", 2, "forward", False)],
    "unroll_lstm_seq.18": [("lstm", 1, "forward", False)],
    "stateful_lstm_seq.18": [("lstm", 1, "forward", False)],
}
KEPT = {  # a scan of its own for each, with the reason
    "mask_gru_seq.11": "a GRU (reset after the matmul), but the mask %x leaves steps out",
    "mask_lstm_seq.17": "an LSTM, but the mask %x leaves steps out",
    "emb_mask_gru.13": "a GRU (reset after the matmul), but the mask %x leaves steps out",
    "lstm_hard_seq.12": "the activation of gate o is hard_sigmoid-like",
    "cell_minimal_seq.18": "gates r and z are one gate",
    "cell_peephole_seq.18": "peephole: gate i reads the cell state c",
}


def recorded(name: str) -> tuple[dict[str, Array], list[Array]]:
    with np.load(DATA / f"{name.partition('.')[0]}.npz") as data:
        arrays = dict(data)
    return ({k[3:]: v for k, v in arrays.items() if k.startswith("in_")},
            [arrays[k] for k in sorted(arrays) if k.startswith("out_")])


def same(name: str) -> rg.CompiledModel:
    compiled = rg.compile(DATA / f"{name}.onnx")
    inputs, outputs = recorded(name)
    got = compiled.run(inputs)
    for out, want in zip(compiled.output_names, outputs, strict=True):
        np.testing.assert_allclose(got[out], want, rtol=0, atol=1e-5 * np.abs(want).max())
    return compiled


@pytest.mark.parametrize("name", RAISED)
def test_a_recurrence_is_a_node(name: str) -> None:
    compiled = same(name)
    assert type(compiled) is rg.CompiledModel, "one program for all sizes"
    found = rg.recurrences(DATA / f"{name}.onnx")
    assert [(r.mode, r.layers, r.direction, r.lengths) for r in found] == RAISED[name]
    assert all(r.native for r in found)


@pytest.mark.parametrize("name", KEPT)
def test_a_step_that_no_node_has_is_a_native_scan(name: str) -> None:
    same(name)
    (found,) = rg.recurrences(DATA / f"{name}.onnx")
    assert (found.kind, found.form, found.native) == ("scan", "Loop", True)
    assert any(KEPT[name] in why for why in found.why)
    states = 2 if "lstm" in name or "peephole" in name else 1
    assert len(found.states) == states, "no counters, and no state twice"


def test_a_loop_whose_form_follows_from_sizes() -> None:
    """TimeDistributed: TensorFlow's loop over the places gathers slices of sizes that only a call tells."""
    same("td_dense.18")


@pytest.mark.parametrize("name", ["gru_seq.9", "bi_gru_seq.17", "mask_lstm_seq.17", "stack_lstm_seq.13"])
def test_time_and_batch_are_open(name: str) -> None:
    """Rows and steps alone: the first steps of the recorded rows, where nothing runs backwards, and one row."""
    compiled = rg.compile(DATA / f"{name}.onnx")
    (x,), (y,) = recorded(name)[0].values(), recorded(name)[1]
    np.testing.assert_allclose(compiled(x[1:2]), y[1:2], rtol=0, atol=1e-5)
    if not name.startswith("bi"):
        np.testing.assert_allclose(compiled(x[:, :4]), y[:, :4], rtol=0, atol=1e-5)
    with pytest.raises(InputError):
        compiled(x[..., :2])
