"""Every node test of the onnx package that is in scope, compiled by the default pipeline, to the test's own tolerance.

The tests that are left out stand in docs/conformance.md with their reasons; all others must pass. Write the table anew:
``python -m tests.conformance.test_onnx_nodes``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from tests.conformance.onnx_nodes import NodeTest, array, node_tests, reason, table
from tests.conformance.test_onnx_recurrent import RECURRENT, cases, op_types, sequences

TWO_UNITS = 2.0**-6  # in the last place of bf16: what is expected was rounded elsewhere on the way
PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
BEGIN, END = "<!-- onnx-nodes -->\n", "\n<!-- /onnx-nodes -->"
IN_SCOPE = [t for t in node_tests().values() if reason(t) is None]
HERE = [t for t in IN_SCOPE if not RECURRENT & set(op_types(t.model.graph.node))]  # the others: test_onnx_recurrent.py


def named(infos: Any, values: Sequence[Any]) -> dict[str, Any]:
    """Inputs or outputs by name; a sequence by its elements."""
    found: dict[str, Any] = {}
    for info, value in zip(infos, values, strict=True):
        found |= {f"{info.name}.{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {info.name: value}
    return found


def check(test: NodeTest) -> None:
    for inputs, outputs in test.data:
        given, want = named(test.model.graph.input, inputs), named(test.model.graph.output, outputs)
        compiled = rg.compile(test.model, sequences(test.model, inputs))
        got = compiled.run({name: array(value) for name, value in given.items()})
        assert list(got) == list(want)
        for g, raw in zip(got.values(), want.values(), strict=True):
            expected = array(raw)
            assert (g.shape, g.dtype) == (expected.shape, expected.dtype)
            rtol = TWO_UNITS if np.asarray(raw).dtype.name == "bfloat16" else test.rtol
            np.testing.assert_allclose(g, expected, rtol=rtol, atol=test.atol)


def params() -> list[Any]:
    """The tests of single nodes; of each op all but the first three are slow."""
    seen: Counter[str] = Counter()
    found = []
    for t in HERE:
        if not t.expanded:
            op = t.model.graph.node[-1].op_type
            seen[op] += 1
            found.append(pytest.param(t.name, marks=[pytest.mark.slow] if seen[op] > 3 else []))
    return found


@pytest.mark.parametrize("name", params())
def test_node(name: str) -> None:
    check(node_tests()[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [t.name for t in HERE if t.expanded])
def test_expanded_node(name: str) -> None:
    check(node_tests()[name])


def test_those_left_out_are_in_the_table() -> None:
    text = PAGE.read_text()
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == table(cases())
    assert len(IN_SCOPE) > 1200


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page[: page.index(BEGIN) + len(BEGIN)] + table(cases()) + page[page.index(END) :])
