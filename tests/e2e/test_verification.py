"""compile(verify=...): planted passes that break numbers or use lists are found and named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

import rnngraph as rg
from rnngraph.errors import PassError
from rnngraph.ir import Builder, Graph, ops
from rnngraph.passes import pipeline
from rnngraph.rewrite import Pass, PassContext, Pipeline
from tests.e2e.test_compile_api import NEG, SELECT, embedding, recurrence, reference_only

__all__ = ["reference_only"]  # a fixture of this file too


@dataclass(frozen=True)
class TanhToRelu(Pass):
    """A wrong pass, planted: the types stay right, the numbers do not."""

    name: ClassVar[str] = "tanh-to-relu"

    def run(self, graph: Graph, context: PassContext) -> None:
        for op in list(graph.walk()):
            if op.name == "tanh":
                op.result.replace_by(Builder.at(op).op(ops.RELU, op.operands[0]))
                op.erase()


@dataclass(frozen=True)
class DropUse(Pass):
    """A wrong pass, planted: it breaks a use list."""

    name: ClassVar[str] = "drop-use"

    def run(self, graph: Graph, context: PassContext) -> None:
        graph.inputs[0].uses.clear()


def with_planted(planted: Pass) -> Pipeline:
    (select,) = pipeline(SELECT).passes
    return Pipeline((planted, select))


def test_numeric_verification_names_the_pass() -> None:
    with pytest.raises(PassError, match=r"pass 0 \(tanh-to-relu\) changed the numbers: output 'y' is off by"):
        rg.compile(recurrence(lengths=True), pipeline=with_planted(TanhToRelu()), verify="numeric")
    # the types cannot tell
    rg.compile(recurrence(lengths=True), pipeline=with_planted(TanhToRelu()), verify="each")


def test_numeric_verification_passes_what_is_right() -> None:
    for graph in (recurrence(), recurrence(True, True), embedding()):
        rg.compile(graph, pipeline=SELECT, verify="numeric", dims={"time": 7})


def test_each_verification_finds_a_broken_graph() -> None:
    with pytest.raises(rg.errors.IRError, match="does not list this use") as e:
        rg.compile(NEG, pipeline=with_planted(DropUse()), verify="each")
    assert "in pass 0 (drop-use)" in "".join(e.value.__notes__)
