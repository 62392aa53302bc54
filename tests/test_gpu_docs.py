"""docs/gpu.md: its tables are those of the implementations' data, and its sections those of the check."""

from __future__ import annotations

import pytest

from benchmarks.cell_table import TABLE
from benchmarks.gpu.section import SECTIONS
from benchmarks.gpu.support import DOCUMENT, TABLES, candidates, parts, rewritten, taken

TEXT = DOCUMENT.read_text()
HOW = "run: python -m benchmarks.gpu.support"


@pytest.mark.parametrize("name", ["candidates", "constraints"])
def test_tables(name: str) -> None:
    assert dict(parts(TEXT))[name] == TABLES[name](), HOW


@pytest.mark.slow
def test_every_cell() -> None:
    assert rewritten(TEXT) == TEXT, HOW


def test_some_cells() -> None:
    lines = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
             for line in dict(parts(TEXT))["cells"].splitlines()}
    columns = lines["cell"]
    for cell in ("LSTM", "layer-norm GRU"):
        whole, loops = taken(TABLE[cell])
        assert (lines[cell][0] == "all four") == any(n.startswith("cupy.cudnn.") for n in whole), HOW
        assert {c.strip("`") for c, yes in zip(columns, lines[cell], strict=True) if yes == "yes"} == loops, HOW


def test_every_candidate_and_section_is_described() -> None:
    for i in candidates():
        assert f"`{i.name}`" in TEXT
    for name in SECTIONS:
        assert f"| {name} |" in TEXT
