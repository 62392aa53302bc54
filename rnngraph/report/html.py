"""The report as one HTML page: no scripts, no links to elsewhere, everything from a model escaped."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from html import escape

from rnngraph.report.explain import op_counts
from rnngraph.report.report import Report
from rnngraph.rewrite import PassRecord, Remark

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #d0d7de }
pre { background: #f6f8fa; padding: .7rem; overflow-x: auto; border-radius: 6px;
      font: 12.5px/1.4 ui-monospace, monospace }
summary { cursor: pointer; padding: .15rem 0 } summary code { font-weight: 600 } .quiet { color: #656d76 }
li { margin: .1rem 0 } .applied { color: #1a7f37 } .missed { color: #9a6700 } .note { color: #656d76 }
.add { background: #dafbe1; display: block } .del { background: #ffebe9; display: block }
.at { color: #8250df; display: block }
"""


def to_html(report: Report) -> str:
    """The whole page as text."""
    title = escape(f"rnngraph: {report.name}")
    body = [f"<h1>{title}</h1>", *_head(report), "<h2>Passes</h2>",
            _details("traced graph", "", _pre(report.trace))]
    body += [_pass(i, p) for i, p in enumerate(report.passes, 1)]
    for name, text in report.artifacts.items():
        body += [f"<h2>{escape(name.capitalize())}</h2>", _pre(text)] if text.strip() else []
    body.append("<h2>Kernels</h2>")
    for k in report.kernels:
        body.append(f"<p><code>{escape(k.backend)}</code> {escape(k.ops)} "
                    f"<span class=quiet>{k.seconds * 1e3:.1f} ms</span></p>")
        body += [_details(kind, "", _pre(text)) for kind, text in k.artifacts().items()]
    head = f"<html lang=en><head><meta charset=utf-8><title>{title}</title><style>{STYLE}</style></head>"
    return "\n".join(["<!doctype html>", head, "<body>", *body, "</body></html>\n"])


def _head(report: Report) -> Iterator[str]:
    facts = [f"target {report.target}", f"precision {report.precision}", f"{len(report.passes)} passes",
             f"compiled in {report.seconds * 1e3:.1f} ms"]
    yield f"<p>{escape(', '.join(facts))}</p>"
    items = [("note", f"input {t}") for t in report.inputs] + [("note", f"output {t}") for t in report.outputs]
    yield _list(items + [("missed", n) for n in report.notes])


def _pass(index: int, record: PassRecord) -> str:
    facts = f"{record.seconds * 1e3:.2f} ms, {op_counts(record)}" + (
        f", {len(record.remarks)} remarks" if record.remarks else "")
    body = _list([(r.kind, _sentence(r)) for r in record.remarks])
    if record.changed:
        body += _details("difference", "", _diff(record)) + _details("graph after", "", _pre(record.after))
    return _details(f"{index}. {record.name}", facts, body, opened=bool(record.remarks))


def _sentence(remark: Remark) -> str:
    return f"{remark.kind}: {remark.layer + ': ' if remark.layer else ''}{remark.message}"


def _diff(record: PassRecord) -> str:
    lines = unified_diff(record.before.splitlines(), record.after.splitlines(), lineterm="", n=2)
    kinds = {"+": "add", "-": "del", "@": "at"}
    shown = [f"<span class={kinds[line[0]]}>{escape(line)}</span>" if line[0] in kinds
             else escape(line) + "\n" for line in list(lines)[2:]]
    return f"<pre>{''.join(shown)}</pre>"


def _list(items: list[tuple[str, str]]) -> str:
    rows = "".join(f"<li class={kind}>{escape(text)}</li>" for kind, text in items)
    return f"<ul>{rows}</ul>" if rows else ""


def _details(title: str, facts: str, body: str, *, opened: bool = False) -> str:
    quiet = f" <span class=quiet>{escape(facts)}</span>" if facts else ""
    return (f"<details{' open' if opened else ''}><summary><code>{escape(title)}</code>{quiet}</summary>"
            f"{body}</details>")


def _pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
