"""The report as text."""

from __future__ import annotations

from collections.abc import Iterator

from rnngraph.report.report import Report
from rnngraph.rewrite import PassRecord


def explain(report: Report) -> str:
    """Pipeline and remarks, then every artifact (selection, schedule, memory), then the kernels."""
    sections = ["\n".join(_head(report)), "\n".join(_passes(report))]
    sections += [f"{name}\n{_indent(text)}" for name, text in report.artifacts.items() if text.strip()]
    kernels = [f"  {k.backend}: {k.ops} (built in {k.seconds * 1e3:.1f} ms)" for k in report.kernels]
    sections.append("\n".join(["kernels", *(kernels or ["  none: the outputs are inputs or constants"])]))
    return "\n\n".join(sections) + "\n"


def _head(report: Report) -> Iterator[str]:
    yield (f"{report.name}: target {report.target}, precision {report.precision}, "
           f"{len(report.passes)} passes, compiled in {report.seconds * 1e3:.1f} ms")
    yield "  inputs   " + ", ".join(report.inputs)
    yield "  outputs  " + ", ".join(report.outputs)
    yield from (f"  note     {note}" for note in report.notes)


def _passes(report: Report) -> Iterator[str]:
    yield "passes"
    width = max((len(p.name) for p in report.passes), default=0)
    for i, p in enumerate(report.passes, 1):
        yield f"  {i:3d} {p.name.ljust(width)} {p.seconds * 1e3:8.2f} ms  {op_counts(p)}"
        yield from (f"      {remark}" for remark in p.remarks)


def op_counts(record: PassRecord) -> str:
    """How many ops went in and came out: one line of text is one op, braces and bodies' heads apart."""
    if not record.changed:
        return "unchanged"
    before, after = count_ops(record.before), count_ops(record.after)
    return f"changed, {after} ops" if before == after else f"{before} -> {after} ops"


def count_ops(text: str) -> int:
    return sum(" = " in line and not line.startswith(("graph", "resource")) and
               not line.lstrip().startswith(("return", "yield")) for line in text.splitlines())


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
