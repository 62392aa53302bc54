"""Random graphs with scans, for property tests: hypothesis draws them, so that failures shrink."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import strategies as st

from rnngraph.ir import F32, F64, I32, Builder, Dim, Graph, TensorType, Value, ops, verify
from rnngraph.ir.ops import AxisAttrs, RandomMaskAttrs

UNARY = (ops.TANH, ops.SIGMOID, ops.RELU, ops.NEG, ops.ABS)
BINARY = (ops.ADD, ops.SUB, ops.MUL, ops.MIN, ops.MAX)
COMPARISONS = (ops.LT, ops.LE, ops.GT, ops.GE, ops.EQ, ops.NE)
INPUTS = {"x": TensorType(F32, ("T", "B", 3)), "z": TensorType(F32, ("B", "T", 3)), "h": TensorType(F32, ("B", 3)),
          "v": TensorType(F32, (3,)), "lengths": TensorType(I32, ("B",))}


class RandomGraph:
    """Grows a graph over `INPUTS`, one random op after the other; every value may be read by any later op."""

    def __init__(self, random: Random, *, size: int = 12, layers: tuple[str, ...] = ("", "a", "a/b", "c d")) -> None:
        self.random = random
        self.layers = layers
        self.graph = Graph("random")
        values = {n: self.graph.add_input(t, n) for n, t in INPUTS.items()}
        self.lengths = values.pop("lengths")
        b = Builder(self.graph.block)
        pool = self.grow(b, list(values.values()), random.randint(1, size), depth=0)
        outputs = random.sample(pool, min(len(pool), random.randint(1, 3)))
        b.layer = ""
        b.ret({f"y{i}": v for i, v in enumerate(outputs)})
        verify(self.graph)

    def grow(self, b: Builder, pool: list[Value], count: int, depth: int) -> list[Value]:
        steps = [self.unary, self.binary, self.broadcast, self.constant, self.matmul, self.slice, self.concat,
                 self.transpose, self.reverse, self.reshape, self.reduce, self.select, self.cast, self.mask,
                 self.softmax]
        for _ in range(count):
            b.layer = self.random.choice(self.layers)
            if depth < 2 and self.random.random() < 0.2:
                pool.extend(self.scan(b, pool, depth))
            else:
                pool.append(self.random.choice(steps)(b, pool))
        return pool

    def pick(self, pool: list[Value], rank: int = 0) -> Value:
        """A value of at least this rank (inputs always have one); late values are likelier."""
        fitting = [v for v in pool if v.type.rank >= rank]
        return self.random.choice(fitting[-6:] if self.random.random() < 0.6 else fitting)

    def like(self, b: Builder, pool: list[Value], x: Value) -> Value:
        """A value of x's type: another, a constant, or a broadcast."""
        same = [v for v in pool if v.type == x.type]
        if self.random.random() < 0.6:
            return self.random.choice(same or [x])
        return self.splat(b, x.type)

    def splat(self, b: Builder, type: TensorType) -> Value:
        return b.full(self.random.choice([0.0, 1.0, -1.0, 0.5, 2.0]), type.shape, type.dtype)

    def unary(self, b: Builder, pool: list[Value]) -> Value:
        return b.op(self.random.choice(UNARY), self.pick(pool))

    def binary(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool)
        operands = [x, self.like(b, pool, x)]
        self.random.shuffle(operands)
        return b.op(self.random.choice(BINARY), *operands)

    def broadcast(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool)
        place = self.random.randint(0, x.type.rank)
        choices: list[Dim] = [1, 2, "B"]
        shape = (*x.shape[:place], self.random.choice(choices), *x.shape[place:])
        if x.type.rank > 3:
            return x
        return b.broadcast(x, shape, tuple(i for i in range(len(shape)) if i != place))

    def constant(self, b: Builder, pool: list[Value]) -> Value:
        array = np.array([self.random.uniform(-1, 1) for _ in range(6)], np.float32)
        return b.const(array.reshape(self.random.choice([(6,), (2, 3), (3, 2)])))

    def matmul(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool, 2)
        if not isinstance(x.shape[-1], int) or x.type.dtype != F32:
            return self.unary(b, pool)
        n = self.random.randint(1, 3)
        array = np.array([self.random.uniform(-1, 1) for _ in range(x.shape[-1] * n)], np.float32)
        fitting = [v for v in pool if v.type.rank == 2 and v.shape[0] == x.shape[-1] and v.type.dtype == F32]
        w = self.random.choice(fitting) if fitting and self.random.random() < 0.4 else \
            b.const(array.reshape(x.shape[-1], n))
        if self.random.random() < 0.4:  # gates of one input
            return b.op(self.random.choice(BINARY), b.matmul(x, w), b.tanh(b.matmul(x, self.negated(b, w))))
        return b.matmul(x, w)

    def negated(self, b: Builder, w: Value) -> Value:
        if w.op is not None and isinstance(w.op.attrs, ops.ConstAttrs):
            return b.const(-w.op.attrs.value.array)
        return b.op(ops.NEG, w)

    def slice(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool, 1)
        axis = self.random.randrange(x.type.rank)
        dim = x.shape[axis]
        if not isinstance(dim, int) or dim < 1:
            return b.slice(x, axis, 0, dim)
        size = self.random.randint(1, dim)
        start = self.random.randint(0, dim - size)
        step = 2 if start + 2 * (size - 1) < dim and self.random.random() < 0.3 else 1
        return b.slice(x, axis, start - dim if self.random.random() < 0.2 else start, size, step)

    def concat(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool, 1)
        if not isinstance(x.shape[-1], int) or x.shape[-1] > 8:
            return x
        return b.concat([x, *(self.like(b, pool, x) for _ in range(self.random.randint(1, 2)))], -1)

    def transpose(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool, 2)
        perm = list(range(x.type.rank))
        if self.random.random() < 0.7:
            perm[0], perm[1] = 1, 0
        else:
            self.random.shuffle(perm)
        return b.transpose(x, perm)

    def reverse(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool, 1)
        return b.reverse(x, self.random.choice([0, x.type.rank - 1]))

    def reshape(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool)
        return b.reshape(x, self.random.choice([(1, *x.shape), (*x.shape, 1), tuple(reversed(x.shape))]))

    def reduce(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool, 1)
        kind = self.random.choice([ops.REDUCE_SUM, ops.REDUCE_MEAN, ops.REDUCE_MAX, ops.REDUCE_MIN])
        return b.reduce(kind, x, [self.random.randrange(x.type.rank)])

    def select(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool)
        condition = b.op(self.random.choice(COMPARISONS), x, self.like(b, pool, x))
        if self.random.random() < 0.3:
            condition = b.op(ops.NOT, condition)
        return b.op(ops.SELECT, condition, x, self.like(b, pool, x))

    def cast(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool)
        return b.cast(b.cast(x, F64), x.type.dtype)

    def mask(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool)
        attrs = RandomMaskAttrs(self.random.randint(0, 2), 0.5, x.shape, x.type.dtype)
        return b.op(ops.MUL, x, b.op(ops.RANDOM_MASK, attrs=attrs))

    def softmax(self, b: Builder, pool: list[Value]) -> Value:
        x = self.pick(pool, 1)
        return b.op(ops.SOFTMAX, x, attrs=AxisAttrs(x.type.rank - 1))

    def scan(self, b: Builder, pool: list[Value], depth: int) -> list[Value]:
        sequences = [v for v in pool if v.type.rank > 1 and v.shape[0] == "T"]
        states = [v for v in pool if v.type.rank > 0]
        xs = {f"x{i}": self.random.choice(sequences) for i in range(self.random.randint(0, 2)) if sequences}
        lengths = self.lengths if self.random.random() < 0.3 else None
        if lengths is not None:
            states = [v for v in states if v.shape[0] == "B"]
        carries = {f"c{i}": self.random.choice(states) for i in range(self.random.randint(0, 2)) if states}

        def body(inner: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
            local = self.grow(inner, [*pool, *c.values(), *x.values()], self.random.randint(1, 6), depth + 1)
            new = {n: self.next_state(inner, local, v) for n, v in c.items()}
            ready = [v for v in local if lengths is None or (v.type.rank > 0 and v.shape[0] == "B")]
            count = self.random.randint(0 if new else 1, 2)
            return new, {f"y{i}": self.pick(ready or [*c.values()] or local) for i in range(count)}

        finals, ys = b.scan(carries, xs, body, steps="T", lengths=lengths, reverse=self.random.random() < 0.4,
                            pad=self.random.choice(["zero", "repeat"]))
        return [v for v in (*finals.values(), *ys.values()) if v.type.rank <= 4]

    def next_state(self, b: Builder, pool: list[Value], old: Value) -> Value:
        return self.random.choice([v for v in pool if v.type == old.type][-3:])


@st.composite
def graphs(draw: st.DrawFn, size: int = 12) -> Graph:
    """Graphs over `INPUTS` with one to three outputs."""
    return RandomGraph(draw(st.randoms(use_true_random=False)), size=size).graph


__all__ = ["INPUTS", "RandomGraph", "graphs"]
