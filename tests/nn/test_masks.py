"""Masks: a step left out leaves the states alone; against numpy loops, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import InputError, ShapeError, TraceError
from rnngraph.ir import evaluate
from rnngraph.nn import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Cell,
    Dense,
    Dropout,
    Embedding,
    Input,
    Layer,
    Masking,
    Model,
    Sequential,
    SimpleRNN,
    trace,
)
from tests.nn.numpy_cells import Array, Step, gru, lstm, simple
from tests.nn.support import I, T, U, X, checked, close, output, outputs, randomize, some

ROWS = ["11111", "11000", "00111", "10101", "01010", "00000"]  # whole, right, left, holes, holes first, none
MASK = np.array([[c == "1" for c in row] for row in ROWS])
N = len(ROWS)
x = some(N, T, I)
M = Input(("batch", "time"), dtype="bool", name="mask")


def masked_run(step: Step, x: Array, states: Sequence[Array], mask: Array, *, backwards: bool = False,
               zero: bool = False) -> tuple[Array, Array, list[Array]]:
    """The output sequence in the input's order, the last output and the final states, row by row: only steps that the
    mask leaves in are run."""
    rows, lasts, finals = [], [], []
    for b in range(x.shape[0]):
        state = [np.asarray(s[b : b + 1], np.float64) for s in states]
        width = step(x[b : b + 1, 0].astype(np.float64), state)[0].shape[1]
        out, last = np.zeros((x.shape[1], width)), np.zeros((1, width))
        for t in range(x.shape[1])[:: -1 if backwards else 1]:
            if mask[b, t]:
                last, state = step(x[b : b + 1, t].astype(np.float64), state)
            elif zero:
                last = np.zeros((1, width))
            out[t] = last
        rows.append(out)
        lasts.append(last)
        finals.append(state)
    return np.stack(rows), np.concatenate(lasts), [np.concatenate(f) for f in zip(*finals, strict=True)]


CELLS: dict[str, tuple[Callable[..., RNN], Callable[..., Step], int]] = {
    "lstm": (LSTM, lstm, 2), "gru": (GRU, lambda w: gru(w, True), 1), "simple": (SimpleRNN, simple, 1)}


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("initial", [False, True])
def test_layer_under_a_mask(kind: str, backwards: bool, zeros: bool, sequences: bool, unroll: bool,
                            initial: bool) -> None:
    make, reference, count = CELLS[kind]
    layer = make(U, return_sequences=sequences, return_state=True, go_backwards=backwards, unroll=unroll,
                 zero_output_for_mask=zeros, name="r")
    randomize(layer, (None, T, I))
    first = [some(N, U, seed=5 + i) * initial for i in range(count)]
    seq, last, finals = masked_run(reference(layer.weights), x, first, MASK, backwards=backwards, zero=zeros)
    feeds = {"x": x, "mask": MASK} | ({f"r.{n}0": s for n, s in zip("hc", first, strict=False)} if initial else {})
    given = Input((N, T, I)) if unroll else X
    got = outputs(layer, feeds, given, mask=True, initial_state=initial)
    close(got["y"], (seq[:, ::-1] if backwards else seq) if sequences else last, 1e-12)
    for name, final in zip("hc", finals, strict=False):
        close(got[f"r.{name}"], final, 1e-12)


class Counter(Cell):
    """Its output is not a state: x plus how many steps were run."""

    def __init__(self) -> None:
        super().__init__({"count": I})

    def step(self, x: rg.nn.Tensor, state: dict[str, rg.nn.Tensor]) -> tuple[rg.nn.Tensor, dict[str, rg.nn.Tensor]]:
        count = state["count"] + 1.0
        return x + count, {"count": count}


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_a_cell_whose_output_is_no_state(zeros: bool, sequences: bool) -> None:
    layer = RNN(Counter(), return_sequences=sequences, return_state=True, zero_output_for_mask=zeros, name="r")

    def step(v: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        return v + state[0] + 1.0, [state[0] + 1.0]

    seq, last, (count,) = masked_run(step, x, [np.zeros((N, I))], MASK, zero=zeros)
    got = outputs(layer, {"x": x, "mask": MASK}, mask=True)
    close(got["y"], seq if sequences else last, 1e-12)
    close(got["r.count"], count, 0.0)


@pytest.mark.parametrize("mode", ["concat", "sum", None])
@pytest.mark.parametrize("sequences", [False, True])
def test_bidirectional(mode: str | None, sequences: bool) -> None:
    layer = randomize(Bidirectional(GRU(U, return_sequences=sequences), merge_mode=mode))
    parts = []
    for name in ("forward", "backward"):
        step = gru({k: v for k, v in layer.weights.items() if k.startswith(name)}, True)
        seq, last, _ = masked_run(step, x, [np.zeros((N, U))], MASK, backwards=name == "backward",
                                  zero=sequences)  # Keras: whatever zero_output_for_mask says
        parts.append(seq if sequences else last)
    got = list(outputs(layer, {"x": x, "mask": MASK}, mask=True).values())
    expected = {"concat": [np.concatenate(parts, -1)], "sum": [parts[0] + parts[1]], None: parts}[mode]
    for g, e in zip(got, expected, strict=True):
        close(g, e, 1e-12)


def test_time_major_mask_has_the_layout_of_the_input() -> None:
    layer = randomize(LSTM(U, return_sequences=True, time_major=True))
    seq, _, _ = masked_run(lstm(layer.weights), x, [np.zeros((N, U))] * 2, MASK)
    feeds = {"x": x.transpose(1, 0, 2), "mask": MASK.T}
    close(output(layer, feeds, Input(("time", "batch", I)), mask=True), seq.transpose(1, 0, 2), 1e-12)
    inside = Model([a := Input(("time", "batch", I)), m := Input(("time", "batch"), "bool", "mask")], layer(a, mask=m))
    close(output(inside, feeds, None), seq.transpose(1, 0, 2), 1e-12)


def test_a_mask_in_a_model_goes_on_to_later_layers() -> None:
    low, high = LSTM(U, return_sequences=True, zero_output_for_mask=True), GRU(3)
    model = Model([X, M], high(Dropout(0.1)(Dense(5)(low(X, mask=M)))))
    model.set_weights([some(*w.shape, seed=i) for i, w in enumerate(model.weights.values())])
    w = {k: v.astype(np.float64) for k, v in model.weights.items()}
    mid, _, _ = masked_run(lstm({k: v for k, v in w.items() if k.startswith("lstm")}), x, [np.zeros((N, U))] * 2, MASK,
                           zero=True)
    mid = mid @ w["dense/kernel"] + w["dense/bias"]
    _, last, _ = masked_run(gru({k: v for k, v in w.items() if k.startswith("gru")}, True), mid, [np.zeros((N, 3))],
                            MASK)
    close(output(model, {"x": x, "mask": MASK}, None), last, 1e-12)


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_masking_layer(value: float) -> None:
    data = np.where(MASK[:, :, None], x, np.float32(value))
    data[0, 0, 0] = value  # one feature alone masks nothing
    model = Sequential([Masking(value), LSTM(U, return_sequences=True), GRU(U)])
    randomize(model)
    w = model.weights
    mid, _, _ = masked_run(lstm({k: v for k, v in w.items() if k.startswith("lstm")}), data, [np.zeros((N, U))] * 2,
                           MASK)
    _, last, _ = masked_run(gru({k: v for k, v in w.items() if k.startswith("gru")}, True), mid, [np.zeros((N, U))],
                            MASK)
    close(output(model, {"x": data}), last, 1e-12)
    close(output(Masking(value), {"x": data}), np.where(MASK[:, :, None], data, 0.0), 0.0)


def test_embedding_with_mask_zero() -> None:
    words = np.where(MASK, np.arange(1, T + 1), 0).astype(np.int32)
    given = Input(("batch", "time"), dtype="i32")
    model = Sequential([given, Embedding(9, I, mask_zero=True), GRU(U)])
    model.set_weights([some(*w.shape, seed=i) for i, w in enumerate(model.weights.values())])
    w = model.weights
    _, last, _ = masked_run(gru({k: v for k, v in w.items() if "gru" in k}, True), w["embedding/embeddings"][words],
                            [np.zeros((N, U))], MASK)
    close(output(model, {"x": words}, None), last, 1e-12)


def test_a_mask_of_its_own_goes_before_the_one_of_the_call() -> None:
    model = Sequential([Masking(), GRU(U, return_sequences=True)])
    with pytest.raises(TraceError, match="no recurrent layer without a mask of its own"):
        trace(model, X, mask=True)
    other = trace(Sequential([GRU(U, return_sequences=True), Masking(), GRU(U)]), X, mask=True)
    assert other.input_names == ("x", "mask")


def test_go_backwards_output_keeps_the_mask_as_it_is() -> None:
    """As in Keras: the sequence is turned around, its mask is not."""
    model = randomize(Sequential([Masking(), GRU(U, return_sequences=True, go_backwards=True, name="a"),
                                  GRU(U, name="b")]))
    data = np.where(MASK[:, :, None], x, np.float32(0))
    w = model.weights
    mid, _, _ = masked_run(gru({k: v for k, v in w.items() if k.startswith("a/")}, True), data, [np.zeros((N, U))],
                           MASK, backwards=True)
    _, last, _ = masked_run(gru({k: v for k, v in w.items() if k.startswith("b/")}, True), mid[:, ::-1],
                            [np.zeros((N, U))], MASK)
    close(output(model, {"x": data}), last, 1e-12)


class Plain(Layer):
    """Says nothing about masks."""

    def call(self, x: rg.nn.Tensor) -> rg.nn.Tensor:
        return x * 2.0


def test_a_layer_that_loses_the_mask_warns_as_keras_does() -> None:
    model = Sequential([Masking(), Plain(name="plain"), GRU(U)])
    with pytest.warns(UserWarning, match="layer 'plain': its input has a mask, which this layer does not pass on"):
        trace(model, X)


def test_lengths_and_a_mask_exclude_each_other() -> None:
    with pytest.raises(TraceError, match="expected lengths or a mask, got both"):
        trace(GRU(U), X, lengths=True, mask=True)
    with pytest.raises(TraceError, match="layer 'gru': expected lengths or a mask, got both"):
        trace(Sequential([Masking(), GRU(U)]), X, lengths=True)
    compiled = rg.compile(GRU(U), X)
    with pytest.raises(InputError, match="expected lengths= or mask=, got both"):
        compiled(x, lengths=[1] * N, mask=MASK)


@pytest.mark.parametrize(("mask", "message"), [
    (Input(("batch", "time"), name="mask"), r"expected a mask bool\[batch,time\] \(\[batch, time\]\), got f32"),
    (Input(("batch", "other"), dtype="bool", name="mask"), r"expected a mask bool\[batch,time\]"),
    (Input(("batch", "time", 1), dtype="bool", name="mask"), r"expected a mask bool\[batch,time\]"),
])
def test_a_mask_that_does_not_fit(mask: Input, message: str) -> None:
    with pytest.raises(ShapeError, match="layer 'gru': " + message):
        GRU(U)(X, mask=mask)


@pytest.mark.parametrize(("mask", "message"), [
    (MASK.astype(np.float32), r"input 'mask': expected bool\[batch,time\], got dtype float32"),
    (MASK[:, :2], "mask"),
    (MASK[0], "mask"),
    (MASK.astype(np.int64) * 2, "dtype int64"),
])
def test_an_array_that_is_no_mask(mask: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rg.compile(GRU(U), X)(x, mask=mask)


def test_masking_refuses_what_it_cannot_mask() -> None:
    for value in (np.inf, np.nan, "0", True):
        with pytest.raises(TraceError, match="mask_value must be a finite number"):
            Masking(value)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"expected an input \[batch, time"):
        trace(Masking(), Input(("batch", 3)))
    with pytest.raises(ShapeError, match="expected a float input"):
        trace(Masking(), Input(("batch", "time", 3), dtype="i32"))


@pytest.mark.parametrize("sequences", [False, True])
def test_garbage_at_masked_steps_does_no_harm(sequences: bool) -> None:
    layer = randomize(Bidirectional(LSTM(U, return_sequences=sequences)))
    bad = np.where(MASK[:, :, None], x, np.float32(np.nan))
    bad[1, 3] = np.inf
    graph = checked(trace(layer, X, mask=True))
    want = evaluate(graph, {"x": x, "mask": MASK}, float64=True)["y"]
    close(evaluate(graph, {"x": bad, "mask": MASK}, float64=True)["y"], want, 0.0)


@pytest.mark.parametrize("shape", [(0, T), (N, 0)])
def test_empty(shape: tuple[int, int]) -> None:
    compiled = rg.compile(GRU(U, return_state=True), X)
    y, h = compiled(np.zeros((*shape, I), np.float32), mask=np.zeros(shape, bool))
    assert y.shape == h.shape == (shape[0], U)
    assert not y.any()


def test_a_mask_made_of_lengths_stays_lengths() -> None:
    given, lengths = Input(("batch", T, I)), Input(("batch",), "i32", "lengths")
    layer = GRU(U, return_sequences=True)
    model = Model([given, lengths], layer(given, mask=rg.nn.ops.sequence_mask(lengths, T)))
    model.set_weights([some(*w.shape, seed=i) for i, w in enumerate(model.weights.values())])
    ends = np.array([5, 2, 0, 3, 1, 4], np.int32)
    (scan,) = [op for op in trace(model).walk() if op.name == "scan"]
    assert scan.attrs.lengths  # type: ignore[attr-defined]
    step = gru({k.split("/")[-1]: v for k, v in model.weights.items()}, True)
    seq, _, _ = masked_run(step, x, [np.zeros((N, U))], np.arange(T) < ends[:, None])
    close(output(model, {"x": x, "lengths": ends}, None), seq, 1e-12)
