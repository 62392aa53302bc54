"""`rnngraph export`: models in, ONNX files out."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

import rnngraph as rg
from rnngraph import nn
from tests.cli.conftest import Cli


def test_from_file_to_file(cli: Cli, tmp_path: Path) -> None:
    rg.to_onnx(nn.LSTM(3), tmp_path / "a.onnx", rg.Input(("batch", "time", 4)))
    done = cli("export", tmp_path / "a.onnx", tmp_path / "b.onnx", "--opset", 20)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{tmp_path / 'b.onnx'}: opset 20, x -> y\n")
    assert "LSTM" in done.out
    onnx.checker.check_model(onnx.load(tmp_path / "b.onnx"), full_check=True)


def test_of_a_python_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("from rnngraph import nn\nmodel = nn.GRU(3)\n")
    done = cli("export", f"{tmp_path / 'm.py'}:model", tmp_path / "c.onnx", "--shape", "batch,time,4", "--lengths",
               "--json")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert (report["inputs"], report["outputs"], report["nodes"]["GRU"]) == (["x", "lengths"], ["y"], 1)


def test_other_formats_are_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.rg").write_text("graph @g(%x: f32[B,4]) {\n  return y = %x\n}\n")
    done = cli("export", tmp_path / "m.rg", tmp_path / "b.bin")
    assert done.code == 2
    assert "expected a name that ends in .onnx" in done.err
    assert cli("export", tmp_path / "m.rg", tmp_path / "b.onnx").code == 0
