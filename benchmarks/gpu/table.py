"""What a check has found: rows, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

OK, FAIL, INFO = "ok", "FAIL", "info"
ABSENT = "not offered"  # the candidate's constraints do not hold, or a tool is not there: the note says why
LEFT = "left out"  # there was no time
VERDICTS = (OK, FAIL, INFO, ABSENT, LEFT)


@dataclass(frozen=True, slots=True)
class Row:
    """One case on one path. ``numbers`` have their units in their names."""

    case: str
    path: str
    verdict: str
    numbers: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"a verdict is one of {', '.join(VERDICTS)}, got {self.verdict!r}")


@dataclass(frozen=True, slots=True)
class Result:
    """The rows of one section. ``matrix``: the number that stands for a row where cases are lines and paths columns."""

    name: str
    title: str
    rows: list[Row]
    seconds: float
    matrix: str = ""

    def count(self, verdict: str) -> int:
        return sum(r.verdict == verdict for r in self.rows)


def markdown(results: Sequence[Result], head: str) -> str:
    """All sections: a table of counts, then each section's own."""
    total: list[tuple[str, ...]] = [("section", *VERDICTS, "seconds")]
    total += [(r.name, *(str(r.count(v)) for v in VERDICTS), f"{r.seconds:.1f}") for r in results]
    parts = [head, _table(total)]
    for r in results:
        parts += [f"## {r.name}: {r.title}", _matrix(r) if r.matrix else _plain(r.rows)]
        if r.matrix and (rest := [row for row in r.rows if row.verdict == FAIL or row.note]):
            parts += [_notes(rest)]
    return "\n\n".join(p for p in parts if p) + "\n"


def csv_text(results: Sequence[Result]) -> str:
    """One line a number; a row without numbers has one line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("section", "case", "path", "verdict", "name", "value", "note"))
    for r in results:
        for row in r.rows:
            for name, value in row.numbers.items() or [("", "")]:
                writer.writerow((r.name, row.case, row.path, row.verdict, name, value, row.note))
    return out.getvalue()


def _plain(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(n for r in rows for n in r.numbers))
    lines = [("case", "path", *names, "verdict", "note")]
    lines += [(r.case, r.path, *(_text(r.numbers.get(n, "")) for n in names), r.verdict, _short(r.note)) for r in rows]
    used = [i for i, _ in enumerate(lines[0]) if any(line[i] for line in lines[1:])]
    return _table([tuple(line[i] for i in used) for line in lines])


def _matrix(result: Result) -> str:
    paths = list(dict.fromkeys(r.path for r in result.rows))
    cells: dict[str, dict[str, str]] = {}
    for r in result.rows:
        value = _text(r.numbers.get(result.matrix, r.numbers.get("ratio", "")))
        text = {OK: value, INFO: value, FAIL: f"**FAIL** {value}".strip(), ABSENT: "-", LEFT: "left out"}[r.verdict]
        cells.setdefault(r.case, {})[r.path] = text
    return _table([("case", *paths), *((c, *(by.get(p, "") for p in paths)) for c, by in cells.items())])


def _notes(rows: Sequence[Row]) -> str:
    """Rows with equal notes are one line."""
    same: dict[tuple[str, str], list[Row]] = {}
    for r in rows:
        same.setdefault((r.verdict, _short(r.note)), []).append(r)
    return "\n".join(f"- {verdict}: {_few(r.path for r in like)}: {note} ({_few(r.case for r in like)})"
                     for (verdict, note), like in same.items())


def _few(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(n for n in names if n))
    return ", ".join(found) if 0 < len(found) < 4 else f"{len(found) or 'all'} of them"


def _table(lines: Sequence[tuple[str, ...]]) -> str:
    if len(lines) < 2:
        return ""
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([rows[0], "| " + " | ".join("---" for _ in lines[0]) + " |", *rows[1:]])


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _short(note: str) -> str:
    """The last line of a traceback says what happened; the CSV has all of it."""
    lines = note.strip().splitlines() or [""]
    return (lines[-1] if note.startswith("Traceback") else " ".join(lines))[:300]


__all__ = ["ABSENT", "FAIL", "INFO", "LEFT", "OK", "Result", "Row", "csv_text", "markdown"]
