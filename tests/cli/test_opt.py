"""`rnngraph opt`: text in, text out."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from rnngraph.ir import F32, Builder, TensorType, Value, build_graph, parse
from rnngraph.ir.text.printer import resources_of
from tests.cli.conftest import Cli

BEFORE = """graph @g(%x: f32[B,4]) {
  %a = neg %x : f32[B,4]
  %y = tanh %x : f32[B,4]
  return y = %y
}
"""
AFTER = """graph @g(%x: f32[B,4]) {
  %y = tanh %x : f32[B,4]
  return y = %y
}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "g.rg"
    path.write_text(BEFORE)
    return path


def test_file_to_stdout(cli: Cli, file: Path) -> None:
    done = cli("opt", file, "--pipeline", "cse,dce")
    assert (done.code, done.out, done.err) == (0, AFTER, "")


def test_stdin_to_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(BEFORE))
    done = cli("opt", "-p", "dce", "-o", tmp_path / "out.rg")
    assert (done.code, done.out) == (0, "")
    assert (tmp_path / "out.rg").read_text() == AFTER


def test_print_after_remarks_and_time_go_to_stderr(cli: Cli, file: Path) -> None:
    done = cli("opt", file, "-p", "cse,dce", "--print-after", "all", "--remarks", "--time")
    assert (done.code, done.out) == (0, AFTER)
    assert "// after 000 cse (no change)\n" + BEFORE in done.err
    assert "// after 001 dce\n" + AFTER in done.err
    assert "ms  changed  dce" in done.err
    one = cli("opt", file, "-p", "cse,dce", "--print-after", "dce")
    assert "000" not in one.err


def test_print_after_an_unknown_pass(cli: Cli, file: Path) -> None:
    done = cli("opt", file, "-p", "dce", "--print-after", "dze")
    assert done.code == 2
    assert "unknown pass 'dze'; --passes lists them" in done.err


@pytest.mark.parametrize(("pipeline", "message"), [
    ("cse,dze", "5: unknown pass 'dze'; the passes are canonicalize, "),
    ("cse dce", "expected ','"),
    ("dce{x=1}", "pass dce has no option 'x'"),
])
def test_a_bad_pipeline_says_the_column(cli: Cli, file: Path, pipeline: str, message: str) -> None:
    done = cli("opt", file, "-p", pipeline)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_bad_text_says_file_line_and_column(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.rg"
    bad.write_text(BEFORE.replace("tanh", "twist"))
    done = cli("opt", bad, "-p", "dce")
    assert done.code == 2
    assert f"{bad}:3:8: " in done.err


def test_a_binary_file(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.rg"
    bad.write_bytes(bytes(range(256)))
    done = cli("opt", bad, "-p", "dce")
    assert done.code == 2
    assert str(bad) in done.err


def test_json(cli: Cli, file: Path) -> None:
    record = json.loads(cli("opt", file, "-p", "cse,dce", "--json").out)
    assert record["graph"] == AFTER
    assert record["pipeline"] == "cse,dce"
    assert [(p["name"], p["changed"]) for p in record["passes"]] == [("cse", False), ("dce", True)]


def test_resources_beside_the_file_are_read(cli: Cli, tmp_path: Path) -> None:
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        return {"y": b.matmul(v["x"], b.const(np.arange(32, dtype=np.float32).reshape(4, 8)))}

    graph = build_graph({"x": TensorType(F32, ("B", 4))}, body)
    path = tmp_path / "g.rg"
    path.write_text(graph.to_text(resources=False))
    missing = cli("opt", path, "-p", "dce")
    assert missing.code == 2
    assert "resource" in missing.err
    np.savez(tmp_path / "resources.npz", allow_pickle=False, **resources_of(graph))
    assert parse(cli("opt", path, "-p", "dce").out).to_text() == graph.to_text()
    assert cli("opt", path, "-p", "dce", "--refs").out == graph.to_text(resources=False)
