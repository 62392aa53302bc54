"""States in nested structures, constants, and how final states are named; against numpy, in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import evaluate
from rnngraph.nn import LSTM, RNN, Bidirectional, Cell, Input, Model, StackedCells, Tensor, ops, trace
from tests.nn.numpy_cells import Array
from tests.nn.support import B, I, T, X, checked, close, outputs, some

x = some(B, T, I)


class Pair(NamedTuple):
    a: Any
    b: Any


class Nested(Cell):
    """Adds up x, its steps and its squares; where they are kept is up to ``form``."""

    FORMS: dict[str, Any] = {  # noqa: RUF012
        "tuple-of-tuples": ((((I,), (I,)), I), ("state0.state0", "state0.state1", "state1")),
        "dict-of-tuples": ({"sums": ((I,), {"n": I}), "squares": (I,)}, ("sums.state0", "sums.state1.n", "squares")),
        "tuple-of-dicts": (({"x": I, "n": I}, I), ("state0.x", "state0.n", "state1")),
        "named": (Pair(Pair((I,), {"n": I}), I), ("state0.state0", "state0.state1.n", "state1")),
    }

    def __init__(self, form: str) -> None:
        size, self.expected = self.FORMS[form]
        super().__init__(size)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        def new(part: Any, values: list[Tensor]) -> Any:
            if isinstance(part, Tensor):
                return part + values.pop(0)
            if isinstance(part, dict):
                return {k: new(v, values) for k, v in part.items()}
            items = [new(v, values) for v in part]
            return type(part)(*items) if isinstance(part, Pair) else tuple(items)

        return x, new(state, [x, ops.ones_like(x), x * x])


def sums(x: Array) -> list[Array]:
    x = x.astype(np.float64)
    return [x.sum(1), np.full((B, I), float(T)), (x * x).sum(1)]


@pytest.mark.parametrize("form", Nested.FORMS)
@pytest.mark.parametrize("unroll", [False, True])
def test_nested_states(form: str, unroll: bool) -> None:
    cell = Nested(form)
    layer = RNN(cell, return_state=True, unroll=unroll, name="r")
    got = outputs(layer, {"x": x}, Input((B, T, I)))
    assert list(got) == ["y", *(f"r.{n}" for n in cell.expected)]
    for (_, value), want in zip(list(got.items())[1:], sums(x), strict=True):
        close(value, want, 1e-6)


def test_a_named_tuple_arrives_as_one() -> None:
    class Named(Cell):
        def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
            assert isinstance(state, Pair)
            return state.a, Pair(state.a + x, state.b)

    checked(trace(RNN(Named(Pair(I, I))), X))


@pytest.mark.parametrize("form", Nested.FORMS)
def test_initial_states_of_nested_ones(form: str) -> None:
    cell = Nested(form)
    first = [some(B, I, seed=i) for i in range(3)]
    compiled = rg.compile(RNN(cell, return_state=True, name="r"), X)
    want = [s + f for s, f in zip(sums(x), first, strict=True)]
    by_name = {f"r.{n}": f for n, f in zip(cell.expected, first, strict=True)}
    for given in (first, by_name):
        _, *got = compiled(x, initial_state=given)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, rtol=0, atol=1e-5 * np.abs(w).max())
    assert compiled.variant(initial_state=True).report.kernels[0].backend == "llvm"


def test_initial_state_in_the_structure_of_the_cell() -> None:
    cell = Nested("dict-of-tuples")
    s = [Input(("batch", I), name=f"s{i}") for i in range(3)]
    structures: list[Any] = [s, {"squares": s[2], "sums": (s[0], {"n": s[1]})}]
    first = {f"s{i}": some(B, I, seed=i) for i in range(3)}
    for given in structures:
        model = Model([X, *s], list(RNN(cell, return_state=True, name="r")(X, initial_state=given)))
        got = evaluate(trace(model), {"x": x, **first}, float64=True)
        for n, value, want in zip(cell.expected, first.values(), sums(x), strict=True):
            close(got[f"r.{n}"], want + value, 1e-6)
    with pytest.raises(ShapeError, match=r"expected 3 initial states \(sums.state0, sums.state1.n, squares\), got 2"):
        RNN(cell)(X, initial_state={"squares": s[2], "sums": s[0]})


def test_stacked_cells_with_nested_states() -> None:
    layer = RNN(StackedCells([Nested("dict-of-tuples"), Nested("tuple-of-dicts")]), return_state=True, name="r")
    got = outputs(layer, {"x": x})
    assert list(got) == ["y", "r.cell0.sums.state0", "r.cell0.sums.state1.n", "r.cell0.squares", "r.cell1.state0.x",
                         "r.cell1.state0.n", "r.cell1.state1"]
    for value, want in zip(list(got.values())[1:], sums(x) * 2, strict=True):
        close(value, want, 1e-6)


def test_masked_nested_states() -> None:
    mask = np.array([[1, 0, 1, 1, 0]] * B, bool)
    got = outputs(RNN(Nested("named"), return_state=True, name="r"), {"x": x, "mask": mask}, mask=True)
    np.testing.assert_array_equal(got["r.state0.state1.n"], 3.0)
    close(got["r.state0.state0"], x[:, [0, 2, 3]].astype(np.float64).sum(1), 1e-6)


@pytest.mark.parametrize(("size", "step", "message"), [
    (((I, {"n": I}),), lambda x, s: (x, s), None),
    ({"a": {}}, lambda x, s: (x, s), None),
    ({"a": ({"b": I}, I)}, lambda x, s: (x, {"a": (s["a"][1], s["a"][1])}),
     r"step must return a dict with a \(a tuple \(a dict with b, a tensor\)\) as the new state, got a dict with a"),
    ({"a": ({"b c": I}, I)}, lambda x, s: (x, s), "a state's name is made of letters"),
    ({"a": {"b": I}, "a.b": I}, lambda x, s: (x, s), "two states are named 'a.b'"),
    ({"a": {"b": -1}}, lambda x, s: (x, s), "a state's size is a positive int or a tuple of them, got -1"),
    (({"a": "b"},), lambda x, s: (x, s), "a state's size is a positive int or a tuple of them, got 'b'"),
])
def test_structures(size: Any, step: Any, message: str | None) -> None:
    cell = type("Any", (Cell,), {"step": lambda self, x, s: step(x, s)})(size)
    if message is None:
        checked(trace(RNN(cell), X))
        return
    with pytest.raises(TraceError, match=message):
        trace(RNN(cell), X)


class Shifted(Cell):
    """Keras's RNN constants: every step adds a vector per row, and a second one where it is given."""

    def step(self, x: Tensor, h: Tensor, constants: tuple[Tensor, ...] = ()) -> tuple[Tensor, Tensor]:
        for c in constants:
            h = h + c
        h = h + x
        return h, h


C = Input(("batch", I), name="c")


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: [c], lambda c: rg.nn.StackedCells([c])])
def test_constants(unroll: bool, wrap: Any) -> None:
    given = Input((B, T, I)) if unroll else X
    c = Input((B, I), name="c") if unroll else C
    model = Model([given, c], RNN(wrap(Shifted(I)), unroll=unroll)(given, constants=[c, c]))
    const = some(B, I, seed=4)
    got = evaluate(checked(trace(model)), {"x": x, "c": const}, float64=True)["y"]
    close(got, x.astype(np.float64).sum(1) + 2 * T * const.astype(np.float64), 1e-12)


def test_constants_compile_to_one_native_loop() -> None:
    model = Model([X, C], Bidirectional(RNN(Shifted(I), return_sequences=True), merge_mode="sum")(X, constants=C))
    compiled = rg.compile(model)
    assert [k.backend for k in compiled.report.kernels] == ["llvm"]
    const = some(B, I, seed=4)
    steps = np.arange(1, T + 1)[None, :, None]
    wide = x.astype(np.float64)
    want = wide.cumsum(1) + wide[:, ::-1].cumsum(1)[:, ::-1] + const[:, None] * (steps + steps[:, ::-1])
    got = compiled.run({"x": x, "c": const})["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_constants_that_no_cell_takes() -> None:
    with pytest.raises(TraceError, match="layer 'lstm': got constants, but no cell's step takes them"):
        LSTM(4)(X, constants=[C])


def test_both_directions_of_different_cells_get_their_states() -> None:
    layer = Bidirectional(LSTM(3), backward_layer=rg.nn.GRU(3, go_backwards=True))
    s = [Input(("batch", 3), name=f"s{i}") for i in range(3)]
    trace(Model([X, *s], layer(X, initial_state=s)))
    trace(Model([X, *s], layer(X, initial_state=[s[:2], s[2:]])))
    with pytest.raises(ShapeError, match="expected the forward and the backward initial states, 3 tensors, got 2"):
        layer(X, initial_state=s[:2])
