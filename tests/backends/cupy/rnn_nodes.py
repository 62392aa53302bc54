"""Graphs of one rnn node with random constant weights, and such a node run as calls of cuDNN on the stand-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rnngraph.backends.cupy.kernel import GpuKernel
from rnngraph.backends.cupy.machine import Device
from rnngraph.backends.cupy.shim import ShimDevice
from rnngraph.ir import (
    F32,
    I32,
    RNN,
    Array,
    Builder,
    DType,
    Graph,
    Literal,
    Op,
    Rnn,
    RnnAttrs,
    TensorType,
    Value,
    bind_dims,
    build_graph,
    make_op,
)
from rnngraph.ir.ops import CONST, ConstAttrs
from rnngraph.phases.stages import build_schedule


def node_graph(attrs: RnnAttrs, inputs: int, dtype: DType = F32, *, batch_major: bool = False) -> Graph:
    """x, h, c and lengths to y, h_n and c_n. ``batch_major``: x is [B, T, inputs], y [B, T, features]."""
    a, rng = attrs, np.random.default_rng(0)
    count, wide = a.num_layers * len(a.reverses), a.gates * a.hidden
    types = {"x": TensorType(dtype, ("B", "T", inputs) if batch_major else ("T", "B", inputs)),
             "h": TensorType(dtype, (count, "B", a.features))}
    if a.has_cell:
        types["c"] = TensorType(dtype, (count, "B", a.hidden))
    if a.lengths:
        types["lengths"] = TensorType(I32, ("B",))

    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        weights = list[Value]()
        for k in range(count):
            features = inputs if k < len(a.reverses) else a.features * len(a.reverses)
            shapes: list[tuple[int, ...]] = [(features, wide), (a.features, wide), (wide,), (wide,)]
            shapes += [(a.hidden, a.proj)] if a.proj else []
            for s in shapes:
                literal = Literal(rng.uniform(-0.5, 0.5, s).astype(dtype.numpy), dtype)
                weights.append(b.insert(make_op(CONST, [], ConstAttrs(literal))).result)
        x = b.transpose(v["x"], (1, 0, 2)) if batch_major else v["x"]
        results = b.insert(make_op(RNN, [x, *list(v.values())[1:], *weights], a, layer="l")).results
        named = dict(zip(("y", "h_n", "c_n"), results, strict=False))
        return named | ({"y": b.transpose(named["y"], (1, 0, 2))} if batch_major else {})

    return build_graph(types, body)


def node_of(graph: Graph) -> Rnn:
    return Rnn(op_of(graph))


def op_of(graph: Graph) -> Op:
    return next(op for op in graph.walk() if op.name == "rnn")


def cudnn_kernel(graph: Graph, impl: str, device: Device | None = None) -> GpuKernel:
    """The graph, whose rnn node is run by an implementation, as a kernel; what else is in it are views."""
    op_of(graph).impl = impl
    schedule = build_schedule([op for op in graph.block.body if op.opdef is not CONST], graph.outputs)
    return GpuKernel(schedule, graph.inputs, graph.outputs, device or ShimDevice())


def call(graph: Graph, kernel: GpuKernel, feeds: Mapping[str, Array]) -> dict[str, Array]:
    types = {n: v.type for n, v in zip(graph.input_names, graph.inputs, strict=True)}
    found = kernel.run(bind_dims(types, feeds), [feeds[n] for n in graph.input_names])
    return dict(zip(graph.output_names, found, strict=True))


def lengths_of(feeds: Mapping[str, Array], lengths: Sequence[int]) -> dict[str, Array]:
    """The feeds with other lengths."""
    return {**feeds, "lengths": np.asarray(lengths, np.int32)}
