"""A pipeline: passes in one visible line of text, run with records, instruments and context-rich errors."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from rnngraph.errors import ParseError, PassError
from rnngraph.ir import Graph, verify
from rnngraph.rewrite.pass_base import Pass, PassContext
from rnngraph.rewrite.remarks import Remark
from rnngraph.rewrite.snapshot import Snapshot

_PASS = re.compile(r"\s*([a-z][a-z0-9\-]*)\s*(?:\{([^{}]*)\})?\s*")


@dataclass(slots=True)
class PassRecord:
    """What one pass did: its text, the graph before and after, time, remarks, and the text of its artefacts."""

    name: str
    start: Snapshot
    end: Snapshot
    seconds: float
    remarks: list[Remark] = field(default_factory=list)
    artifacts: dict[str, str] = field(default_factory=dict)

    @property
    def before(self) -> str:
        """The graph before the pass as text, large constants as references."""
        return self.start.text

    @property
    def after(self) -> str:
        """The graph after the pass as text, large constants as references."""
        return self.end.text

    @property
    def changed(self) -> bool:
        """Whether the pass changed the graph."""
        return self.start is not self.end and self.before != self.after


class Instrument(Protocol):
    """Watches a pipeline run: dumping, printing, timing are instruments."""

    def after(self, index: int, record: PassRecord, graph: Graph) -> None:
        """Called after each pass."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An ordered list of passes; ``str(pipeline)`` parses back to an equal one."""

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str, lookup: Callable[[str], type[Pass]]) -> Pipeline:
        """Read ``a,b{option=value}``. ``lookup`` maps a name to its class (KeyError when unknown).

        Raises ParseError with the column for bad syntax, unknown passes and unknown or ill-typed options.
        """
        passes: list[Pass] = []
        at = 0
        while at < len(text):
            match = _PASS.match(text, at)
            if match is None:
                raise ParseError(f"expected a pass name, got {text[at:at + 20]!r}", 1, at + 1)
            try:
                passes.append(_make(lookup(match.group(1)), match.group(2) or ""))
            except (KeyError, ValueError) as e:
                raise ParseError(str(e.args[0]), 1, match.start(1) + 1) from None
            at = match.end()
            if at < len(text):
                if text[at] != ",":
                    raise ParseError(f"expected ',' between passes, got {text[at]!r}", 1, at + 1)
                at += 1
        return cls(tuple(passes))

    def __str__(self) -> str:
        return ",".join(map(str, self.passes))

    def run(self, graph: Graph, context: PassContext, *, instruments: Sequence[Instrument] = (),
            verify_each: bool = False) -> list[PassRecord]:
        """Run every pass in place on ``graph``; an exception carries the pass, its position and how to repeat it."""
        records: list[PassRecord] = []
        before = Snapshot(graph)
        for index, p in enumerate(self.passes):
            said, known = len(context.remarks), dict(context.artifacts)
            context.current = p.name
            start = time.perf_counter()
            try:
                p.run(graph, context)
                seconds = time.perf_counter() - start
                if verify_each:
                    verify(graph)
                    for check in p.ensures:
                        check(graph)
            except Exception as e:
                e.add_note(_explain(self.passes, index, before.text))
                raise
            after = before if before.still(graph) else Snapshot(graph)
            new = {k: a.to_text() for k, a in context.artifacts.items() if known.get(k) is not a}
            record = PassRecord(str(p), before, after, seconds, context.remarks[said:], new)
            records.append(record)
            for instrument in instruments:
                instrument.after(index, record, graph)
            before = after
        return records


def _explain(passes: Iterable[Pass], index: int, before: str) -> str:
    done = [str(p) for p in passes]
    lines = before.splitlines()
    shown = "\n".join(lines[:20] + (["  ..."] if len(lines) > 20 else []))
    return (f"in pass {index} ({done[index]}), after {','.join(done[:index]) or 'no other pass'}; repeat with\n"
            f"  rnngraph opt GRAPH.rg --pipeline {','.join(done[index:index + 1])!r}\non the graph\n{shown}")


def _make(cls: type[Pass], text: str) -> Pass:
    declared = {f.name: f for f in fields(cls)}
    options: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, sep, value = item.partition("=")
        name = key.strip().replace("-", "_")
        if not sep or name not in declared:
            known = ", ".join(n.replace("_", "-") for n in declared) or "none"
            raise ValueError(f"pass {cls.name} has no option {key.strip()!r} (options: {known})")
        options[name] = _value(cls.name, key.strip(), str(declared[name].type), value.strip())
    return cls(**options)


def _value(pass_name: str, key: str, kind: str, text: str) -> Any:
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        raise ValueError(f"pass {pass_name}: option {key} must be {kind}, got {text!r}") from None


__all__ = ["Instrument", "PassError", "PassRecord", "Pipeline"]
