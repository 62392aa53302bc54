"""Recurrent layers and their options, in float64, against numpy loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn import GRU, LSTM, RNN, Bidirectional, GRUCell, Input, LSTMCell, Model, SimpleRNN, SimpleRNNCell, trace
from tests.nn.numpy_cells import Array, Step, gru, hard_sigmoid, lstm, run, simple, wide
from tests.nn.support import B, I, T, U, X, checked, close, output, outputs, randomize, some

x = some(B, T, I)
zero = np.zeros((B, U))
TOLERANCE = 1e-7  # hard_sigmoid's 1/6 is a float32 constant; all others are within 1e-12
LENGTHS = np.array([2, 5, 0], np.int32)


def states(layer: RNN) -> list[Array]:
    return [zero] * (2 if isinstance(layer.cell, LSTMCell) else 1)


CASES: list[tuple[str, Callable[..., RNN], Callable[[RNN], Step]]] = [
    ("lstm", LSTM, lambda m: lstm(m.weights)),
    ("lstm-no-bias", lambda u, **k: LSTM(u, use_bias=False, **k), lambda m: lstm(m.weights)),
    ("lstm-peepholes", lambda u, **k: LSTM(u, peepholes=True, **k), lambda m: lstm(m.weights)),
    ("lstm-hard", lambda u, **k: LSTM(u, recurrent_activation="hard_sigmoid", **k),
     lambda m: lstm(m.weights, gate=hard_sigmoid)),
    ("lstm-relu", lambda u, **k: LSTM(u, activation="relu", **k),
     lambda m: lstm(m.weights, act=lambda v: np.maximum(v, 0.0))),
    ("gru-after", GRU, lambda m: gru(m.weights, True)),
    ("gru-before", lambda u, **k: GRU(u, reset_after=False, **k), lambda m: gru(m.weights, False)),
    ("gru-after-no-bias", lambda u, **k: GRU(u, use_bias=False, **k), lambda m: gru(m.weights, True)),
    ("gru-before-no-bias", lambda u, **k: GRU(u, use_bias=False, reset_after=False, **k),
     lambda m: gru(m.weights, False)),
    ("simple-tanh", SimpleRNN, lambda m: simple(m.weights)),
    ("simple-relu", lambda u, **k: SimpleRNN(u, activation="relu", **k),
     lambda m: simple(m.weights, lambda v: np.maximum(v, 0.0))),
]
cells = pytest.mark.parametrize(("make", "reference"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])


@cells
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_layer(make: Callable[..., RNN], reference: Callable[[RNN], Step], backwards: bool, sequences: bool) -> None:
    layer = make(U, return_sequences=sequences, go_backwards=backwards)
    randomize(layer)
    seq, finals = run(reference(layer), x, states(layer), backwards=backwards)
    expected = (seq[:, ::-1] if backwards else seq) if sequences else finals[0]
    close(output(layer, {"x": x}), expected, TOLERANCE)


@cells
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("unroll", [False, True])
def test_lengths_and_padding(make: Callable[..., RNN], reference: Callable[[RNN], Step], backwards: bool,
                             zeros: bool, unroll: bool) -> None:
    layer = make(U, return_sequences=True, return_state=True, go_backwards=backwards, zero_output_for_mask=zeros,
                 unroll=unroll, name="r")
    randomize(layer, (None, T, I))
    seq, finals = run(reference(layer), x, states(layer), lengths=LENGTHS.tolist(), backwards=backwards, zero=zeros)
    given = Input((B, T, I)) if unroll else X
    got = outputs(layer, {"x": x, "lengths": LENGTHS}, given, lengths=True)
    close(got["y"], seq[:, ::-1] if backwards else seq, TOLERANCE)
    for name, final in zip(["h", "c"], finals, strict=False):
        close(got[f"r.{name}"], final, TOLERANCE)


@cells
def test_initial_state(make: Callable[..., RNN], reference: Callable[[RNN], Step]) -> None:
    layer = make(U, name="r")
    randomize(layer)
    first = [some(B, U, seed=7 + i) for i in range(len(states(layer)))]
    feeds = {"x": x, **{f"r.{n}0": s for n, s in zip("hc", first, strict=False)}}
    _, finals = run(reference(layer), x, first)
    close(output(layer, feeds, initial_state=True), finals[0], TOLERANCE)


@pytest.mark.parametrize(("batch", "steps", "features", "units"),
                         [(1, 1, 1, 1), (1, 3, 2, 1), (2, 1, 1, 3), (0, 2, 3, 2)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_small_sizes(batch: int, steps: int, features: int, units: int, symbolic: bool) -> None:
    layer = Bidirectional(LSTM(units, peepholes=True))
    randomize(layer, (None, None, features))
    small = some(batch, steps, features)
    first = [np.zeros((batch, units))] * 2
    halves = [np.zeros((0, units))] * 2 if batch == 0 else [
        run(lstm({k: v for k, v in layer.weights.items() if k.startswith(d)}), small, first, backwards=b)[1][0]
        for d, b in (("forward", False), ("backward", True))]
    given = Input(("batch", "time", features) if symbolic else (batch, steps, features))
    close(output(layer, {"x": small}, given), np.concatenate(halves, -1), 1e-12)


def test_final_output_after_lengths_is_the_last_valid_one() -> None:
    layer = randomize(GRU(U))
    _, finals = run(gru(layer.weights, True), x, [zero], lengths=LENGTHS.tolist())
    close(output(layer, {"x": x, "lengths": LENGTHS}, lengths=True), finals[0], 1e-12)
    assert not finals[0][2].any()  # a row of length 0 keeps its initial state


def test_time_major() -> None:
    layer = randomize(LSTM(U, return_sequences=True, time_major=True))
    seq, _ = run(lstm(layer.weights), x, [zero, zero], lengths=LENGTHS.tolist())
    graph_input = Input(("time", "batch", I))
    got = output(layer, {"x": x.transpose(1, 0, 2), "lengths": LENGTHS}, graph_input, lengths=True)
    close(got, seq.transpose(1, 0, 2), 1e-12)
    assert not any(op.name == "transpose" for op in trace(layer, graph_input).walk())


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("first_backwards", [False, True])
def test_bidirectional(mode: str, sequences: bool, first_backwards: bool) -> None:
    layer = Bidirectional(GRU(U, return_sequences=sequences, go_backwards=first_backwards), merge_mode=mode)
    randomize(layer)
    w = layer.weights
    outs = []
    for child, backwards in (("forward", first_backwards), ("backward", not first_backwards)):
        step = gru({k: v for k, v in w.items() if k.startswith(child)}, True)
        seq, finals = run(step, x, [zero], backwards=backwards)
        outs.append(seq if sequences else finals[0])
    if sequences and first_backwards:  # Keras gives the sequence in the order of the forward child
        outs = [o[:, ::-1] for o in outs]
    f, b = outs
    expected = {"concat": np.concatenate([f, b], -1), "sum": f + b, "mul": f * b, "ave": (f + b) / 2}[mode]
    close(output(layer, {"x": x}), expected, 1e-12)


def test_bidirectional_without_merge_and_with_states() -> None:
    layer = Bidirectional(LSTM(U, return_sequences=True, return_state=True), merge_mode=None, name="bi")
    randomize(layer)
    got = outputs(layer, {"x": x, "lengths": LENGTHS}, lengths=True)
    assert list(got) == ["y0", "y1", "bi/forward.h", "bi/forward.c", "bi/backward.h", "bi/backward.c"]
    for i, child in enumerate(["forward", "backward"]):
        step = lstm({k: v for k, v in layer.weights.items() if k.startswith(child)})
        seq, (h, c) = run(step, x, [zero, zero], lengths=LENGTHS.tolist(), backwards=bool(i))
        close(got[f"y{i}"], seq, 1e-12)
        close(got[f"bi/{child}.h"], h, 1e-12)
        close(got[f"bi/{child}.c"], c, 1e-12)


def test_bidirectional_with_a_backward_layer_of_another_kind() -> None:
    layer = Bidirectional(LSTM(U), backward_layer=GRU(3, go_backwards=True))
    randomize(layer)
    w = layer.weights
    _, (h, _) = run(lstm({k: v for k, v in w.items() if "forward" in k}), x, [zero, zero])
    _, (g,) = run(gru({k: v for k, v in w.items() if "backward" in k}, True), x, [np.zeros((B, 3))], backwards=True)
    close(output(layer, {"x": x}), np.concatenate([h, g], -1), 1e-12)


@pytest.mark.parametrize(("backward", "message"), [
    (GRU(U), "opposite directions"),
    (GRU(U, go_backwards=True, return_sequences=True), "agree in return_sequences"),
])
def test_bidirectional_refuses_a_pair_that_does_not_fit(backward: RNN, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        Bidirectional(GRU(U), backward_layer=backward)


def test_bidirectional_initial_state_inputs_are_named_by_the_children() -> None:
    graph = trace(Bidirectional(LSTM(U)), X, initial_state=True)
    assert graph.input_names == ("x", "bidirectional/forward.h0", "bidirectional/forward.c0",
                                 "bidirectional/backward.h0", "bidirectional/backward.c0")
    checked(graph)


def test_stacked_cells() -> None:
    layer = RNN([LSTMCell(U), GRUCell(5), SimpleRNNCell(U)], return_sequences=True, return_state=True, name="s")
    randomize(layer)
    got = outputs(layer, {"x": x, "lengths": LENGTHS}, lengths=True)
    assert list(got) == ["y", "s.cell0.h", "s.cell0.c", "s.cell1.h", "s.cell2.h"]
    part = [{k: v for k, v in layer.weights.items() if k.startswith(f"cell{i}")} for i in range(3)]
    steps: Sequence[Step] = [lstm(part[0]), gru(part[1], True), simple(part[2])]

    def step(v: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        v, first = steps[0](v, state[:2])
        v, second = steps[1](v, state[2:3])
        v, third = steps[2](v, state[3:])
        return v, [*first, *second, *third]

    shapes = [U, U, 5, U]
    seq, finals = run(step, x, [np.zeros((B, u)) for u in shapes], lengths=LENGTHS.tolist())
    for name, expected in zip(got, [seq, *finals], strict=True):
        if name != "y":
            close(got[name], expected, 1e-12)
    active = np.arange(T)[None, :] < LENGTHS[:, None]
    close(got["y"][active], seq[active], 1e-12)


def test_one_matmul_per_gate_and_operand() -> None:
    (scan,) = [op for op in trace(LSTM(U), X).walk() if op.name == "scan"]
    products = [op for op in scan.blocks[0].ops if op.name == "matmul"]
    assert len(products) == 8
    expected = {f"{k}_{g}" for k in ("kernel", "recurrent_kernel") for g in "ifco"}
    assert {op.operands[1].hint for op in products} == expected
    assert all(op.layer == "lstm" for op in scan.walk())


def test_return_sequences_false_emits_no_sequence() -> None:
    (scan,) = [op for op in trace(GRU(U), X).walk() if op.name == "scan"]
    assert len(scan.results) == 1


def test_zero_steps_give_the_initial_state() -> None:
    layer = randomize(GRU(U, return_sequences=True, return_state=True, name="g"))
    h0 = some(B, U)
    got = outputs(layer, {"x": x[:, :0], "g.h0": h0}, initial_state=True)
    assert got["y"].shape == (B, 0, U)
    close(got["g.h"], h0.astype(np.float64), 0.0)


def test_unroll_is_straight_line_code() -> None:
    layer = LSTM(U, unroll=True, return_sequences=True)
    graph = trace(layer, Input(("batch", 3, I)))
    assert not any(op.name == "scan" for op in graph.walk())
    with pytest.raises(TraceError, match="layer 'lstm': unroll=True needs an integer number of steps"):
        trace(layer, X)


def test_initial_state_given_in_a_model() -> None:
    a = Input(("batch", "src", I), name="a")
    b = Input(("batch", "dst", I), name="b")
    _, h, c = LSTM(U, return_state=True, name="encoder")(a)
    model = Model([a, b], LSTM(U, name="decoder")(b, initial_state=[h, c]))
    randomize_model = {k: some(*v.shape, seed=3) for k, v in model.weights.items()}
    model.set_weights(randomize_model)
    w = {n: wide({k: v for k, v in model.weights.items() if k.startswith(n)}) for n in ("encoder", "decoder")}
    xb = some(B, 7, I, seed=9)
    _, first = run(lstm(w["encoder"]), x, [zero, zero], lengths=LENGTHS.tolist())
    _, (expected, _) = run(lstm(w["decoder"]), xb, first)  # the lengths are about "src": dst runs all its steps
    close(output(model, {"a": x, "b": xb, "lengths": LENGTHS}, None, lengths=True), expected, 1e-12)


@pytest.mark.parametrize(("bad", "message"), [
    (Input(("batch", I)), r"layer 'lstm': expected an input of rank 3, \[batch, time, features\], got f32\[batch,4\]"),
    (Input(("batch", "time", "n")), "layer 'lstm': expected an integer number of features"),
    (Input(("batch", "time", I), dtype="i32"), r"layer 'lstm': expected a float input, got i32"),
    (Input(("batch", "time", I + 1)), "layer 'lstm': cell LSTMCell was built for 4 features, got 5"),
])
def test_bad_inputs(bad: Input, message: str) -> None:
    layer = LSTM(U)
    layer.build((None, None, I))
    with pytest.raises(ShapeError, match=message):
        trace(layer, bad)


def test_bad_initial_state() -> None:
    a = Input(("batch", "time", I))
    with pytest.raises(ShapeError, match=r"layer 'lstm': expected 2 initial states \(h, c\), got 1"):
        LSTM(U)(a, initial_state=[Input(("batch", U), name="h")])
    with pytest.raises(ShapeError, match=r"expected f32\[batch,6\] as initial state 'h', got f32\[batch,7\]"):
        LSTM(U)(a, initial_state=[Input(("batch", 7), name="h"), Input(("batch", U), name="c")])


def test_units_and_rates_are_checked() -> None:
    with pytest.raises(ShapeError, match="units must be an int >= 1, got 0"):
        GRU(0)
    with pytest.raises(TraceError, match=r"dropout must be in 0\.\.1, got 1.5"):
        GRU(3, dropout=1.5)


def test_wrong_activation_name() -> None:
    with pytest.raises(TraceError, match="unknown activation 'thanh'"):
        LSTM(3, activation="thanh")
