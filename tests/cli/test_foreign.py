"""Models from elsewhere on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.cli.conftest import Cli
from tests.frontends.onnx_graphs import info, model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = model([helper.make_node("Reshape", ["x:0", "to"], ["y:0"])],
                 [info("x:0", ("n", 4)), info("to", (2,), "i64")], [info("y:0", (None, None))])
    onnx.save(made, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_run(cli: Cli, file: Path, tmp_path: Path) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "to.npy", np.array([4, 2]))
    out = tmp_path / "y.npz"
    done = cli("run", str(file), "-i", f"x:0={tmp_path / 'x.npy'}", "-i", f"to={tmp_path / 'to.npy'}", "-o", str(out))
    assert (done.code, done.err) == (0, "")
    np.testing.assert_array_equal(np.load(out)["y:0"], x.reshape(4, 2))


def test_the_value_that_decides_is_asked_for(cli: Cli, file: Path) -> None:
    done = cli("inspect", str(file))
    assert done.code == 2
    assert "the value of input 'to' must be known" in done.err
    assert "give it with --value NAME=NUMBER" in done.err
    assert cli("inspect", str(file), "--value", "to=-1,2").code == 0
    assert "f32[2*n,2]" in cli("compile", str(file), "--value", "to=-1,2").out
    assert "--value to=two: expected NAME=NUMBER" in cli("compile", str(file), "--value", "to=two").err


def test_a_broken_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x07garbage")
    done = cli("inspect", str(tmp_path / "m.onnx"))
    assert done.code == 2
    assert "not an ONNX" in done.err
