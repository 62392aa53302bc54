"""Random recurrences for property tests: a scan whose body is any mix of what phases handle.

Every function in a body is continuous and every new state is squashed, so that rounding errors stay rounding errors.
"""

from __future__ import annotations

from random import Random

import numpy as np

from rnngraph.ir import F32, I32, Builder, OpDef, TensorType, Value, build_graph, ops

SMOOTH = (ops.TANH, ops.SIGMOID, ops.RELU, ops.NEG, ops.ABS)
BINARY = (ops.ADD, ops.SUB, ops.MUL, ops.MIN, ops.MAX)
REDUCTIONS = (ops.REDUCE_SUM, ops.REDUCE_MEAN, ops.REDUCE_MAX, ops.REDUCE_MIN)


class RandomCell:
    """A graph with one scan; ``units`` bounds the lanes of everything. All choices come from ``random``."""

    def __init__(self, random: Random, units: int, size: int) -> None:
        self.random = random
        self.units = units
        self.size = size
        self.rng = np.random.default_rng(random.getrandbits(32))
        self.features = random.randint(1, units)
        self.states = [random.randint(1, units) for _ in range(random.randint(1, 3))]
        self.per_row = random.random() < 0.3  # an input of one number per row and step
        types = {"x": TensorType(F32, ("T", "B", self.features)), "z": TensorType(F32, ("B", self.features)),
                 "v": TensorType(F32, (self.features,)), "g": TensorType(F32, ("B",)), "s": TensorType(F32, ())}
        if self.per_row:
            types["p"] = TensorType(F32, ("T", "B"))
        types |= {f"h{i}": TensorType(F32, ("B", n)) for i, n in enumerate(self.states)}
        if random.random() < 0.4:
            types["lengths"] = TensorType(I32, ("B",))
        self.graph = build_graph(types, self.build)

    def build(self, b: Builder, values: dict[str, Value]) -> dict[str, Value]:
        outer = [values[n] for n in "zvgs"]
        carries = {f"c{i}": values[f"h{i}"] for i in range(len(self.states))}
        xs = {"x": values["x"]} | ({"p": values["p"]} if self.per_row else {})

        def body(inner: Builder, c: dict[str, Value], x: dict[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
            pool = [*outer, *c.values(), *x.values()]
            for _ in range(self.random.randint(1, self.size)):
                pool.append(self.step(inner, pool))
            new = {n: self.next_state(inner, pool, v) for n, v in c.items()}
            lanes = [v for v in pool if v.type.rank == 2]
            ys = {f"y{i}": self.random.choice(lanes[-4:]) for i in range(self.random.randint(0, 2))}
            return new, {n: inner.tanh(v) if v.op is not None else v for n, v in ys.items()}

        finals, ys = b.scan(carries, xs, body, steps="T", lengths=values.get("lengths"),
                            reverse=self.random.random() < 0.4, pad=self.random.choice(["zero", "repeat"]))
        return {**ys, **finals}

    # --- a body ---------------------------------------------------------------------------------------------------

    def step(self, b: Builder, pool: list[Value]) -> Value:
        choices = [self.unary, self.binary, self.binary, self.matmul, self.matmul, self.slice, self.concat,
                   self.reduction, self.select]
        return self.random.choice(choices)(b, pool)

    def lanes(self, b: Builder, pool: list[Value], n: int | None = None) -> Value:
        """A value [B, n]; with ``n`` one made to fit: cut, joined, multiplied, or one number repeated."""
        if self.random.random() < 0.15:
            one = self.random.choice([v for v in pool if v.type.rank < 2])
            n = n or self.random.randint(1, self.units)
            if one.shape == ("B",):
                return b.broadcast(one, ("B", n), (0,))
            if one.type.rank == 0:
                return b.broadcast(one, ("B", n), ())
        rows = [v for v in pool if v.type.rank == 2]
        v = self.random.choice(rows[-5:] if self.random.random() < 0.5 else rows)
        if self.random.random() < 0.1 and n in (None, self.features):
            v = b.broadcast(next(v for v in pool if v.type.rank == 1 and v.shape != ("B",)), ("B", self.features))
        return v if n is None or v.shape[-1] == n else self.fit(b, pool, v, n)

    def fit(self, b: Builder, pool: list[Value], v: Value, n: int) -> Value:
        width = v.shape[-1]
        assert isinstance(width, int)
        same = [x for x in pool if x.shape == ("B", n)]
        if same and self.random.random() < 0.5:
            return self.random.choice(same)
        if width > n and self.random.random() < 0.6:
            return b.slice(v, -1, self.random.randint(0, width - n), n)
        if width < n and self.random.random() < 0.4:
            return b.concat([v, self.fit(b, pool, self.lanes(b, pool), n - width)])
        return self.weigh(b, v, n)

    def weigh(self, b: Builder, v: Value, n: int) -> Value:
        k = v.shape[-1]
        assert isinstance(k, int)
        scale = 1.0 / np.sqrt(k)
        return b.matmul(v, b.const((self.rng.uniform(-scale, scale, (k, n))).astype(np.float32)))

    def unary(self, b: Builder, pool: list[Value]) -> Value:
        rows = [v for v in pool if v.type.rank == 2 or v.shape == ("B",)]
        return b.op(self.random.choice(SMOOTH), self.random.choice(rows))

    def binary(self, b: Builder, pool: list[Value]) -> Value:
        if self.random.random() < 0.15:
            gates = [v for v in pool if v.shape == ("B",)]
            return b.op(self.random.choice(BINARY), self.random.choice(gates), b.sigmoid(self.random.choice(gates)))
        x = self.lanes(b, pool)
        n = x.shape[-1]
        assert isinstance(n, int)
        if self.random.random() < 0.2:
            return b.elementwise(self.random.choice(BINARY), x, self.random.choice([0.5, -1.0, 2.0]))
        return b.op(self.random.choice(BINARY), *self.random.sample([x, b.tanh(self.lanes(b, pool, n))], 2))

    def matmul(self, b: Builder, pool: list[Value]) -> Value:
        v = self.lanes(b, pool)
        n = self.random.choice([*self.states, self.random.randint(1, self.units)])
        if self.random.random() < 0.3:  # gates side by side
            parts = b.split(self.weigh(b, v, 2 * n), 2)
            return b.mul(b.sigmoid(parts[0]), parts[1])
        return self.weigh(b, v, n)

    def slice(self, b: Builder, pool: list[Value]) -> Value:
        v = self.lanes(b, pool)
        width = v.shape[-1]
        assert isinstance(width, int)
        n = self.random.randint(1, width)
        return b.slice(v, -1, self.random.randint(0, width - n), n)

    def concat(self, b: Builder, pool: list[Value]) -> Value:
        parts = [self.lanes(b, pool) for _ in range(self.random.randint(2, 3))]
        joined = b.concat(parts)
        width = joined.shape[-1]
        assert isinstance(width, int)
        return joined if width <= 2 * self.units else b.slice(joined, -1, 0, 2 * self.units)

    def reduction(self, b: Builder, pool: list[Value]) -> Value:
        kind: OpDef = self.random.choice(REDUCTIONS)
        v = self.lanes(b, pool)
        row = b.tanh(b.reduce(kind, v, (1,)))
        if self.random.random() < 0.3:
            return b.mul(v, b.broadcast(b.reshape(b.reshape(row, ("B", 1)), ("B",)), v.shape, (0,)))
        return row

    def select(self, b: Builder, pool: list[Value]) -> Value:
        """Continuous where the condition flips."""
        x = self.lanes(b, pool)
        n = x.shape[-1]
        assert isinstance(n, int)
        y = self.lanes(b, pool, n)
        condition = b.op(self.random.choice([ops.LT, ops.LE]), x, y)
        if self.random.random() < 0.3:
            condition = b.op(ops.NOT, b.op(ops.NOT, condition))
        return b.op(ops.SELECT, condition, x, y)

    def next_state(self, b: Builder, pool: list[Value], old: Value) -> Value:
        n = old.shape[-1]
        assert isinstance(n, int)
        if self.random.random() < 0.15:
            return self.fit(b, pool, self.random.choice([v for v in pool if v.type.rank == 2 and v.op is None]), n)
        return b.tanh(self.lanes(b, pool, n))
