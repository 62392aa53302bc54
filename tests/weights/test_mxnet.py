"""Against MXNet 1.9: outputs of mx.nd.RNN, of unrolled mx.rnn cells and of unpack_weights' documented names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rnngraph.errors import ConversionError
from rnngraph.weights import RecurrentWeights, load, pack, unpack
from rnngraph.weights.options import FlatOptions
from tests.weights.support import Array, run, same_bits

DATA = Path(__file__).resolve().parent.parent / "data" / "mxnet"
CASES = sorted(p.stem for p in DATA.glob("*_l?_*.npz"))
MODES = {"lstm": "lstm", "lstmp": "lstm", "gru": "gru", "rnn_tanh": "rnn_tanh", "rnn_relu": "rnn_relu"}


def read(name: str) -> dict[str, Array]:
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as data:
        return dict(data)


def geometry(name: str, data: dict[str, Array]) -> FlatOptions:
    kind, _, rest = name.partition("_l")
    layers, direction = int(rest[0]), rest.split("_")[1]
    directions = 2 if direction == "bi" else 1
    found = FlatOptions(mode=MODES[kind], layers=layers, directions=directions, hidden=data["h0"].shape[-1])
    if kind == "lstmp":
        found |= FlatOptions(hidden=data["c0"].shape[-1], projection=data["h0"].shape[-1])
    return found


def test_there_are_cases() -> None:
    assert len(CASES) == 24


@pytest.mark.parametrize("name", CASES)
def test_flat_array_of_the_operator(name: str) -> None:
    data = read(name)
    options = geometry(name, data)
    w = load(data["params"], "mxnet", **options)
    assert w.input == data["x"].shape[-1]
    y, h, c = run(w, data["x"], data["h0"], data.get("c0"))
    np.testing.assert_allclose(y, data["y"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(h, data["hn"], rtol=0, atol=2e-6)
    if "cn" in data:
        np.testing.assert_allclose(c, data["cn"], rtol=0, atol=2e-6)
    same_bits(w.to("mxnet"), {"parameters": data["params"]})
    same_bits(w.to("cudnn"), {"parameters": data["params"]})


@pytest.mark.parametrize(("name", "mode"), [("unrolled_lstm_io", "lstm"), ("unrolled_gru_io", "gru"),
                                            ("unrolled_rnn_io", "rnn_tanh")])
def test_arrays_of_an_unfused_cell(name: str, mode: str) -> None:
    data = read(name)
    y, x = data.pop("y"), data.pop("data")
    w = load(data, "mxnet_cells", prefix="c_", mode=mode)
    np.testing.assert_allclose(run(w, x.transpose(1, 0, 2))[0].transpose(1, 0, 2), y, rtol=0, atol=2e-6)
    stored = w.to("mxnet_cells", prefix="c_")
    same_bits({n.replace("l0_", ""): a for n, a in stored.items()}, {n: data[n] for n in (
        "c_i2h_weight", "c_h2h_weight", "c_i2h_bias", "c_h2h_bias")})


def by_hand(blob: Array, options: FlatOptions, inputs: int) -> dict[str, Array]:
    """The loop of FusedRNNCell._slice_weights, as MXNet documents it: gate by gate."""
    gates = {"lstm": ["_i", "_f", "_c", "_o"], "gru": ["_r", "_z", "_o"]}.get(options["mode"], [""])
    letters, h, found, p = "lr"[: options["directions"]], options["hidden"], {}, 0
    for layer in range(options["layers"]):
        for letter in letters:
            for kind, width in (("i2h", inputs if layer == 0 else len(letters) * h), ("h2h", h)):
                for gate in gates:
                    found[f"{letter}{layer}_{kind}{gate}_weight"] = blob[p : p + h * width].reshape(h, width)
                    p += h * width
    for layer in range(options["layers"]):
        for letter in letters:
            for kind in ("i2h", "h2h"):
                for gate in gates:
                    found[f"{letter}{layer}_{kind}{gate}_bias"] = blob[p : p + h]
                    p += h
    assert p == blob.size
    return found


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith("lstmp")])
def test_unpacked_weights(name: str) -> None:
    data = read(name)
    options = geometry(name, data)
    w: RecurrentWeights = load(data["params"], "mxnet", **options)
    expected = by_hand(data["params"], options, data["x"].shape[-1])
    unpacked = w.to("mxnet_unpacked")
    same_bits({n: unpacked[n] for n in sorted(unpacked)}, {n: expected[n] for n in sorted(expected)})
    same_bits(load(unpacked, "mxnet_unpacked", mode=w.mode).to("mxnet"), {"parameters": data["params"]})


@pytest.mark.parametrize("name", ["lstm_l2_bi", "gru_l1_uni", "rnn_relu_l2_uni", "lstmp_l2_bi"])
def test_pack_and_unpack_are_inverse_and_leave_the_rest(name: str) -> None:
    data = read(name)
    args = {"embed_weight": np.ones(3), "rnn_parameters": data["params"], "rnn_note": "kept"}
    unpacked = unpack(args, "rnn_", **geometry(name, data))
    assert unpacked["rnn_note"] == "kept"
    assert "rnn_parameters" in args
    assert "rnn_parameters" not in unpacked
    packed = pack(unpacked, "rnn_")
    assert set(packed) == set(args)
    np.testing.assert_array_equal(packed["rnn_parameters"], data["params"])
    cells = pack(unpacked, "rnn_", fused=False)
    assert cells["rnn_l0_i2h_weight"].shape[1] == data["x"].shape[-1]
    again = unpack(cells, "rnn_")
    same_bits({n: a for n, a in again.items() if "l0" in n}, {n: a for n, a in unpacked.items() if "l0" in n})


def test_packing_errors() -> None:
    flat = {"parameters": np.zeros(13, np.float32)}
    with pytest.raises(ConversionError, match="13 numbers are not those of"):
        unpack(flat, mode="rnn_tanh", hidden=2)
    with pytest.raises(ConversionError, match="needs the options mode and hidden"):
        unpack(flat)
    with pytest.raises(ConversionError, match="there is no 'x_parameters' and no 'x_l0_i2h_weight'"):
        unpack(flat, "x_", mode="lstm", hidden=2)
    with pytest.raises(ConversionError, match="there is no array such as 'l0_i2h_i_weight'"):
        pack(flat)
    gates = {f"l0_i2h_{g}_weight": np.zeros((2, 3), np.float32) for g in "if"}
    with pytest.raises(ConversionError, match="expected the gates of an LSTM"):
        pack(gates)
