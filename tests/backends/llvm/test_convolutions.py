"""Convolutions outside of loops: windows of the input's memory, for all sizes, groups, strides, ways to share work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from rnngraph.backends.llvm import plan
from rnngraph.backends.llvm.rows import split_rows, whole
from rnngraph.ir import F32, Builder, Dim, Graph, TensorType, Value, build_graph
from rnngraph.ir.grid_ops import CONV, ConvAttrs
from rnngraph.ir.ops import RELU
from rnngraph.passes import run as run_passes
from tests.backends.llvm.native import PLANNERS, check, native
from tests.backends.llvm.test_bounds import needs_mprotect, run_sweep, sweep_sizes
from tests.testing import random_inputs

CLEAN = "canonicalize,lower-conv,fold-constants,cse,dce"


def conv(b: Builder, x: Value, kernel: tuple[int, ...], seed: int = 0, **attrs: Any) -> Value:
    """x convolved by a random constant kernel, plus a bias, through relu."""
    n = len(kernel) - 2
    given = {"strides": (1,) * n, "low": (0,) * n, "high": (0,) * n, "dilation": (1,) * n} | attrs
    rng = np.random.default_rng(seed)
    y = b.op(CONV, x, b.const(rng.standard_normal(kernel).astype(np.float32)), attrs=ConvAttrs(**given))
    bias = b.const(rng.standard_normal(kernel[-1]).astype(np.float32))
    return b.op(RELU, b.add(y, b.broadcast(bias, y.shape)))


def lowered(shape: tuple[Dim, ...], body: Any, first: tuple[int, ...] | None = None) -> Graph:
    """A graph of one input ``x``, after the passes; ``first``: a permutation of it."""
    def whole_body(b: Builder, v: Mapping[str, Value]) -> dict[str, Value]:
        return {"y": body(b, b.transpose(v["x"], first) if first else v["x"])}

    graph = build_graph({"x": TensorType(F32, shape)}, whole_body)
    run_passes(CLEAN, graph)
    return graph


ONE = {"low": (1,), "high": (1,)}
CASES: dict[str, tuple[tuple[Dim, ...], tuple[int, ...], dict[str, Any]]] = {
    "same": (("B", "T", 5), (3, 5, 7), ONE),
    "stride": (("B", "T", 5), (3, 5, 16), ONE | {"strides": (2,)}),
    "one channel": (("B", "T", 1), (9, 1, 33), {"strides": (4,)}),
    "dilation": (("B", "T", 4), (3, 4, 8), {"dilation": (2,)}),
    "kernel of one": (("B", "T", 4), (1, 4, 9), {"strides": (3,)}),
    "groups": (("B", "T", 6), (3, 3, 8), ONE | {"groups": 2}),
    "depthwise": (("B", "T", 6), (3, 1, 6), ONE | {"groups": 6}),
    "many groups": (("B", "T", 48), (3, 2, 48), {"groups": 24}),
    "two filters a channel": (("B", "T", 6), (3, 1, 12), {"groups": 6}),
    "2-D": (("B", "T", 10, 3), (3, 3, 3, 16), {"low": (1, 1), "high": (1, 1)}),
    "2-D strides": (("B", "T", "W", 3), (3, 2, 3, 5), {"strides": (2, 3), "low": (1, 0), "high": (2, 1)}),
    "2-D steps of a sequence": (("B", "S", "T", 7, 2), (2, 3, 2, 5), {}),
    "3-D": (("B", "T", 4, 6, 2), (2, 2, 2, 2, 3), {"low": (1, 1, 1), "high": (0, 0, 0), "strides": (1, 2, 1)}),
}
SIZES = ({"B": 1, "T": 9, "S": 2, "W": 7}, {"B": 3, "T": 10, "S": 3, "W": 8}, {"B": 2, "T": 70, "S": 2, "W": 21})


@pytest.mark.parametrize("name", CASES)
def test_convolutions(name: str) -> None:
    shape, kernel, attrs = CASES[name]
    check(native(lowered(shape, lambda b, x: conv(b, x, kernel, **attrs))), SIZES)


@pytest.mark.parametrize("name", ["stride", "groups", "2-D", "3-D"])
def test_channels_first(name: str) -> None:
    shape, kernel, attrs = CASES[name]
    rank = len(shape)
    to_last = (0, *range(2, rank), 1)
    back = tuple(to_last.index(k) for k in range(rank))
    first = (shape[0], shape[-1], *shape[1:-1])

    def body(b: Builder, x: Value) -> Value:
        return b.transpose(conv(b, x, kernel, **attrs), back)

    check(native(lowered(first, body, to_last)), SIZES)


def tower(b: Builder, x: Value) -> Value:
    """Layers that write between the zeros that the next one reads, a mean over time, and a sum of two branches."""
    a = conv(b, x, (3, 4, 20), 1, **ONE)
    c = conv(b, a, (3, 20, 20), 2, **ONE)
    d = b.add(conv(b, c, (5, 20, 20), 3, low=(2,), high=(2,)), a)
    return conv(b, d, (3, 20, 9), 4, strides=(2,), **ONE)


@pytest.mark.parametrize("mode", PLANNERS)
def test_every_way_to_share_the_work_gives_the_same_bits(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = [lowered(("B", "T", 4), tower),
              lowered(("B", "T", "W", 3), lambda b, x: conv(b, x, (3, 3, 3, 40), low=(1, 1), high=(1, 1)))]
    for graph in graphs:
        alone, shared = native(graph), native(graph, threads=2)
        for dims in SIZES:
            inputs = random_inputs(graph, dims)
            want = alone(inputs)["y"]
            with monkeypatch.context() as patch:
                patch.setattr(plan, "Planner", PLANNERS[mode])
                np.testing.assert_array_equal(shared(inputs)["y"], want)


def test_the_interior_of_a_padded_image_is_written_in_place() -> None:
    run = native(lowered(("B", "T", 4), tower))
    check(run, SIZES)
    made = run.kernel.plans[next(k for k in run.kernel.plans if ("B", 2) in k and ("T", 70) in k)][0]
    assert [s.steps for s in made.splits.values()] == [2, 2, 2, 2]  # sequences one by one, each in its own padding
    assert not made.delivered
    assert not made.relaid


def test_rows_with_several_strides() -> None:
    image = np.zeros((2, 40, 50, 8), np.float32)[:, 1:-1, 1:-1]
    even = np.zeros((2, 38, 48, 8), np.float32)
    split = split_rows((2, 38, 48), [image, even], matmul=True)
    assert (split.cuts, split.counts, split.steps) == ((1, 2), (2, 38, 48), 76)
    assert split_rows((2, 38, 48), [even], matmul=True) == whole((2, 38, 48))
    assert split_rows((2, 38, 4), [image[:, :, :4]], matmul=True) == whole((2, 38, 4))  # too few rows at a time
    assert split_rows((2, 3, 4, 48), [np.zeros((2, 4, 5, 50, 8), np.float32)[:, 1:, 1:, 1:49]],
                      matmul=False) == whole((2, 3, 4, 48))  # too many strides


def bounds() -> None:
    """For `run_sweep`: all cases, with memory that nobody may touch around inputs and outputs."""
    for shape, kernel, attrs in CASES.values():
        sweep_sizes(native(lowered(shape, lambda b, x, k=kernel, a=attrs: conv(b, x, k, **a))), SIZES[:2])


@needs_mprotect
def test_bounds() -> None:
    run_sweep("from tests.backends.llvm import test_convolutions\ntest_convolutions.bounds()")
