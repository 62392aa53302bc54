"""benchmarks/gpu_check.py: runs from a bare copy of the tree, on the stand-in; bounds what hangs; its tables."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import kernels
from benchmarks.gpu.child import run_child
from benchmarks.gpu.kernels import parsed
from benchmarks.gpu.parent import run_section
from benchmarks.gpu.section import SECTIONS, Section, Setting
from benchmarks.gpu.table import ABSENT, FAIL, LEFT, OK, Result, Row, csv_text, markdown
from rnngraph.backends.cupy import nvrtc
from tests.backends.cupy.on_shim import needs_compiler

ROOT = Path(__file__).resolve().parent.parent
ABSENT_PACKAGES = ("llvmlite", "networkx", "click")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A copy of the tree that has lost its links, and a machine without llvmlite, networkx and click."""
    tree = tmp_path / "tree"
    for name in ("rnngraph", "passes", "backends", "benchmarks"):
        left = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=left)
    for link in ("passes", "backends"):
        (tree / "rnngraph" / link).unlink()
    for name in ABSENT_PACKAGES:
        (tmp_path / "hidden" / name).mkdir(parents=True)
        (tmp_path / "hidden" / name / "__init__.py").write_text(f"raise ImportError('no {name} here')\n")
    return tree


def check(tree: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a tree, with nothing of this one on the path."""
    environment = {**os.environ, "PYTHONPATH": str(tree.parent / "hidden")}
    command = [sys.executable, str(tree / "benchmarks" / "gpu_check.py"), "--shim", "--out", str(out), *options]
    return subprocess.run(command, env=environment, cwd=out, capture_output=True, text=True, check=False)


@needs_compiler
def test_a_bare_copy_runs_the_checks(bare: Path, tmp_path: Path) -> None:
    before = {p for p in bare.rglob("*") if "__pycache__" not in p.parts}
    done = check(bare, tmp_path, "--only", "device,correctness,barrier")
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "gpu_check.log").read_text()
    assert {p for p in bare.rglob("*") if "__pycache__" not in p.parts} == before
    with (tmp_path / "gpu_check.csv").open() as file:
        rows = list(csv.DictReader(file))
    errors = {r["path"]: float(r["value"]) for r in rows if r["section"] == "correctness" and r["name"] == "error"}
    assert {"cupy.scan", "cupy.loop", "cupy.op", "cupy.cudnn.standard", "cupy.cudnn.standard.bf16"} <= set(errors)
    assert max(errors[p] for p in ("cupy.scan", "cupy.loop", "cupy.op", "cupy.cudnn.standard")) <= 1e-5
    assert all(float(r["value"]) > 0 for r in rows if r["name"] == "poisoned")
    text = (tmp_path / "gpu_check.md").read_text()
    assert "no time here means anything" in text
    assert "| correctness |" in text


@needs_compiler
@pytest.mark.slow
def test_every_section_on_the_stand_in(tmp_path: Path) -> None:
    done = check(ROOT, tmp_path, "--full", "--minutes", "60")
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "gpu_check.md").read_text()


def test_names_of_sections(tmp_path: Path) -> None:
    done = check(ROOT, tmp_path, "--only", "device,nothing")
    assert done.returncode == 2
    assert "no section nothing; there are device, correctness" in done.stderr


# --- processes ------------------------------------------------------------------------------------------------------

PROGRAM = """
import json, os, sys, time
done = json.loads(sys.argv[sys.argv.index("--done") + 1])
def say(**event): print(json.dumps(event), flush=True)
for name in ("one", "two on a", "three", "four"):
    if name in done: continue
    say(begin=name)
    if name == "two on a": time.sleep(60)
    if name == "three": os._exit(7)
    say(row=dict(case=name, path="", verdict="ok", numbers={}, note=""))
say(end=True)
"""


def test_what_hangs_or_dies_fails_alone(tmp_path: Path) -> None:
    section = Section("trial", "a trial", "", 60, stall=1.0)
    result = run_section(section, [sys.executable, "-c", PROGRAM], [], time.time() + 60, tmp_path / "log")
    assert [(r.case, r.path, r.verdict) for r in result.rows] == [
        ("one", "", OK), ("two", "a", FAIL), ("three", "", FAIL), ("four", "", OK)]
    assert result.rows[1].note == "nothing happened for 1 s: ended"
    assert result.rows[2].note.startswith("the process ended with 7")


def test_what_there_is_no_time_for_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    program = ("import sys; sys.path.insert(0, sys.argv[1]); from tests.test_gpu_check import late; late()")
    done = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=True)
    assert '{"left": "machine"}' in done.stdout
    assert done.stdout.splitlines()[-1] == '{"end": true}'


def late() -> None:
    """A section whose time is over when it begins."""
    run_child(SECTIONS["device"], Setting(True, False, time.time() - 1), ())


# --- tables ---------------------------------------------------------------------------------------------------------

RESULT = Result("some", "a title", [
    Row("LSTM", "a", OK, {"error": 1.234567e-7}), Row("LSTM", "b", FAIL, {"error": 0.5}, "Traceback\n  x\nE: what"),
    Row("GRU", "a", ABSENT, note="why | not"), Row("GRU", "b", LEFT)], 1.5, "error")


def test_a_matrix() -> None:
    text = markdown([RESULT], "# head")
    assert "| some | 1 | 1 | 0 | 1 | 1 | 1.5 |" in text
    assert "| LSTM | 1.23e-07 | **FAIL** 0.5 |" in text
    assert "| GRU | - | left out |" in text
    assert "- FAIL: b: E: what (LSTM)" in text


def test_a_plain_table_has_no_empty_columns() -> None:
    result = Result("some", "a title", [Row("x", "", OK, {"us": 12.0}), Row("y", "", OK, {"us": 3.0, "n": 4})], 0.1)
    assert "| case | us | n | verdict |" in markdown([result], "")


def test_csv_is_long() -> None:
    lines = csv_text([RESULT]).splitlines()
    assert lines[0] == "section,case,path,verdict,name,value,note"
    assert lines[1] == "some,LSTM,a,ok,error,1.234567e-07,"
    assert lines[-1] == "some,GRU,b,left out,,,"


def test_an_unknown_verdict() -> None:
    with pytest.raises(ValueError, match="a verdict is one of ok, FAIL"):
        Row("x", "", "good")


@pytest.mark.parametrize("path", ["cupy.loop", "cupy.scan"])
def test_kernels_are_made_for_a_gpu_that_is_described(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = "Compiling entry function '{}' for 'sm_90a'\nUsed 40 registers\n0 bytes spill stores\n"
    monkeypatch.setattr(nvrtc, "binding", lambda: None)
    monkeypatch.setattr(nvrtc, "build", lambda text, arch: nvrtc.Built(
        b"", "".join(log.format(n) for n in re.findall(r"RG_KERNEL (?:\w+\(\d+\) )?(\w+)", text))))
    cases = {c.name: c for c in kernels.cases(Setting(True, False, time.time() + 60))}
    rows = list(cases[f"LSTM, 256, h100 on {path}"].run())
    assert {r.verdict for r in rows} == {OK}
    assert {r.numbers["registers"] for r in rows} == {40}


def test_what_ptxas_says() -> None:
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'loop' for 'sm_90a'
ptxas info    : Function properties for loop
    0 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers
ptxas info    : Compiling entry function 'phase0' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 17 registers
"""
    assert parsed(log) == {"loop": (64, 20), "phase0": (17, 0)}
