"""What README.md and docs/ show is true: commands, code blocks, outputs, links."""

from __future__ import annotations

import difflib
import io
import os
import re
import shutil
import subprocess
import sys
import types
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

import rnngraph as rg
from rnngraph.cli.app import COMMANDS
from rnngraph.demo.g2p_checkpoint import checkpoint_path
from rnngraph.errors import MissingExtraError
from rnngraph.ir import parse
from rnngraph.passes import PASSES, PIPELINES
from tests.fuzz import keras_seeds

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NUMBER = re.compile(r"\d+(\.\d+)?(e[-+]?\d+)?(?= ?(ns|us|ms|s|MiB|KiB)\b)")


def blocks(text: str, language: str = "python") -> list[str]:
    """The fenced blocks of a language, dedented."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def marked(text: str, name: str) -> str:
    """The fenced block behind ``<!-- name -->``."""
    (found,) = re.findall(rf"^<!-- {name} -->\n```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)


def execute(source: str, module: types.ModuleType) -> str:
    """Run ``source`` in ``module``; returns what it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(source, module.__name__, "exec"), module.__dict__)
    return printed.getvalue()


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType("documentation")
    monkeypatch.setitem(sys.modules, made.__name__, made)  # dataclasses look there
    return made


def test_the_two_commands_are_one_line_each() -> None:
    for name in ("ci:demo", "ci:test"):
        assert len(marked(README, name).splitlines()) == 1
    script = (ROOT / ".ci" / "run").read_text()
    assert "demo=$(readme demo)" in script
    assert "test=$(readme test)" in script
    assert "pip install -e" not in script.replace('python -m pip install -q -e ".[lint]"', "")


def test_ci_reads_the_lines_that_stand_here() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    (function,) = re.findall(r"^readme\(\) \{\n.*?^\}$", script, re.MULTILINE | re.DOTALL)
    for name in ("demo", "test"):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", f"{function}\nreadme {name}"], cwd=ROOT,
                              capture_output=True, text=True, check=True)
        assert done.stdout == marked(README, f"ci:{name}")


def test_the_example_is_the_file_and_prints_what_is_shown(module: types.ModuleType) -> None:
    source = (ROOT / "examples" / "quickstart.py").read_text()
    assert marked(README, "example") == source
    printed = NUMBER.sub("#", execute(source, module))
    shown = NUMBER.sub("#", marked(README, "output"))
    assert printed == shown, "\n".join(difflib.unified_diff(shown.splitlines(), printed.splitlines(), lineterm=""))


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "examples").glob("*.py")))
def test_every_example_runs(name: str) -> None:
    if "rnngraph.demo" in (ROOT / "examples" / name).read_text() and not _has_g2p():
        pytest.skip("the package g2p-en is not installed")
    done = subprocess.run([sys.executable, f"examples/{name}"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def _has_g2p() -> bool:
    try:
        checkpoint_path()
    except MissingExtraError:
        return False
    return True


def test_the_readmes_cell(module: types.ModuleType) -> None:
    execute(marked(README, "cell"), module)
    assert module.compiled(np.zeros((2, 3, 16), np.float32)).shape == (2, 64)


def test_the_readme_names_every_command() -> None:
    assert all(f"`rnngraph {name}" in README for name in COMMANDS)


def test_the_readmes_diagram_has_the_passes_in_their_order() -> None:
    section = README.split("## The pipeline")[1]
    names = [n for n in re.findall(r"[a-z]+(?:-[a-z]+)*", blocks(section, "text")[0]) if n in PASSES]
    assert names == re.findall(r"[a-z-]+", re.sub(r"\{.*?\}", "", PIPELINES["default"]))


def test_the_readmes_models_from_elsewhere(module: types.ModuleType, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = rg.Sequential([rg.Input(("batch", "time", 4)), rg.nn.LSTM(3)])
    rg.to_onnx(model, "model.onnx")
    Path("model.keras").write_bytes(keras_seeds.archive())
    Path("model.h5").write_bytes(keras_seeds.h5())
    for name, written in (("symbol.json", "symbol.json"), ("0000.params", "0003.params")):
        shutil.copy(ROOT / "tests" / "data" / "mxnet" / f"gluon_lstm-{name}", f"prefix-{written}")
    module.__dict__.update(rg=rg, model=model, torch_module=torch.nn.GRU(4, 3).eval(), x=torch.zeros(5, 2, 4))
    execute(marked(README, "elsewhere"), module)
    assert Path("out.onnx").is_file()


@pytest.mark.parametrize("page", ["docs/ir.md", "docs/writing-a-cell.md", "docs/adding-a-backend.md",
                                  "docs/running.md", "docs/importing.md"])
def test_code_in_the_docs_runs(page: str, module: types.ModuleType) -> None:
    for source in blocks((ROOT / page).read_text()):
        execute(source, module)


def test_the_pass_in_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "writing-a-pass.md").read_text()
    made = types.ModuleType("rnngraph.passes.double_negation")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    execute(marked(page, "pass"), made)
    monkeypatch.setitem(PASSES, "double-negation", "double_negation:DoubleNegation")
    execute(marked(page, "pass-test"), types.ModuleType("documentation"))


def test_the_graph_in_the_docs_parses_and_prints_as_it_stands() -> None:
    (text,) = blocks((ROOT / "docs" / "ir.md").read_text(), "text")
    graph, _, resource = text.partition("resource ")
    arrays = {"0123456789abcdef": np.arange(20, dtype=np.float32).reshape(5, 4)}
    printed = parse(graph, arrays).to_text(resources=False)
    assert re.sub(r"@[0-9a-f]{16}", "@0123456789abcdef", printed) == graph
    assert resource.startswith("@0123456789abcdef f32[5,4] base64")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text()):
        if not target.startswith("https://"):
            base = ROOT if (ROOT / target).exists() else (ROOT / page).parent
            assert (base / target).exists(), f"{page} links to {target}"
