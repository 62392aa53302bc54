"""Help, exit codes, and errors of one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from rnngraph.cli import app
from tests.cli.conftest import Cli

ROOT = Path(__file__).resolve().parents[2]


def test_help_names_every_command(cli: Cli) -> None:
    done = cli("--help")
    assert (done.code, done.err) == (0, "")
    assert all(name in done.out for name in app.COMMANDS)


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_has_help(cli: Cli, name: str) -> None:
    done = cli(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: rnngraph {name}")


def test_version(cli: Cli) -> None:
    done = cli("--version")
    assert (done.code, done.out, done.err) == (0, "0.1.0\n", "")


@pytest.mark.parametrize(("args", "message"), [
    (["nothing"], "No such command 'nothing'. (see: rnngraph --help)"),
    (["opt", "--speed"], "No such option '--speed'. (see: rnngraph opt --help)"),
    (["compile"], "Missing argument 'MODEL'. (see: rnngraph compile --help)"),
    (["opt", "no/such.rg", "-p", "dce"], "cannot read 'no/such.rg'"),
    (["inspect", "no/such.py:model"], "no/such.py: No such file"),
    (["inspect", "model.py"], "Write model.py:NAME"),
])
def test_an_error_is_one_line_and_exit_code_2(cli: Cli, args: list[str], message: str) -> None:
    done = cli(*args)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("rnngraph: error: ")
    assert done.err.count("\n") == 1
    assert message in done.err


def test_no_arguments_show_the_help(cli: Cli) -> None:
    done = cli()
    assert done.code == 2
    assert "Commands:" in done.err


def test_traceback_only_when_asked_for(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.rg"
    bad.write_text("graph")
    assert "Traceback" not in cli("opt", bad, "-p", "dce").err
    done = cli("opt", bad, "-p", "dce", "--traceback")
    assert done.code == 2
    assert done.err.startswith("Traceback")


def test_a_bug_is_one_line_and_exit_code_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command(name="doctor")
    def broken() -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(app.Commands, "get_command", lambda *_: broken)
    done = cli("doctor")
    assert done.code == 1
    assert done.err == ("rnngraph: error: ZeroDivisionError: division by zero; this is a bug in rnngraph, "
                        "--traceback shows where\n")


def test_help_starts_without_numpy() -> None:
    """What makes `rnngraph --help` quick; a wall-clock bound would depend on the machine's load."""
    program = ("import sys; from rnngraph.cli import main; main(['--help']); "
               "sys.exit(' '.join(m for m in ('numpy', 'llvmlite', 'networkx') if m in sys.modules) or 0)")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_python_dash_m(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "rnngraph", "opt", "--passes"], cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "canonicalize"
