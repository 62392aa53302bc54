"""What tests of passes and backends share: graphs compared as text, and graphs compared by their numbers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnngraph import backends
from rnngraph.ir import Array, Dims, Graph, Op, Rnn, Scan, Value, evaluate, parse, resolve, to_text, verify
from rnngraph.passes import run
from rnngraph.rewrite import PassContext

# The table of backends for tests that are about the reference alone: ``patch.setattr(backends, "BACKENDS", ...)``.
WITHOUT_LLVM = {name: module for name, module in backends.BACKENDS.items() if name != "llvm"}


def canonical_text(graph: Graph | str) -> str:
    """The text with values numbered in order (inputs keep their names): equal up to names of values."""
    copy = parse(graph) if isinstance(graph, str) else graph.clone()
    for op in copy.walk():
        for value in (*op.results, *(a for b in op.blocks for a in b.args)):
            value.hint = ""
    return to_text(copy)


def assert_rewrites(before: str | Graph, pipeline: str, after: str | Graph | None, *,
                    remarks: Sequence[str] | None = None, context: PassContext | None = None) -> Graph:
    """Run ``pipeline`` on ``before`` (verified after each pass) and expect exactly the graph ``after``.

    ``after=None`` expects that nothing changes. ``remarks``, where given, are all remarks, in order.
    Names of values do not count, layers do. Returns the rewritten graph.
    """
    graph = parse(before) if isinstance(before, str) else before.clone()
    context = context or PassContext()
    run(pipeline, graph, context, verify_each=True)
    assert_same_text(canonical_text(graph), canonical_text(before if after is None else after))
    if remarks is not None:
        assert_same_text("\n".join(map(str, context.remarks)), "\n".join(remarks))
    return graph


def assert_same_text(got: str, expected: str) -> None:
    """Equal texts, or an AssertionError that shows the lines that differ."""
    if got != expected:
        lines = difflib.unified_diff(expected.splitlines(), got.splitlines(), "expected", "got", lineterm="", n=20)
        raise AssertionError("\n".join(lines))


def random_inputs(graph: Graph, dims: Mapping[str, int] | None = None, seed: int = 0) -> dict[str, Array]:
    """Random arrays for every input: normal floats, bools, and integers that their users accept.

    Symbols without a size in ``dims`` get 5, 3, 2, 4, 6, ... in order of appearance.
    """
    sizes: Dims = dict(zip(graph.symbols(), [5, 3, 2, 4, 6] * 10, strict=False)) | dict(dims or {})
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        shape, kind = resolve(value.shape, sizes), value.type.dtype.kind
        if kind == "float":
            array: Any = rng.standard_normal(shape)
        elif kind == "bool":
            array = rng.random(shape) < 0.5
        else:
            array = rng.integers(0, integer_bound(value, sizes), shape)
        arrays[name] = np.asarray(array).astype(value.type.dtype.numpy)
    return arrays


def integer_bound(value: Value, dims: Dims) -> int:
    """The smallest exclusive bound that users of an integer set: steps + 1 of lengths, rows of a table."""
    bounds = [_bound(op, i, dims) for op, i in value.uses]
    return max(1, min([b for b in bounds if b is not None], default=4))


def _bound(op: Op, index: int, dims: Dims) -> int | None:
    value = op.operands[index]
    if op.name == "scan" and Scan(op).lengths is value:
        return resolve((Scan(op).attrs.steps,), dims)[0] + 1
    if op.name == "rnn" and Rnn(op).lengths is value:
        return resolve(Rnn(op).x.shape, dims)[0] + 1
    if op.name in ("gather", "take", "gather_elements", "scatter_elements") and index == 1:
        return resolve(op.operands[0].shape, dims)[getattr(op.attrs, "axis", 0)]
    if len(op.results) == 1 and op.results[0].type.dtype.kind == "int":
        bounds = [_bound(user, i, dims) for user, i in op.results[0].uses]
        return min([b for b in bounds if b is not None], default=None)
    return None


def assert_same_numbers(graph_a: str | Graph, graph_b: str | Graph, *, rtol: float, atol: float,
                        dims: Mapping[str, int] | None = None, seed: int = 0) -> None:
    """Both graphs give the same outputs, in float64 by the reference, on the same random inputs."""
    a = parse(graph_a) if isinstance(graph_a, str) else graph_a
    b = parse(graph_b) if isinstance(graph_b, str) else graph_b
    verify(a)
    verify(b)
    inputs = random_inputs(a, dims, seed)
    want, got = (evaluate(g, inputs, float64=True) for g in (a, b))
    assert list(want) == list(got)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=rtol, atol=atol, err_msg=f"output {name!r}")


def assert_keeps_numbers(before: str | Graph, pipeline: str, *, rtol: float, atol: float,
                         dims: Mapping[str, int] | None = None, seed: int = 0) -> Graph:
    """Run ``pipeline`` on a copy of ``before`` and compare the numbers; returns the rewritten graph."""
    old = parse(before) if isinstance(before, str) else before
    new = old.clone()
    run(pipeline, new, PassContext(), verify_each=True)
    assert_same_numbers(old, new, rtol=rtol, atol=atol, dims=dims, seed=seed)
    return new
