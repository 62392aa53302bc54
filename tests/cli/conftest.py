"""What the command line's tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rnngraph.cli import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """``cli("opt", file)``: the command line in this process."""

    def run(*args: object) -> Outcome:
        code = main([str(a) for a in args])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
