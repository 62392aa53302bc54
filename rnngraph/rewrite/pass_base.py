"""Pass, and what a pass is given and says: context, remarks, artefacts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol

from rnngraph.ir import Dims, Graph, Op
from rnngraph.rewrite.remarks import APPLIED, MISSED, NOTE, Miss, Remark


class Artifact(Protocol):
    """Something that a pass computes beside the graph (a schedule, a memory plan) and that dumps show."""

    def to_text(self) -> str:
        """Readable lines; a dump prints them as comments behind the graph."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of running one implementation of one op: why it will not do ("" when it will), seconds of a call where
    they were measured, and the error of its result relative to the scale."""

    failure: str = ""
    seconds: float | None = None
    error: float | None = None


@dataclass(slots=True)
class PassContext:
    """What passes share in one compile.

    target     "cpu", "gpu" or "auto"
    registry   the implementations that select-implementation chooses from (see rnngraph.backends.registry)
    dims       sizes that the user expects for symbols; hints for cost models, never for semantics
    options    what the caller of compile() asked for (threads, precision, ...)
    trial      runs an op alone by the implementation of a name; None where nothing is to be tried
    artifacts  results that are not IR, by name: "schedule", "memory", "selection"
    """

    target: str = "cpu"
    registry: Any = None
    dims: Dims = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    trial: Callable[[Op, str, Dims], Tried] | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    current: str = ""  # the name of the running pass

    def applied(self, layer: str, message: str) -> None:
        self._say(APPLIED, layer, message)

    def missed(self, miss: Miss, layer: str = "") -> None:
        self._say(MISSED, miss.layer or layer, miss.reason)

    def note(self, layer: str, message: str) -> None:
        self._say(NOTE, layer, message)

    def _say(self, kind: str, layer: str, message: str) -> None:
        remark = Remark(kind, self.current, layer, message)
        if remark not in self.remarks:
            self.remarks.append(remark)


@dataclass(frozen=True)
class Pass:
    """A transformation of a graph, in place. Fields are its options; ``name`` is kebab-case, as its file's name.

    ``ensures`` holds checks that must hold afterwards; they run with verify-each.
    """

    name: ClassVar[str]
    ensures: ClassVar[tuple[Callable[[Graph], None], ...]] = ()

    def run(self, graph: Graph, context: PassContext) -> None:
        raise NotImplementedError

    def __str__(self) -> str:
        """``name{option=value,...}`` with the options that differ from their defaults; `Pipeline.parse` reads it."""
        options = [f"{f.name.replace('_', '-')}={_text(getattr(self, f.name))}"
                   for f in fields(self) if getattr(self, f.name) != f.default]
        return self.name + (f"{{{','.join(options)}}}" if options else "")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
