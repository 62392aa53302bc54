"""Cells of every shape that phases must handle, as layers of rnngraph.nn: the zoo of the native backend's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rnngraph.ir import Graph
from rnngraph.nn import GRU, LSTM, RNN, Cell, Input, Layer, SimpleRNN, Tensor, ops, trace
from rnngraph.nn.initializers import RandomUniform


class UserCell(Cell):
    """A cell whose weights are what `shapes` says, as attributes."""

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        raise NotImplementedError

    def build(self, n: int) -> None:
        for name, shape in self.shapes(n).items():
            initializer = RandomUniform(-1.0, 1.0) if len(shape) == 1 else "glorot_uniform"
            setattr(self, name, self.add_weight(name, shape, initializer))


class Peephole(UserCell):
    """An LSTM whose gates also see the cell state."""

    def __init__(self, n: int) -> None:
        super().__init__({"h": n, "c": n})

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        u = self.state_size["h"]
        return {"W": (n, 4 * u), "R": (u, 4 * u), "b": (4 * u,), "pi": (u,), "pf": (u,), "po": (u,)}

    def step(self, x: Tensor, s: Any) -> Any:
        i, f, g, o = ops.split(x @ self.W + s["h"] @ self.R + self.b, 4)
        i, f = ops.sigmoid(i + s["c"] * self.pi), ops.sigmoid(f + s["c"] * self.pf)
        c = f * s["c"] + i * ops.tanh(g)
        h = ops.sigmoid(o + c * self.po) * ops.tanh(c)
        return h, {"h": h, "c": c}


class MinimalGated(UserCell):
    """The recurrent matmul of the candidate reads a computed value: two phases."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        u = self.state_size
        return {"Wf": (n, u), "Rf": (u, u), "Wn": (n, u), "Rn": (u, u), "bf": (u,), "bn": (u,)}

    def step(self, x: Tensor, h: Any) -> Any:
        f = ops.sigmoid(x @ self.Wf + h @ self.Rf + self.bf)
        h = (1 - f) * h + f * ops.tanh(x @ self.Wn + (f * h) @ self.Rn + self.bn)
        return h, h


class LayerNormed(UserCell):
    """Reductions over a fused pre-activation, and over the new cell state."""

    def __init__(self, n: int) -> None:
        super().__init__({"h": n, "c": n})

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        u = self.state_size["h"]
        return {"W": (n, 4 * u), "R": (u, 4 * u), "b": (4 * u,), "g": (4 * u,), "gc": (u,), "bc": (u,)}

    def step(self, x: Tensor, s: Any) -> Any:
        z = ops.layer_norm(x @ self.W + s["h"] @ self.R, self.g, self.b)
        i, f, g, o = ops.split(z, 4)
        c = ops.sigmoid(f) * s["c"] + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(ops.layer_norm(c, self.gc, self.bc))
        return h, {"h": h, "c": c}


class RowGate(UserCell):
    """One gate per row (attention-like), from a matmul to one lane."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        u = self.state_size
        return {"W": (n, u), "R": (u, u), "wa": (n, 1), "ra": (u, 1)}

    def step(self, x: Tensor, h: Any) -> Any:
        a = ops.sigmoid(x @ self.wa + h @ self.ra)
        h = (1 - a) * h + a * ops.tanh(x @ self.W + h @ self.R)
        return h, h


class Normalized(UserCell):
    """The state is kept at unit length, and its largest lane is emitted too: max and sum of squares."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        return {"W": (n, self.state_size), "R": (self.state_size, self.state_size)}

    def step(self, x: Tensor, h: Any) -> Any:
        z = ops.tanh(x @ self.W + h @ self.R)
        h = z / ops.sqrt(ops.sum(z * z, axis=-1, keepdims=True) + 1e-3)
        return h - ops.max(h, axis=-1, keepdims=True), h


class SoftAttention(UserCell):
    """A softmax over the lanes, written out: max, then a sum that depends on it."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        return {"W": (n, self.state_size), "R": (self.state_size, self.state_size)}

    def step(self, x: Tensor, h: Any) -> Any:
        z = x @ self.W + h @ self.R
        e = ops.exp(z - ops.max(z, axis=-1, keepdims=True))
        h = 0.5 * h + e / ops.sum(e, axis=-1, keepdims=True)
        return h, h


class SimpleUnit(UserCell):
    """SRU: no recurrent matmul."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        u = self.state_size
        return {"W": (n, 3 * u), "b": (2 * u,), "v": (u,)}

    def step(self, x: Tensor, c: Any) -> Any:
        u = self.state_size
        z, fr = ops.split(x @ self.W, [u, 2 * u])
        f, r = ops.split(ops.sigmoid(fr + self.b), 2)
        c = f * c + (1 - f) * z
        return r * ops.tanh(c) + (1 - r) * (self.v * z), c


class Independent(UserCell):
    """IndRNN: a recurrent vector."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        return {"W": (n, self.state_size), "v": (self.state_size,)}

    def step(self, x: Tensor, h: Any) -> Any:
        h = ops.relu(x @ self.W + h * self.v)
        return h, h


class Projected(UserCell):
    """LSTM with projection: h has other lanes than c."""

    def __init__(self, n: int) -> None:
        super().__init__({"h": max(1, n // 2), "c": n})

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        u, p = self.state_size["c"], self.state_size["h"]
        return {"W": (n, 4 * u), "R": (p, 4 * u), "b": (4 * u,), "P": (u, p)}

    def step(self, x: Tensor, s: Any) -> Any:
        i, f, g, o = ops.split(x @ self.W + s["h"] @ self.R + self.b, 4)
        c = ops.sigmoid(f) * s["c"] + ops.sigmoid(i) * ops.tanh(g)
        h = (ops.sigmoid(o) * ops.tanh(c)) @ self.P
        return h, {"h": h, "c": c}


class Joined(UserCell):
    """One weight for [x, h]."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        u = self.state_size
        return {"W": (n + u, 2 * u), "b": (2 * u,)}

    def step(self, x: Tensor, h: Any) -> Any:
        z, g = ops.split(ops.concat([x, h]) @ self.W + self.b, 2)
        h = h + ops.sigmoid(z) * (ops.tanh(g) - h)
        return h, h


class Stacked(UserCell):
    """Two recurrences in one scan; the second reads the first's new state."""

    def __init__(self, n: int) -> None:
        super().__init__({"a": n, "b": n + 1})

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        a, b = self.state_size["a"], self.state_size["b"]
        return {"W": (n, a), "R": (a, a), "V": (a, b), "Q": (b, b)}

    def step(self, x: Tensor, s: Any) -> Any:
        a = ops.tanh(x @ self.W + s["a"] @ self.R)
        b = ops.tanh(a @ self.V + s["b"] @ self.Q)
        return ops.concat([a, b]), {"a": a, "b": b}


class Delays(UserCell):
    """States that take each other's old value: a shift register, and one that swaps halves."""

    def __init__(self, n: int) -> None:
        super().__init__({"a": n, "b": n, "c": 2 * n})

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        u = self.state_size["a"]
        return {"W": (n, u), "R": (2 * u, u)}

    def step(self, x: Tensor, s: Any) -> Any:
        low, high = ops.split(s["c"], 2)
        a = ops.tanh(x @ self.W + s["c"] @ self.R + 0.5 * s["b"])
        return a + s["b"], {"a": a, "b": s["a"], "c": ops.concat([high * 0.5 + a, low])}


class Comparing(UserCell):
    """Conditions, and min and max."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        return {"W": (n, self.state_size), "R": (self.state_size, self.state_size)}

    def step(self, x: Tensor, h: Any) -> Any:
        z = x @ self.W + h @ self.R
        new = ops.where(z > 0, ops.minimum(z, 1.5), ops.exp(z) - 1)
        new = ops.where(ops.logical_and(new > h, h < 0.5), new, ops.maximum(h, new) * 0.5)
        return new, new


class Summary(UserCell):
    """A mean of the state that gates the next step's input, over two scales."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        return {"W": (n, self.state_size), "R": (self.state_size, self.state_size)}

    def step(self, x: Tensor, h: Any) -> Any:
        s = ops.tanh(ops.mean(h, axis=-1, keepdims=True)) + ops.sum(x, axis=-1, keepdims=True) * 0.1
        h = ops.tanh(x @ self.W * s + h @ self.R + ops.min(x, axis=-1, keepdims=True))
        return h * s, h


class Timed(UserCell):
    """Single lanes as row scalars: the input's first, and one of the state, with numbers and a mean."""

    def shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        u = self.state_size
        return {"W": (n - 1, u), "R": (u, u), "rate": (u,)}

    def step(self, x: Tensor, h: Any) -> Any:
        time = ops.floor(x[:, :1] * 4.0) + ops.abs(h[:, -1:]) + ops.mean(x, axis=-1, keepdims=True)
        turns = time * self.rate
        h = ops.where(turns - ops.floor(turns) < 0.5, ops.tanh(x[:, 1:] @ self.W + h @ self.R), h)
        return h, h


def _rnn(cell: Callable[[int], Cell]) -> Callable[..., Layer]:
    def make(n: int, **options: Any) -> Layer:
        return RNN(cell(n), **options)
    return make


CELLS: dict[str, Callable[..., Layer]] = {
    "lstm": LSTM, "gru_after": GRU, "gru_before": lambda n, **o: GRU(n, reset_after=False, **o),
    "simple": SimpleRNN, "relu": lambda n, **o: SimpleRNN(n, activation="relu", **o),
    "peephole": _rnn(Peephole), "minimal_gated": _rnn(MinimalGated), "layer_normed": _rnn(LayerNormed),
    "row_gate": _rnn(RowGate), "normalized": _rnn(Normalized), "softmax": _rnn(SoftAttention),
    "sru": _rnn(SimpleUnit), "indrnn": _rnn(Independent), "projected": _rnn(Projected), "joined": _rnn(Joined),
    "stacked": _rnn(Stacked), "delays": _rnn(Delays), "comparing": _rnn(Comparing), "summary": _rnn(Summary),
    "timed": _rnn(Timed),
}


def layer(kind: str, units: int, **options: Any) -> Layer:
    """A layer of the zoo that returns its sequence and its states, unless told otherwise."""
    return CELLS[kind](units, **({"return_sequences": True, "return_state": True} | options))


def graph(kind: str, units: int, features: int, *, lengths: bool = False, initial_state: bool = True,
          **options: Any) -> Graph:
    """The graph of one layer over f32[batch,time,features]."""
    return trace(layer(kind, units, **options), Input(("batch", "time", features)), lengths=lengths,
                 initial_state=initial_state)
