"""Cells that a user writes: their states, their outputs, and every way to break the contract."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import evaluate
from rnngraph.nn import GRU, RNN, Bidirectional, Cell, Input, LSTMCell, Sequential, Tensor, ops, trace
from rnngraph.nn.context import active
from rnngraph.nn.tensor import wrap
from tests.nn.numpy_cells import Array, run, sigmoid, wide
from tests.nn.support import B, I, T, U, X, checked, close, output, outputs, randomize, some

x = some(B, T, I)
LENGTHS = np.array([2, 5, 0], np.int32)


class MinimalGatedUnit(Cell):
    def build(self, n: int) -> None:
        u = self.state_size
        assert isinstance(u, int)
        self.Wf, self.Rf = self.add_weight("Wf", (n, u)), self.add_weight("Rf", (u, u), "orthogonal")
        self.Wn, self.Rn = self.add_weight("Wn", (n, u)), self.add_weight("Rn", (u, u), "orthogonal")

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        f = ops.sigmoid(x @ self.Wf + h @ self.Rf)
        h = (1 - f) * h + f * ops.tanh(x @ self.Wn + (f * h) @ self.Rn)
        return h, h


class Averager(Cell):
    """Two states as a tuple, one of them a matrix per row, and an output that is no state."""

    def __init__(self) -> None:  # deliberately without super().__init__()
        self.state_size = (I, (2, I))

    def step(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        total, pair = state
        total = total + x
        pair = pair * 0.5 + ops.reshape(ops.concat([x, -x]), (x.shape[0], 2, I))
        return total * 2.0 + ops.sum(pair, axis=1), (total, pair)


def averager_step(v: Array, state: list[Array]) -> tuple[Array, list[Array]]:
    total, pair = state[0] + v, state[1] * 0.5 + np.stack([v, -v], axis=1)
    return total * 2.0 + pair.sum(axis=1), [total, pair]


def mgu_step(weights: dict[str, Array]) -> Any:
    w = wide(weights)

    def step(v: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        (h,) = state
        f = sigmoid(v @ w["Wf"] + h @ w["Rf"])
        h = (1 - f) * h + f * np.tanh(v @ w["Wn"] + (f * h) @ w["Rn"])
        return h, [h]

    return step


@pytest.mark.parametrize("backwards", [False, True])
def test_minimal_gated_unit(backwards: bool) -> None:
    layer = RNN(MinimalGatedUnit(U), return_sequences=True, go_backwards=backwards)
    randomize(layer)
    seq, _ = run(mgu_step(layer.weights), x, [np.zeros((B, U))], lengths=LENGTHS.tolist(), backwards=backwards)
    expected = seq[:, ::-1] if backwards else seq
    close(output(layer, {"x": x, "lengths": LENGTHS}, lengths=True), expected, 1e-12)


def test_a_cell_is_copied_for_the_backward_direction() -> None:
    layer = Bidirectional(RNN(MinimalGatedUnit(U)))
    randomize(layer)
    assert list(layer.weights) == [f"{d}/{w}" for d in ("forward", "backward") for w in ("Wf", "Rf", "Wn", "Rn")]
    halves = []
    for direction in ("forward", "backward"):
        step = mgu_step({k: v for k, v in layer.weights.items() if k.startswith(direction)})
        halves.append(run(step, x, [np.zeros((B, U))], backwards=direction == "backward")[1][0])
    close(output(layer, {"x": x}), np.concatenate(halves, -1), 1e-12)


@pytest.mark.parametrize("unroll", [False, True])
def test_an_output_that_is_no_state(unroll: bool) -> None:
    given = Input((B, T, I)) if unroll else X
    layer = RNN(Averager(), return_state=True, name="a", unroll=unroll)
    zeros = [np.zeros((B, I)), np.zeros((B, 2, I))]
    seq, finals = run(averager_step, x, zeros, lengths=[2, 5, 1])
    feeds = {"x": x, "lengths": np.array([2, 5, 1], np.int32)}
    got = outputs(layer, feeds, given, lengths=True)
    assert list(got) == ["y", "a.state0", "a.state1"]
    last = np.stack([seq[b, n - 1] for b, n in enumerate([2, 5, 1])])
    for name, expected in zip(got, [last, *finals], strict=True):
        close(got[name], expected, 1e-12)


def test_the_last_output_is_a_carry_of_its_own() -> None:
    (scan,) = [op for op in checked(trace(RNN(Averager()), X)).walk() if op.name == "scan"]
    assert scan.attrs.carries == ("state0", "state1", "y_last")  # type: ignore[attr-defined]
    assert scan.attrs.ys == ()  # type: ignore[attr-defined]


def test_initial_states_of_a_tuple() -> None:
    graph = checked(trace(RNN(Averager(), name="a"), X, initial_state=True))
    assert graph.input_names == ("x", "a.state0_0", "a.state1_0")
    assert graph.inputs[2].shape == ("batch", 2, I)


class Broken(Cell):
    """One state [batch, U]; ``step`` is given."""

    def __init__(self, step: Any, state_size: Any = U) -> None:
        self.state_size = state_size
        self.step = step  # type: ignore[method-assign]


kept: list[Tensor] = []


def leak_out(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    kept.append(h)
    return h, h


@pytest.mark.parametrize(("step", "size", "message"), [
    (lambda x, h: (h, ops.concat([h, h])), U,
     r"cell Broken: state 'h' enters a step as f32\[batch,6\] and leaves it as f32\[batch,12\]"),
    (lambda x, h: (h, h > 0), U, r"state 'h' enters a step as f32\[batch,6\] and leaves it as bool\[batch,6\]"),
    (lambda x, h: (h[0], (h[0],)), (U, U),
     r"cell Broken: step must return 2 tensors as the new state, got tuple of 1"),
    (lambda x, h: (h[0], h[0]), (U, U), r"step must return 2 tensors as the new state, got a tensor f32\[batch,6\]"),
    (lambda x, h: (h, (h, h)), U, "step must return one tensor as the new state, got tuple of 2"),
    (lambda x, h: (h["h"], {"h": h["h"]}), {"h": U, "c": U},
     "step must return a dict with h, c as the new state, got a dict with h"),
    (lambda x, h: h, U, r"step must return \(y, new_state\) with a tensor y, got a tensor"),
    (lambda x, h: (1.0, h), U, r"step must return \(y, new_state\) with a tensor y, got tuple of 2: \(float 1.0"),
    (lambda x, h: (h, h), "six", "state_size must be an int, a tuple of ints or shapes, or a dict"),
    (lambda x, h: (h, h), {}, "state_size must be an int"),
    (lambda x, h: (h, h), {"h 1": U}, "a state's name is made of letters, .* got 'h 1'"),
    (lambda x, h: (h, h), 0, "a state's size is a positive int or a tuple of them, got 0"),
    (lambda x, h: (h, h) if h else (x, x), U, "cannot take the truth value of the traced .*ops.where"),
    (lambda x, h: (h, np.asarray(h)), U, "cannot call a numpy function on the traced .*rnngraph.nn.ops"),
    (lambda x, h: (h, sum(h)), U, "cannot iterate over the traced"),
    (lambda x, h: (h, h + "a"), U, "expected a tensor, number or array, got str 'a'"),
    (lambda x, h: (h, h + np.ones(U)), U, r"expected a float32 array, got float64\[6\]; use array.astype"),
])
def test_a_broken_cell(step: Any, size: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace(RNN(Broken(step, size)), X)


def test_an_op_error_names_layer_and_cell() -> None:
    with pytest.raises(ShapeError, match=r"layer 'rnn': cell Broken: shapes .* do not broadcast"):
        trace(RNN(Broken(lambda x, h: (h, h + x))), X)


def test_a_tensor_of_a_finished_trace() -> None:
    kept.clear()
    trace(RNN(Broken(leak_out)), X)
    with pytest.raises(TraceError, match=r"layer 'rnn': cell Broken: .*tensor of a finished trace"):
        trace(RNN(Broken(lambda x, h: (h, kept[0]))), X)


def test_a_tensor_from_inside_a_finished_loop() -> None:
    kept.clear()

    def second(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return h, h + kept[-1]

    model = Sequential([RNN(Broken(leak_out), return_sequences=True), RNN(Broken(second), name="second")])
    with pytest.raises(TraceError, match=r"layer 'second': .*inside a finished loop"):
        trace(model, X)


def test_a_cell_without_step_or_build() -> None:
    class NoStep(Cell):
        pass

    class NoBuild(Cell):
        def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = x @ self.W  # type: ignore[attr-defined]
            return h, h

    with pytest.raises(TraceError, match="cell NoStep: expected a method step"):
        trace(RNN(NoStep(U)), X)
    with pytest.raises(TraceError, match=r"cell NoBuild: step uses self\.W, which does not exist; create it in build"):
        trace(RNN(NoBuild(U)), X)
    with pytest.raises(TraceError, match="state_size must be"):
        trace(RNN(NoStep()), X)


def test_a_weight_added_twice() -> None:
    class InStep(Cell):
        def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = h + x @ self.add_weight("W", (I, U))
            return h, h

    layer = RNN(InStep(U))
    trace(layer, X)
    with pytest.raises(TraceError, match="already has a weight 'W'; add_weight belongs in build"):
        trace(layer, X)


def test_weights_of_bad_shape() -> None:
    class Bad(Cell):
        def build(self, n: int) -> None:
            self.add_weight("W", (n, 0))

    with pytest.raises(ShapeError, match="weight 'W': a dim is an integer >= 1, got 0"):
        trace(RNN(Bad(U)), X)


def test_not_a_cell() -> None:
    with pytest.raises(TraceError, match="expected a Cell or a list of cells"):
        RNN(GRU(3))  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="StackedCells: expected a list of cells"):
        RNN([LSTMCell(3), GRU(3)])  # type: ignore[list-item]


def test_ops_outside_of_a_trace() -> None:
    layer = RNN(MinimalGatedUnit(U))
    layer.build((None, None, I))
    cell = layer.cell
    assert isinstance(cell, MinimalGatedUnit)
    with pytest.raises(TraceError, match="no trace is running"):
        cell.Wf + 1.0


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "custom_cell.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "scan carry(h = " in printed
    assert "y (2, 5, 4)" in printed


class NoisyCell(Cell):
    """Draws a mask in every step."""

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        mask = active().step_mask(h.shape, 0.5, h.dtype)
        h = h + wrap(mask)
        return h, h


@pytest.mark.parametrize("unroll", [False, True])
def test_a_step_mask_is_drawn_anew_in_every_step(unroll: bool) -> None:
    """h counts the steps in which each unit was kept (each adds 1 / (1 - 0.5))."""
    graph = trace(RNN(NoisyCell(8), return_sequences=True, unroll=unroll), Input((2, 12, 8)))
    y = evaluate(graph, {"x": np.zeros((2, 12, 8), np.float32)})["y"]
    assert sum(op.name == "random_mask" for op in graph.walk()) == 1
    kept = np.diff(y, axis=1, prepend=0.0)
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert 0.3 < kept.mean() / 2.0 < 0.7
    assert len({step.tobytes() for step in np.moveaxis(kept, 1, 0)}) == 12
