"""Report: every pass with its graph before and after, time and remarks; the selection; the kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rnngraph.ir import Array
from rnngraph.rewrite import PassRecord, Snapshot


@dataclass(frozen=True, slots=True)
class KernelReport:
    """One built segment: its backend, what it runs, build time, and "llvm-ir", "asm", ... on demand."""

    backend: str
    ops: str
    seconds: float
    artifacts: Callable[[], Mapping[str, str]]


@dataclass(slots=True)
class Report:
    """What one compile did. ``passes[i]`` has name, before, after, seconds and remarks.

    traced   the graph as it was traced, before any pass
    seconds  the whole compile: tracing, passes and their records, building
    """

    name: str
    target: str
    precision: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    traced: Snapshot
    passes: list[PassRecord] = field(default_factory=list)
    kernels: list[KernelReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def trace(self) -> str:
        """The text of the traced graph."""
        return self.traced.text

    @property
    def resources(self) -> dict[str, Array]:
        """The large constants that the texts refer to, by key."""
        snapshots = [self.traced, *(p.end for p in self.passes)]
        return {key: array for s in snapshots for key, array in s.resources.items()}

    @property
    def artifacts(self) -> dict[str, str]:
        """The last text of what passes computed beside the graph: "selection", "schedule", "memory"."""
        return {name: text for p in self.passes for name, text in p.artifacts.items()}

    def explain(self) -> str:
        """Readable text: pipeline and remarks, decision table, schedules, kernels."""
        from rnngraph.report.explain import explain

        return explain(self)

    def dump(self, directory: str | Path) -> list[Path]:
        """Write ``000-trace.rg``, ``001-canonicalize.rg``, ... that parse back; see `report.dump`."""
        from rnngraph.report.dump import dump

        return dump(self, Path(directory))

    def to_html(self, path: str | Path) -> Path:
        """Write one HTML file that needs nothing beside it."""
        from rnngraph.report.html import to_html

        path = Path(path)
        path.write_text(to_html(self), encoding="utf-8")
        return path


def signature(names: Sequence[str], types: Sequence[object]) -> tuple[str, ...]:
    """``x: f32[B,T,4]`` for each."""
    return tuple(f"{n}: {t}" for n, t in zip(names, types, strict=True))
