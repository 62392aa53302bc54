"""Random graphs keep their numbers under every pass of the algebra, alone and in random pipelines."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnngraph.ir import Graph, to_text
from rnngraph.passes import run
from tests.graphs import graphs
from tests.testing import assert_keeps_numbers

PASSES = ("canonicalize", "fold-constants", "cse", "dce", "hoist-invariant", "fuse-gate-matmuls",
          "hoist-input-projection")
DIMS = st.fixed_dictionaries({"T": st.integers(0, 4), "B": st.integers(1, 3)})
quick = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_keeps_the_numbers(name: str) -> None:
    @quick
    @given(graphs(), DIMS)
    def check(graph: Graph, dims: dict[str, int]) -> None:
        assert_keeps_numbers(graph, name, rtol=1e-5, atol=1e-5, dims=dims)

    check()


@quick
@given(graphs(), DIMS, st.lists(st.sampled_from(PASSES), min_size=2, max_size=6))
def test_random_pipelines_keep_the_numbers(graph: Graph, dims: dict[str, int], names: list[str]) -> None:
    assert_keeps_numbers(graph, ",".join(names), rtol=1e-5, atol=1e-5, dims=dims)


@quick
@given(graphs())
def test_canonicalize_and_cleaning_settle(graph: Graph) -> None:
    """A second run of what has just run finds nothing to do."""
    for name in ("canonicalize", "dce", "cse", "hoist-invariant"):
        run(name, graph)
        once = to_text(graph)
        run(name, graph)
        assert to_text(graph) == once


@quick
@given(graphs())
def test_passes_are_deterministic(graph: Graph) -> None:
    copies = [graph.clone(), graph.clone()]
    for copy in copies:
        run(",".join(PASSES), copy)
    assert to_text(copies[0]) == to_text(copies[1])
