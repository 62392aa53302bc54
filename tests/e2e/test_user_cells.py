"""Cells that a user writes run as native loops: against the float64 reference and against numpy written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.ir import Array, evaluate
from rnngraph.nn import RNN, Bidirectional, Cell, LSTMCell, ops
from rnngraph.report.numeric import deviation, random_inputs
from tests.nn.numpy_cells import Step, run, sigmoid, wide

INPUTS = rg.Input(("batch", "time", 6))


class MinimalGatedUnit(Cell):
    def build(self, n: int) -> None:
        u = self.state_size
        self.Wf, self.Wn = self.add_weight("Wf", (n, u)), self.add_weight("Wn", (n, u))
        self.Rf, self.Rn = self.add_weight("Rf", (u, u)), self.add_weight("Rn", (u, u))
        self.bf, self.bn = self.add_weight("bf", (u,)), self.add_weight("bn", (u,))

    def step(self, x: Any, h: Any) -> Any:
        f = ops.sigmoid(x @ self.Wf + h @ self.Rf + self.bf)
        h = (1.0 - f) * h + f * ops.tanh(x @ self.Wn + (f * h) @ self.Rn + self.bn)
        return h, h


class LayerNormLSTM(Cell):
    """Ba et al. 2016: norms of both projections, and of the cell state."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.state_size = {"h": units, "c": units}

    def build(self, n: int) -> None:
        u = self.units
        self.W, self.R = self.add_weight("W", (n, 4 * u)), self.add_weight("R", (u, 4 * u))
        self.b = self.add_weight("b", (4 * u,))
        self.gx, self.gh, self.gc = (self.add_weight(k, (s,)) for k, s in (("gx", 4 * u), ("gh", 4 * u), ("gc", u)))

    def step(self, x: Any, state: Any) -> Any:
        z = ops.layer_norm(x @ self.W, self.gx) + ops.layer_norm(state["h"] @ self.R, self.gh) + self.b
        i, f, g, o = ops.split(z, 4)
        c = ops.sigmoid(f) * state["c"] + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(ops.layer_norm(c, self.gc))
        return h, {"h": h, "c": c}


class ProjectionLSTM(Cell):
    """Sak et al. 2014: h = (o tanh(c)) P is smaller than c."""

    def __init__(self, units: int, projected: int) -> None:
        self.units, self.projected = units, projected
        self.state_size = {"h": projected, "c": units}

    def build(self, n: int) -> None:
        u, p = self.units, self.projected
        self.W, self.R = self.add_weight("W", (n, 4 * u)), self.add_weight("R", (p, 4 * u))
        self.b = self.add_weight("b", (4 * u,))
        self.P = self.add_weight("P", (u, p))

    def step(self, x: Any, state: Any) -> Any:
        i, f, g, o = ops.split(x @ self.W + state["h"] @ self.R + self.b, 4)
        c = ops.sigmoid(f) * state["c"] + ops.sigmoid(i) * ops.tanh(g)
        h = (ops.sigmoid(o) * ops.tanh(c)) @ self.P
        return h, {"h": h, "c": c}


class SRU(Cell):
    """Lei et al. 2018: the step has no matmul with the state; with a highway that wants inputs = units."""

    def build(self, n: int) -> None:
        u = self.state_size
        self.W, self.Wf, self.Wr = (self.add_weight(k, (n, u)) for k in ("W", "Wf", "Wr"))
        self.vf, self.vr, self.bf, self.br = (self.add_weight(k, (u,)) for k in ("vf", "vr", "bf", "br"))

    def step(self, x: Any, c: Any) -> Any:
        f = ops.sigmoid(x @ self.Wf + self.vf * c + self.bf)
        r = ops.sigmoid(x @ self.Wr + self.vr * c + self.br)
        c = f * c + (1.0 - f) * (x @ self.W)
        return r * c + (1.0 - r) * x, c


class IndRNN(Cell):
    """Li et al. 2018: every unit sees only itself."""

    def build(self, n: int) -> None:
        u = self.state_size
        self.W, self.r, self.b = self.add_weight("W", (n, u)), self.add_weight("r", (u,)), self.add_weight("b", (u,))

    def step(self, x: Any, h: Any) -> Any:
        h = ops.relu(x @ self.W + self.r * h + self.b)
        return h, h


class RowGate(Cell):
    """One gate for a whole row: [batch, 1]."""

    def build(self, n: int) -> None:
        u = self.state_size
        self.W, self.R = self.add_weight("W", (n, u)), self.add_weight("R", (u, u))
        self.wg, self.rg = self.add_weight("wg", (n, 1)), self.add_weight("rg", (u, 1))

    def step(self, x: Any, h: Any) -> Any:
        gate = ops.sigmoid(x @ self.wg + h @ self.rg)
        h = gate * ops.tanh(x @ self.W + h @ self.R) + (1.0 - gate) * h
        return h, h


class NAS(Cell):
    """Zoph and Le 2017: eight gates, joined pairwise."""

    def __init__(self, units: int) -> None:
        self.units = units
        self.state_size = (units, units)

    def build(self, n: int) -> None:
        u = self.units
        self.W, self.R = self.add_weight("W", (n, 8 * u)), self.add_weight("R", (u, 8 * u))

    def step(self, x: Any, state: Any) -> Any:
        c, h = state
        a, b = ops.split(x @ self.W, 8), ops.split(h @ self.R, 8)
        first = [ops.sigmoid(a[0] + b[0]), ops.relu(a[1] + b[1]), ops.sigmoid(a[2] + b[2]), ops.relu(a[3] * b[3]),
                 ops.tanh(a[4] + b[4]), ops.sigmoid(a[5] + b[5]), ops.tanh(a[6] + b[6]), ops.sigmoid(a[7] + b[7])]
        second = [ops.tanh(first[0] * first[1]), ops.tanh(first[2] + first[3]), ops.tanh(first[4] * first[5]),
                  ops.sigmoid(first[6] + first[7])]
        new_c = ops.tanh(second[0] + c) * second[1]
        h = ops.tanh(new_c * ops.tanh(second[2] + second[3]))
        return h, (new_c, h)


class Zoneout(Cell):
    """Krueger et al. 2017, with one mask for all steps: some units keep their state."""

    def build(self, n: int) -> None:
        u = self.state_size
        self.W, self.R = self.add_weight("W", (n, u)), self.add_weight("R", (u, u))
        self.mask = (np.arange(u) % 3 == 0).astype(np.float32)

    def step(self, x: Any, h: Any) -> Any:
        new = ops.tanh(x @ self.W + h @ self.R)
        h = self.mask * h + (1.0 - self.mask) * new
        return h, h


class EmitsLogits(Cell):
    """The output is another size than the state, and no state."""

    def build(self, n: int) -> None:
        u = self.state_size
        self.W, self.R = self.add_weight("W", (n, u)), self.add_weight("R", (u, u))
        self.V = self.add_weight("V", (u, 5))

    def step(self, x: Any, h: Any) -> Any:
        h = ops.tanh(x @ self.W + h @ self.R)
        return ops.sigmoid(h @ self.V), h


class FastAndSlow(Cell):
    """Two states of two sizes."""

    def __init__(self, fast: int, slow: int) -> None:
        self.state_size = {"fast": fast, "slow": slow}

    def build(self, n: int) -> None:
        f, s = self.state_size["fast"], self.state_size["slow"]
        self.W, self.S = self.add_weight("W", (n, f)), self.add_weight("S", (s, f))
        self.F = self.add_weight("F", (f, s))

    def step(self, x: Any, state: Any) -> Any:
        fast = ops.tanh(x @ self.W + state["slow"] @ self.S)
        slow = 0.9 * state["slow"] + 0.1 * ops.clip(state["fast"] @ self.F, -1.0, 1.0)
        return ops.concat([fast, slow]), {"fast": fast, "slow": slow}


CELLS: dict[str, Callable[[], Cell]] = {
    "minimal gated unit": lambda: MinimalGatedUnit(21),
    "layer-norm LSTM": lambda: LayerNormLSTM(17),
    "projection LSTM": lambda: ProjectionLSTM(33, 9),
    "SRU": lambda: SRU(6),
    "IndRNN": lambda: IndRNN(40),
    "row gate": lambda: RowGate(19),
    "NAS": lambda: NAS(12),
    "zoneout": lambda: Zoneout(16),
    "emits logits": lambda: EmitsLogits(23),
    "fast and slow": lambda: FastAndSlow(18, 7),
}


def layer(make: Callable[[], Cell], **options: Any) -> RNN:
    """The cell over time, sequences and states returned, with weights of a fitting size."""
    made = RNN(make(), **{"return_sequences": True, "return_state": True, "name": "mine", **options})
    made.build((None, None, 6))
    rng = np.random.default_rng(3)
    made.set_weights([np.asarray(0.4 * rng.standard_normal(w.shape), np.float32) for w in made.weights.values()])
    return made


def scans(compiled: Any) -> list[tuple[str, str]]:
    return [(op.name, op.impl) for op in compiled.program.graph.block.ops if op.name in ("scan", "rnn")]


def assert_close(got: Array, want: Array, *, tolerance: float) -> None:
    assert got.shape == want.shape
    error, scale = deviation(got, want)
    assert error <= tolerance * scale, f"off by {error:.3g} where the scale is {scale:.3g}"


@pytest.mark.parametrize("how", [{}, {"lengths": True, "initial_state": True}], ids=["plain", "lengths-and-states"])
@pytest.mark.parametrize("cell", CELLS)
def test_runs_native_and_as_the_reference(cell: str, how: dict[str, bool]) -> None:
    model = layer(CELLS[cell])
    compiled = rg.compile(model, INPUTS, target="cpu", threads=2, verify="numeric")
    assert scans(compiled) == [("scan", "llvm.scan")]
    explained = compiled.explain()
    assert "llvm.scan" in explained
    assert "raise-rnn: mine: " in explained  # why it is no LSTM, GRU or RNN
    graph = rg.trace(model, INPUTS, **how)
    for batch, steps in [(1, 1), (1, 23), (7, 12), (33, 5)]:
        inputs = random_inputs(graph, {"batch": batch, "time": steps}, seed=steps)
        want = evaluate(graph, inputs, float64=True)
        for name, got in compiled.run(inputs).items():
            assert_close(got, want[name], tolerance=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_last_output_backwards(cell: str) -> None:
    model = layer(CELLS[cell], return_sequences=False, return_state=False, go_backwards=True)
    x = np.random.default_rng(1).standard_normal((4, 9, 6)).astype(np.float32)
    compiled = rg.compile(model, INPUTS, target="cpu", threads=1)
    assert scans(compiled) == [("scan", "llvm.scan")]
    want = evaluate(rg.trace(model, INPUTS), {"x": x}, float64=True)
    assert_close(compiled.run({"x": x})["y"], want["y"], tolerance=1e-5)


# --- by hand -----------------------------------------------------------------------------------------------------


def minimal_gated_unit(weights: dict[str, Array]) -> Step:
    w = wide(weights)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        (h,) = state
        f = sigmoid(x @ w["Wf"] + h @ w["Rf"] + w["bf"])
        h = (1 - f) * h + f * np.tanh(x @ w["Wn"] + (f * h) @ w["Rn"] + w["bn"])
        return h, [h]

    return step


def normed(v: Array, gain: Array) -> Array:
    mean, variance = v.mean(1, keepdims=True), v.var(1, keepdims=True)
    return np.asarray((v - mean) / np.sqrt(variance + 1e-3) * gain)


def layer_norm_lstm(weights: dict[str, Array]) -> Step:
    w = wide(weights)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        h, c = state
        z = normed(x @ w["W"], w["gx"]) + normed(h @ w["R"], w["gh"]) + w["b"]
        i, f, g, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(normed(c, w["gc"]))
        return h, [h, c]

    return step


def projection_lstm(weights: dict[str, Array]) -> Step:
    w = wide(weights)

    def step(x: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        h, c = state
        i, f, g, o = np.split(x @ w["W"] + h @ w["R"] + w["b"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = (sigmoid(o) * np.tanh(c)) @ w["P"]
        return h, [h, c]

    return step


@pytest.mark.parametrize("lengths", [None, [9, 0, 4, 9, 1]], ids=["full", "lengths"])
@pytest.mark.parametrize(("cell", "by_hand"), [
    ("minimal gated unit", minimal_gated_unit), ("layer-norm LSTM", layer_norm_lstm),
    ("projection LSTM", projection_lstm),
])
def test_against_numpy_by_hand(cell: str, by_hand: Callable[[dict[str, Array]], Step],
                               lengths: list[int] | None) -> None:
    model = layer(CELLS[cell], zero_output_for_mask=True)
    x = np.random.default_rng(8).standard_normal((5, 9, 6)).astype(np.float32)
    y, *states = rg.compile(model, INPUTS, target="cpu", threads=2)(x, lengths=lengths)
    want, finals = run(by_hand(model.weights), x, [np.zeros(s.shape) for s in states], lengths=lengths, zero=True)
    assert_close(y, want, tolerance=1e-5)
    for got, final in zip(states, finals, strict=True):
        assert_close(got, final, tolerance=1e-5)


# --- in larger models --------------------------------------------------------------------------------------------


def test_own_cells_stack_with_built_in_ones_and_run_both_ways() -> None:
    model = rg.Sequential([
        Bidirectional(RNN(MinimalGatedUnit(10), return_sequences=True)),
        RNN([LSTMCell(12), RowGate(9)], return_sequences=True),
        rg.nn.LayerNormalization(),
        RNN(ProjectionLSTM(14, 5)),
    ])
    compiled = rg.compile(model, INPUTS, target="cpu", threads=2, verify="numeric")
    assert scans(compiled) == [("scan", "llvm.scan")] * 4
    graph = rg.trace(model, INPUTS, lengths=True)
    inputs = random_inputs(graph, {"batch": 6, "time": 15})
    assert_close(compiled.run(inputs)["y"], evaluate(graph, inputs, float64=True)["y"], tolerance=1e-5)


# --- what native code does not cover -----------------------------------------------------------------------------


class Memory(Cell):
    """A state of rank 3: a matrix for every row."""

    def __init__(self) -> None:
        self.state_size = ((4, 6),)

    def step(self, x: Any, state: Any) -> Any:
        (m,) = state
        m = 0.9 * m + 0.1 * ops.reshape(x, (x.shape[0], 1, 6))
        return ops.sum(m, axis=1), (m,)


class Counts(Cell):
    """An integer in the step."""

    def build(self, n: int) -> None:
        self.W = self.add_weight("W", (n, self.state_size))

    def step(self, x: Any, h: Any) -> Any:
        h = ops.tanh(x @ self.W) + ops.cast(ops.cast(h * 8.0, "i64"), "f32") * 0.125
        return h, h


class Convolution(Cell):
    """A window of three over the state's units, written with slices of a rank-3 tensor."""

    def build(self, n: int) -> None:
        self.W = self.add_weight("W", (n, 6))
        self.K = self.add_weight("K", (3, 1))

    def step(self, x: Any, h: Any) -> Any:
        wide = ops.concat([h[:, 4:], h, h[:, :2]])
        windows = ops.concat([ops.reshape(wide[:, i : i + 6], (h.shape[0], 6, 1)) for i in range(3)], axis=2)
        h = ops.tanh(x @ self.W + ops.reshape(windows @ self.K, (h.shape[0], 6)))
        return h, h


@pytest.mark.parametrize(("make", "reason"), [
    (Memory, "%state0 of layer mine is f32[batch,4,6]; fused loops take [batch, features] steps"),
    (lambda: Counts(5), "op cast (f32[batch,5] of layer mine) has no lane form in a fused loop"),
    (lambda: Convolution(6), "op reshape (f32[batch,6] of layer mine) has no lane form in a fused loop"),
], ids=["rank-3-state", "integers", "convolution"])
def test_unsupported_cells_run_on_the_reference_and_say_why(make: Callable[[], Cell], reason: str) -> None:
    model = RNN(make(), return_sequences=True, name="mine")
    compiled = rg.compile(model, INPUTS, target="cpu", verify="numeric")
    ((name, impl),) = scans(compiled)
    assert (name, impl) == ("scan", "reference.op")
    assert f"phases: the step's body splits into phases over rows and lanes ({reason})" in compiled.explain()
    graph = rg.trace(model, INPUTS, lengths=True)
    inputs = random_inputs(graph, {"batch": 3, "time": 6})
    assert_close(compiled.run(inputs)["y"], evaluate(graph, inputs, float64=True)["y"], tolerance=1e-5)
