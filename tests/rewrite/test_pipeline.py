"""Pipelines are text; a run leaves records, remarks and errors that say how to repeat them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from rnngraph.errors import IRError, ParseError, PassError
from rnngraph.ir import Graph, parse
from rnngraph.passes import PASSES, PIPELINES, lookup, pipeline, run
from rnngraph.rewrite import Miss, Pass, PassContext, PassRecord, Pipeline

TEXT = "graph @g(%x: f32[B,4]) { %a = neg %x : f32[B,4]  %b = neg %a : f32[B,4]  return y = %b }"


@dataclass(frozen=True)
class Options(Pass):
    """Says its options."""

    name: ClassVar[str] = "options"
    how_many: int = 2
    scale: float = 0.5
    fast: bool = False
    mode: str = "plain"

    def run(self, graph: Graph, context: PassContext) -> None:
        context.note("dense", f"how-many is {self.how_many}")
        context.note("dense", f"how-many is {self.how_many}")
        context.missed(Miss("no reason", "lstm"))


@dataclass(frozen=True)
class Breaks(Pass):
    """Leaves a graph that does not verify."""

    name: ClassVar[str] = "breaks"

    def run(self, graph: Graph, context: PassContext) -> None:
        graph.block.ops[0].set_operands([graph.block.ops[1].result])


def never(graph: Graph) -> None:
    raise PassError("a promise is broken")


@dataclass(frozen=True)
class Promises(Pass):
    """Ensures what never holds."""

    name: ClassVar[str] = "promises"
    ensures = (never,)

    def run(self, graph: Graph, context: PassContext) -> None:
        return None


KNOWN: dict[str, type[Pass]] = {p.name: p for p in (Options, Breaks, Promises)}


@pytest.mark.parametrize("text", ["options", "options,breaks", "options{how-many=3}",
                                  "options{how-many=-1,scale=2.5,fast=true,mode=x}", ""])
def test_text_parses_and_prints_back(text: str) -> None:
    assert str(Pipeline.parse(text, KNOWN.__getitem__)) == text


def test_defaults_and_spaces_do_not_print() -> None:
    parsed = Pipeline.parse(" options { how-many = 2 , fast = true } , breaks ", KNOWN.__getitem__)
    assert str(parsed) == "options{fast=true},breaks"
    assert parsed == Pipeline.parse(str(parsed), KNOWN.__getitem__)


@pytest.mark.parametrize(("text", "message"), [
    ("options,,breaks", "1:9: expected a pass name, got ',breaks'"),
    ("options breaks", "1:9: expected ',' between passes, got 'b'"),
    ("cse,nope", "1:5: unknown pass 'nope'; the passes are canonicalize, fold-constants"),
    ("cse{max=3}", "1:1: pass cse has no option 'max' (options: none)"),
    ("hoist-input-projection{min-steps=two}", "1:1: pass hoist-input-projection: option min-steps must be int"),
    ("hoist-input-projection{min-steps}", "1:1: pass hoist-input-projection has no option 'min-steps'"),
    ("cse{", "1:4: expected ',' between passes, got '{'"),
])
def test_bad_text_says_where(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        Pipeline.parse(text, KNOWN.__getitem__ if "options," in text or text.startswith("options ") else lookup)
    assert str(caught.value).startswith(message)


def test_every_named_pass_has_its_name_and_file() -> None:
    for name, where in PASSES.items():
        assert lookup(name).name == name
        assert where.split(":")[0] == name.replace("-", "_")


def test_named_pipelines_are_lines_that_print_back() -> None:
    for text in PIPELINES.values():
        assert str(pipeline(text)) == text


def test_records_hold_text_time_and_remarks() -> None:
    graph = parse(TEXT)
    records = run("canonicalize,cse", graph)
    assert [(r.name, r.changed) for r in records] == [("canonicalize", True), ("cse", False)]
    assert "neg" in records[0].before
    assert records[0].after == records[1].before == graph.to_text()
    assert all(r.seconds >= 0 for r in records)
    context = PassContext()
    (record,) = Pipeline((Options(),)).run(graph, context)
    assert [str(r) for r in record.remarks] == ["note: options: dense: how-many is 2",
                                                "missed: options: lstm: no reason"]


def test_instruments_see_every_pass() -> None:
    seen: list[tuple[int, str]] = []

    class Watch:
        def after(self, index: int, record: PassRecord, graph: Graph) -> None:
            seen.append((index, record.name))

    run("dce,cse", parse(TEXT), instruments=[Watch()])
    assert seen == [(0, "dce"), (1, "cse")]


def test_an_error_names_the_pass_and_how_to_repeat_it() -> None:
    with pytest.raises(IRError) as caught:
        Pipeline((Options(), Breaks())).run(parse(TEXT), PassContext(), verify_each=True)
    (note,) = caught.value.__notes__
    assert note.startswith("in pass 1 (breaks), after options; repeat with\n"
                           "  rnngraph opt GRAPH.rg --pipeline 'breaks'")
    assert "graph @g(%x: f32[B,4]) {" in note


def test_promises_are_checked_with_verify_each_only() -> None:
    Pipeline((Promises(),)).run(parse(TEXT), PassContext())
    with pytest.raises(PassError, match="a promise is broken"):
        Pipeline((Promises(),)).run(parse(TEXT), PassContext(), verify_each=True)
