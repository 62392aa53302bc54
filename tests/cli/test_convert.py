"""`rnngraph convert`: file to file, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnngraph.weights import load, read, save
from tests.cli.conftest import Cli
from tests.weights.support import random_weights, same_bits

DATA = Path(__file__).resolve().parent.parent / "data" / "mxnet"


def test_torch_to_keras_and_back(cli: Cli, tmp_path: Path) -> None:
    w = random_weights("gru", layers=2, directions=2)
    save(tmp_path / "in.safetensors", w.to("torch", prefix="rnn.") | {"fc.weight": np.ones((2, 2), np.float32)})
    done = cli("convert", tmp_path / "in.safetensors", tmp_path / "out.npz", "--from", "torch", "--to", "keras",
               "--prefix", "rnn.")
    assert (done.code, done.err) == (0, "")
    assert "mode gru, layers 2, directions 2, input 5, hidden 3, reset_after True" in done.out
    assert "  layer1/backward/bias: float32[2, 9]" in done.out
    assert done.out.endswith("12 arrays as Keras in " f"{tmp_path / 'out.npz'}; 1 arrays with other names were left\n")
    same_bits(read(tmp_path / "out.npz"), w.to("keras"))
    assert cli("convert", tmp_path / "out.npz", tmp_path / "back.safetensors", "--from", "keras", "--to", "pytorch",
               "--to-prefix", "rnn.").code == 0
    same_bits(read(tmp_path / "back.safetensors"), w.to("torch", prefix="rnn."))


def test_a_flat_array_of_mxnet_as_json(cli: Cli, tmp_path: Path) -> None:
    with np.load(DATA / "lstmp_l2_bi.npz", allow_pickle=False) as data:
        params, hidden, projection = data["params"], data["c0"].shape[-1], data["h0"].shape[-1]
    save(tmp_path / "in.npz", {"lstm_parameters": params})
    done = cli("convert", tmp_path / "in.npz", tmp_path / "out.safetensors", "--from", "mxnet", "--to", "torch",
               "--mode", "lstm", "--hidden", hidden, "--layers", 2, "--directions", 2, "--projection", projection,
               "--prefix", "lstm_", "--json")
    assert (done.code, done.err) == (0, "")
    record = json.loads(done.out)
    assert (record["mode"], record["hidden"], record["projection"], record["left"]) == ("lstm", hidden, projection, 0)
    assert record["arrays"]["weight_hr_l1_reverse"] == {"dtype": "float32", "shape": [projection, hidden]}
    same_bits(load(tmp_path / "out.safetensors", "torch").to("mxnet"), {"parameters": params})


def test_params_of_mxnet(cli: Cli, tmp_path: Path) -> None:
    name = next(n for n in read(DATA / "gluon_lstm-0000.params") if n.endswith("l0_i2h_weight"))
    done = cli("convert", DATA / "gluon_lstm-0000.params", tmp_path / "o.npz", "--from", "gluon", "--to", "onnx",
               "--prefix", name.removesuffix("l0_i2h_weight"))
    assert (done.code, done.err) == (0, "")
    assert "mode lstm" in done.out


def test_forget_bias_and_bias_modes(cli: Cli, tmp_path: Path) -> None:
    w = random_weights("lstm", biases=1)
    save(tmp_path / "tf.npz", w.to("tf", forget_bias=0.5))
    done = cli("convert", tmp_path / "tf.npz", tmp_path / "o.npz", "--from", "tf", "--forget-bias", 0.5,
               "--to", "cudnn", "--to-bias-mode", "single_input")
    assert (done.code, done.err) == (0, "")
    expected = w.to("cudnn", bias_mode="single_input")["parameters"]
    np.testing.assert_allclose(read(tmp_path / "o.npz")["parameters"], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("arguments", "message"), [
    (["in.npz", "o.npz", "--from", "torch", "--to", "nowhere"], "'nowhere' is not one of"),
    (["in.npz", "o.npz", "--to", "torch"], "Missing option '--from'"),
    (["none.npz", "o.npz", "--from", "torch", "--to", "keras"], "none.npz' does not exist"),
    (["in.npz", "o.bin", "--from", "torch", "--to", "keras"], "ends in .safetensors, .npz or .params"),
    (["in.npz", "o.npz", "--from", "keras", "--to", "torch"], "unknown arrays weight_ih_l0"),
    (["in.npz", "o.npz", "--from", "torch", "--to", "cntk"], "CNTK: the reset gate of its GRU works on the state h"),
    (["in.npz", "o.npz", "--from", "torch", "--to", "flux"], "recurrent bias of the candidate gate n would be lost"),
    (["in.npz", "o.npz", "--from", "torch", "--to", "tf", "--no-fold-bias"], "fold_bias=False forbids"),
    (["in.npz", "o.npz", "--from", "torch", "--to", "keras", "--hidden", "3"], "the option 'hidden' is not known here"),
    (["in.npz", "o.npz", "--from", "mxnet", "--to", "keras"], "needs the options mode and hidden"),
    (["in.npz", "o.npz", "--from", "torch", "--to", "keras", "--prefix", "x."], "no array has a name that starts"),
    (["in.npz", "o.npz", "--from", "torch", "--to", "keras", "--mode", "lstm"], "the arrays have 3 gate(s): gru"),
    (["text.npz", "o.npz", "--from", "torch", "--to", "keras"], "text.npz: "),
])
def test_refusals(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[Any],
                  message: str) -> None:
    monkeypatch.chdir(tmp_path)
    save("in.npz", random_weights("gru").to("torch"))
    Path("text.npz").write_text("no weights at all")
    done = cli("convert", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npz", "text.npz"]
