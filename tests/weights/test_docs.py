"""docs/weights.md: its table says what the code does, its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rnngraph.weights import FORMATS, find
from tests.weights.support import random_weights
from tests.weights.test_round_trips import PEEPHOLES, PROJECTION, RESET, write

TEXT = (Path(__file__).resolve().parent.parent.parent / "docs" / "weights.md").read_text()
ROWS = {cells[0].strip("`"): cells[1:] for cells in (
    [cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| `"))}
BIASES = {"two": "two", "one": "one", "keras": "one; two of a GRU on R h", "gru": "one; two of gate n on R h"}


def test_every_system_has_a_row() -> None:
    assert list(ROWS) == list(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_row(name: str) -> None:
    lstm, gru, layout, biases, reset, peepholes, projection = ROWS[name]
    form = find(name)
    assert (lstm.replace(" ", ""), gru.replace(" ", "")) == (form.gates["lstm"], form.gates["gru"])
    assert biases == (BIASES["gru"] if name == "tf" else BIASES[form.limits.biases])
    assert reset == ", ".join({True: "R h", False: "h"}[after] for after in RESET[name])
    assert RESET[name] == form.limits.reset
    assert (peepholes == "yes") == (name in PEEPHOLES) == form.limits.peepholes
    assert (projection == "yes") == (name in PROJECTION) == form.limits.projection
    w = random_weights("lstm", 3, 3, projection=2 if projection == "yes" else 0, peepholes=peepholes == "yes", biases=1)
    named = set(re.findall(r"`([^`]+)`", layout))
    for array in write(name, w):  # each array is named, or one that differs from it in its gate or number
        kind = re.sub(r"_[fco]_(weight|bias)$", r"_i_\1", re.sub(r"/\d+$", "/0", array))
        assert re.sub(r"_(forgetgate|cell|outgate)$", "_ingate", kind) in named, (array, named)


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"<!-- example -->\n```python\n(.*?)```", TEXT, re.S)
    exec(compile(code, "docs/weights.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["lstm 1 3 ['B', 'R', 'W'] (5, 12)", "lstm0_l0_i2h_weight"]
