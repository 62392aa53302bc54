"""Random graphs of moves, arithmetic and loops on computed sizes."""

from __future__ import annotations

import numpy as np

from rnngraph.ir import F32, Dim, Graph, TensorType, Value, build_graph, dims, grid_ops, ops
from rnngraph.ir.builder import Builder

CHANNELS = 5


class Maker:
    """Grows a graph from x, f32[T,B,5]; every value is a sequence [some size, some size, some number]."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def graph(self, count: int) -> Graph:
        return build_graph({"x": TensorType(F32, ("T", "B", CHANNELS)), "z": TensorType(F32, ("T", "B", CHANNELS))},
                           lambda b, v: self.body(b, list(v.values()), count))

    def body(self, b: Builder, values: list[Value], count: int) -> dict[str, Value]:
        kinds = [self.cut, self.cut, self.join, self.turn, self.backwards, self.pad, self.matmul, self.loop,
                 self.pair, self.pair, self.reduced, self.curve]
        for _ in range(count):
            v = values[-1] if self.rng.random() < 0.6 else values[self.rng.integers(len(values))]
            values.append(kinds[self.rng.integers(len(kinds))](b, v, values))
        last = [v for v in values if not v.uses or self.rng.random() < 0.1][:4]
        return {f"y{i}": v for i, v in enumerate(last)}

    def cut(self, b: Builder, v: Value, values: list[Value]) -> Value:
        axis = int(self.rng.integers(2))
        size, step = v.shape[axis], int(self.rng.integers(1, 4))
        start = int(self.rng.integers(0, 3))
        if isinstance(size, int) and size < 4:
            return v
        left = dims.ceildiv(dims.sub(size, start), step)
        return b.slice(v, axis, start, left, step) if self.rng.random() < 0.7 else b.slice(v, axis, -2, 2)

    def join(self, b: Builder, v: Value, values: list[Value]) -> Value:
        axis = int(self.rng.integers(3))
        fits = [w for w in values if _but(axis, w) == _but(axis, v)]
        return b.concat([v, fits[self.rng.integers(len(fits))], v][: self.rng.integers(2, 4)], axis)

    def turn(self, b: Builder, v: Value, values: list[Value]) -> Value:
        return b.transpose(v, (1, 0, 2))

    def backwards(self, b: Builder, v: Value, values: list[Value]) -> Value:
        return b.reverse(v, int(self.rng.integers(2)))

    def pad(self, b: Builder, v: Value, values: list[Value]) -> Value:
        choice: list[Dim] = [0, 1, 2, "B", dims.mod("T", 3)]
        low, high = (tuple(choice[i] for i in self.rng.integers(0, len(choice), 2)) for _ in range(2))
        return b.op(grid_ops.PAD, v, attrs=grid_ops.PadAttrs((*low, 0), (*high, 0)))

    def matmul(self, b: Builder, v: Value, values: list[Value]) -> Value:
        n = int(self.rng.integers(1, 20))
        features = v.shape[-1]
        assert isinstance(features, int)
        return b.matmul(v, b.const(self.rng.standard_normal((features, n)).astype(np.float32) / features))

    def loop(self, b: Builder, v: Value, values: list[Value]) -> Value:
        init = b.zeros(v.type.with_shape(v.shape[1:]))
        _, ys = b.scan({"h": init}, {"x": v}, lambda b, c, x: (
            {"h": (h := b.tanh(b.add(b.mul(c["h"], 0.5), x["x"])))}, {"y": h}), reverse=bool(self.rng.integers(2)))
        return ys["y"]

    def pair(self, b: Builder, v: Value, values: list[Value]) -> Value:
        same = [w for w in values if w.shape == v.shape]
        return b.elementwise((ops.ADD, ops.MUL, ops.MAX)[self.rng.integers(3)], v, same[self.rng.integers(len(same))])

    def reduced(self, b: Builder, v: Value, values: list[Value]) -> Value:
        total = b.reduce((ops.REDUCE_SUM, ops.REDUCE_MAX)[self.rng.integers(2)], v, [2])
        return b.mul(v, b.broadcast(b.tanh(total), v.shape, (0, 1)))

    def curve(self, b: Builder, v: Value, values: list[Value]) -> Value:
        return b.tanh(v)


def _but(axis: int, v: Value) -> tuple[Dim, ...]:
    """The dims beside one."""
    return v.shape[:axis] + v.shape[axis + 1 :]
