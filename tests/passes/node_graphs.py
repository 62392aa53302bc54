"""Graphs of rnn nodes, for the tests of the merges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rnngraph.ir import F32, I32, RNN, Builder, Graph, Rnn, RnnAttrs, TensorType, Value, build_graph, make_op, ops
from rnngraph.passes import run
from rnngraph.rewrite import PassContext
from tests.testing import assert_same_numbers


class Nodes:
    """Inserts rnn nodes with random constant weights."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.rng = np.random.default_rng(0)

    def rnn(self, x: Value, layer: str, mode: str = "lstm", hidden: int = 4, *, lengths: Value | None = None,
            states: list[Value] | None = None, **attrs: object) -> Rnn:
        a = RnnAttrs(mode, hidden, lengths=lengths is not None, **attrs)  # type: ignore[arg-type]
        batch, d = x.shape[1], len(a.reverses)
        sizes = (a.features, hidden)[: 1 + a.has_cell]
        zeros = [self.b.full(0.0, (a.num_layers * d, batch, size)) for size in sizes]
        weights = []
        for k in range(a.num_layers * d):
            width = x.shape[2] if k < d else a.features * d
            assert isinstance(width, int)
            n = a.gates * hidden
            weights += [self.const(width, n), self.const(a.features, n), self.const(n), self.const(n)]
            weights += [self.const(hidden, a.proj)] if a.proj else []
        extra = [lengths] if lengths is not None else []
        return Rnn(self.b.insert(make_op(RNN, (x, *(states or zeros), *extra, *weights), a, layer=layer)))

    def const(self, *shape: int) -> Value:
        return self.b.const(self.rng.standard_normal(shape).astype(np.float32))

    def mask(self, y: Value, rate: float, seed: int) -> Value:
        mask = self.b.op(ops.RANDOM_MASK, attrs=ops.RandomMaskAttrs(seed, rate, y.shape, y.type.dtype))
        return self.b.mul(y, mask)


Body = Callable[[Nodes, dict[str, Value]], dict[str, Value]]


def node_graph(body: Body) -> Graph:
    """Inputs x [T,B,3], z [T,B,3], lengths and other (i32[B]), h and c [1,B,4]; outputs what ``body`` returns."""
    state = TensorType(F32, (1, "B", 4))
    inputs = {"x": TensorType(F32, ("T", "B", 3)), "z": TensorType(F32, ("T", "B", 3)), "h": state, "c": state,
              "lengths": TensorType(I32, ("B",)), "other": TensorType(I32, ("B",))}
    return build_graph(inputs, lambda b, v: body(Nodes(b), v))


def after(graph: Graph, pipeline: str) -> tuple[Graph, list[str], list[Rnn]]:
    """A copy after ``pipeline`` with the same numbers, the remarks, and the rnn nodes left."""
    copy, context = graph.clone(), PassContext()
    run(pipeline, copy, context)
    assert_same_numbers(graph, copy, rtol=0, atol=1e-9)
    return copy, [str(r) for r in context.remarks], [Rnn(op) for op in copy.walk() if op.name == "rnn"]
