"""The tests of MXNet 1.9's mx.rnn and gluon.rnn (test_rnn.py, test_gluon_rnn.py), on our names, and its outputs.

Outputs are recorded ones of MXNet (tests/data/mxnet); where MXNet's tests check names and shapes, so do these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.errors import TraceError
from rnngraph.nn import (
    RNN,
    BidirectionalCell,
    Cell,
    DropoutCell,
    FusedRNN,
    GRUCell,
    Input,
    LSTMCell,
    Model,
    ResidualCell,
    SequentialCell,
    SimpleRNNCell,
    VariationalDropoutCell,
    ZoneoutCell,
    trace,
)
from rnngraph.nn.initializers import Constant, UnitForgetBias
from rnngraph.weights import Options, load
from tests.mxnet_outputs import CASES, TOLERANCE, recorded
from tests.nn.numpy_cells import Array


def by_gluon(name: str, data: dict[str, Array]) -> FusedRNN:
    """The layer that made a recorded output, with its weights."""
    kind, _, rest = name.partition("_l")
    mode, projected = ("lstm", True) if kind == "lstmp" else (kind, False)
    layer = FusedRNN.gluon(mode, data["c0" if projected else "h0"].shape[-1], int(rest[0]),
                           bidirectional="_bi" in name, projection_size=data["h0"].shape[-1] if projected else None,
                           get_next_state=True, name="m")
    layer.build((None, None, data["x"].shape[-1]))
    gates = layer.unpack_weights({"parameters": data["params"]})
    packed = layer.pack_weights(gates)
    assert list(packed) == ["parameters"]
    np.testing.assert_array_equal(packed["parameters"], data["params"])
    options = Options(mode=mode, hidden=layer.hidden, layers=layer.num_layers, directions=layer.directions)
    if layer.projection is not None:
        options["projection"] = layer.projection
    layer.set_weights(load(data["params"], "mxnet", **options).to("mxnet_cells"))
    return layer


def check(got: Any, data: dict[str, Array]) -> None:
    want = [data["y"], data["hn"], *([data["cn"]] if "cn" in data else [])]
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)


def start(data: dict[str, Array]) -> dict[str, Array]:
    return {f"m.{n}": data[f"{n}0"] for n in "hc" if f"{n}0" in data}


def test_there_are_cases() -> None:
    assert len(CASES) >= 28
    assert sum("validlen" in n for n in CASES) == 4


@pytest.mark.parametrize("name", CASES)
def test_outputs_of_the_operator(name: str) -> None:
    data = recorded(name)
    layer = by_gluon(name, data)
    graph = trace(layer, Input(("time", "batch", data["x"].shape[-1])))
    assert [op.name for op in graph.walk() if op.name in ("rnn", "scan")] == ["rnn"]
    compiled = rg.compile(layer, Input(("time", "batch", data["x"].shape[-1])), target="cpu", threads=2)
    lengths = {"lengths": data["seqlen"]} if "seqlen" in data else {}
    check(compiled(data["x"], initial_state=start(data), **lengths), data)


@pytest.mark.parametrize("name", [n for n in CASES if "validlen" not in n])
def test_unfused_cells_give_the_operators_outputs(name: str) -> None:
    """test_unfuse: cells, bidirectional cells in a sequence, with the weights of the fused layer."""
    data = recorded(name)
    fused = by_gluon(name, data)
    cells = fused.unfuse()
    kinds = [type(c).__name__ for c in cells]
    assert set(kinds) == {"BidirectionalCell" if fused.bidirectional else type(inner(cells[0])).__name__}
    layer = RNN(cells, return_sequences=True, return_state=True, time_major=True, name="m")
    compiled = rg.compile(layer, Input(("time", "batch", data["x"].shape[-1])), target="cpu", threads=2)
    rows = {s: list(data[f"{s}0"]) for s in "hc" if f"{s}0" in data}
    given = [rows[n.rsplit(".", 1)[-1]].pop(0) for n in cells.states.names]
    y, *finals = compiled(data["x"], initial_state=given)
    stacked = [np.stack([v for n, v in zip(cells.states.names, finals, strict=True) if n.endswith(f".{s}")])
               for s in rows]
    check([y, *stacked], data)
    back = FusedRNN.fuse(cells, layout="TNC", get_next_state=True, prefix="", name="m")
    check(rg.compile(back, Input(("time", "batch", data["x"].shape[-1])))(data["x"], initial_state=start(data)), data)


def inner(cell: Cell) -> Cell:
    return cell.l_cell if isinstance(cell, BidirectionalCell) else cell


@pytest.mark.parametrize(("name", "make", "mode"), [
    ("unrolled_rnn_io", lambda n: SimpleRNNCell(n), "rnn_tanh"), ("unrolled_lstm_io", lambda n: LSTMCell(n), "lstm"),
    ("unrolled_gru_io", lambda n: GRUCell(n), "gru")])
@pytest.mark.parametrize("listed", [False, True])
def test_outputs_of_unrolled_cells(name: str, make: Callable[[int], Cell], mode: str, listed: bool) -> None:
    data = recorded(name)
    y, x = data.pop("y"), data.pop("data")
    cell = make(y.shape[-1])
    given = Input(x.shape)
    outputs, _ = cell.unroll(x.shape[1], [given[:, t] for t in range(x.shape[1])] if listed else given,
                             merge_outputs=not listed)
    model = Model(given, outputs)
    model.set_weights({f"{cell.default_name()}/{n}": a
                       for n, a in load(data, "mxnet_cells", prefix="c_", mode=mode).to("keras").items()})
    got = rg.compile(model, target="cpu", threads=1)(x)
    np.testing.assert_allclose(np.stack(list(got), 1) if listed else got, y, rtol=0, atol=TOLERANCE)


# --- test_rnn.py: what the unrolled cells are ---------------------------------------------------------------------


def unrolled(cell: Cell, steps: int = 3, features: int = 50) -> Model:
    """Inputs one a step, outputs one a step, as MXNet's tests do it."""
    inputs = [Input((10, features), name=f"t{i}_data") for i in range(steps)]
    outputs, _ = cell.unroll(steps, inputs, merge_outputs=False)
    assert len(outputs) == steps
    return Model(inputs, outputs)


def shapes(model: Model) -> list[tuple[Any, ...]]:
    return [v.shape for v in trace(model).outputs]


def test_rnn() -> None:
    model = unrolled(SimpleRNNCell(100))
    assert sorted(model.weights) == ["simple_rnn_cell/bias", "simple_rnn_cell/kernel",
                                     "simple_rnn_cell/recurrent_kernel"]
    assert shapes(model) == [(10, 100)] * 3


def test_lstm() -> None:
    model = unrolled(LSTMCell(100))
    assert sorted(model.weights) == ["lstm_cell/bias", "lstm_cell/kernel", "lstm_cell/recurrent_kernel"]
    assert shapes(model) == [(10, 100)] * 3


def test_lstm_forget_bias() -> None:
    """The forget gate's bias starts at the forget_bias of its cell; all else at the bias initialiser's value."""
    starts = [UnitForgetBias(Constant(0.0), value=v) for v in (1.0, 2.0)]
    stack = SequentialCell([LSTMCell(100, unit_forget_bias=False, bias_initializer=s) for s in starts])
    model = Model(x := Input((32, 1, 200)), stack.unroll(1, x)[0])
    for i, value in enumerate((1.0, 2.0)):
        expected = np.repeat(np.array([0.0, value, 0.0, 0.0], np.float32), 100)
        np.testing.assert_array_equal(model.weights[f"sequential_cell/cell{i}/bias"], expected)
    fused = FusedRNN("lstm", 100, forget_bias=2.0)
    fused.build((None, None, 200))
    expected = np.repeat(np.array([0.0, 2.0, 0.0, 0.0], np.float32), 100)
    np.testing.assert_array_equal(fused.weights["lstm_l0_i2h_bias"], expected)
    assert not fused.weights["lstm_l0_h2h_bias"].any()


def test_gru() -> None:
    model = unrolled(GRUCell(100))
    assert sorted(model.weights) == ["gru_cell/bias", "gru_cell/kernel", "gru_cell/recurrent_kernel"]
    assert shapes(model) == [(10, 100)] * 3


def ones(model: Model, inputs: list[Array]) -> list[Array]:
    """The outputs where all weights are the numbers that MXNet's test sets: weights 0, biases 0."""
    model.set_weights({n: np.zeros_like(w) for n, w in model.weights.items()})
    got = rg.compile(model, target="cpu", threads=1)(*inputs)
    return list(got) if isinstance(got, tuple) else [got]


def test_residual() -> None:
    """With weights of zero and biases of zero a GRU gives 0: the outputs are the inputs."""
    model = unrolled(ResidualCell(GRUCell(50)), 2)
    assert sorted(n.rsplit("/", 1)[-1] for n in model.weights) == ["bias", "kernel", "recurrent_kernel"]
    assert shapes(model) == [(10, 50)] * 2
    x = np.ones((10, 50), np.float32)
    for y in ones(model, [x, x]):
        np.testing.assert_array_equal(y, x)


def test_residual_bidirectional() -> None:
    cell = ResidualCell(BidirectionalCell(GRUCell(25), GRUCell(25)))
    model = unrolled(cell, 2)
    assert shapes(model) == [(10, 50)] * 2
    assert len(model.weights) == 6
    x = np.arange(500, dtype=np.float32).reshape(10, 50) + 5
    for y in ones(model, [x, x]):
        np.testing.assert_array_equal(y, x)


def test_stack() -> None:
    stack = SequentialCell()
    for i in range(5):
        stack.add(ResidualCell(LSTMCell(100)) if i == 1 else LSTMCell(100))
    model = unrolled(stack)
    assert sorted(model.weights) == sorted(f"sequential_cell/cell{i}/{n}" for i in range(5)
                                           for n in ("bias", "kernel", "recurrent_kernel"))
    assert shapes(model) == [(10, 100)] * 3
    assert len(stack.begin_state()) == len(stack.state_info) == 10


def test_bidirectional() -> None:
    model = unrolled(BidirectionalCell(LSTMCell(100), LSTMCell(100)))
    assert shapes(model) == [(10, 200)] * 3
    cell = BidirectionalCell(LSTMCell(3), GRUCell(2))
    with pytest.raises(TraceError, match=r"cell BidirectionalCell has no single steps; use cell\.unroll"):
        cell(Input(("batch", 4)), cell.begin_state())


def test_zoneout() -> None:
    model = unrolled(ZoneoutCell(LSTMCell(100), zoneout_outputs=0.5, zoneout_states=0.5))
    assert shapes(model) == [(10, 100)] * 3
    with pytest.raises(TraceError, match="zoneout needs the single steps"):
        ZoneoutCell(BidirectionalCell(LSTMCell(3), LSTMCell(3)), 0.5)


@pytest.mark.parametrize("mode", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_unfuse(mode: str, bidirectional: bool) -> None:
    fused = FusedRNN(mode, 100, num_layers=2, bidirectional=bidirectional, dropout=0.5, prefix="test_")
    cells = fused.unfuse()
    assert [type(c) for c in cells][1::2] == [DropoutCell]
    assert shapes(unrolled(cells)) == [(10, 200 if bidirectional else 100)] * 3
    outputs, states = fused.unroll(3, [Input((10, 50), name=f"t{i}") for i in range(3)], merge_outputs=False)
    assert [y.shape for y in outputs] == [(10, 200 if bidirectional else 100)] * 3
    assert states == []
    assert set(fused.weights) == {f"test_{d}{i}_{n}_{k}" for d in "lr"[: 1 + bidirectional] for i in range(2)
                                  for n in ("i2h", "h2h") for k in ("weight", "bias")}


@pytest.mark.parametrize("make", [lambda: SequentialCell([LSTMCell(5), GRUCell(4)]),
                                  lambda: BidirectionalCell(LSTMCell(5), GRUCell(4)), lambda: LSTMCell(5)])
def test_unroll_layout(make: Callable[[], Cell]) -> None:
    """test_gluon_rnn.py test_unroll_layout: both layouts, merged and not, give the same numbers."""
    x = np.random.default_rng(0).standard_normal((3, 6, 4)).astype(np.float32)
    found: list[Array] = []
    for layout in ("NTC", "TNC"):
        for merge in (True, False, None):
            given = Input((3, 6, 4) if layout == "NTC" else (6, 3, 4))
            outputs, _ = make().unroll(6, given, layout=layout, merge_outputs=merge)
            got = rg.compile(Model(given, outputs))(x if layout == "NTC" else x.transpose(1, 0, 2))
            axis = layout.index("T")
            whole = np.stack(list(got), axis) if merge is False else np.asarray(got)
            found.append(whole if layout == "NTC" else whole.transpose(1, 0, 2))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=0, atol=TOLERANCE)


def test_steps_by_hand_are_the_unrolled_loop() -> None:
    cell = SequentialCell([LSTMCell(5), ResidualCell(GRUCell(5))])
    x = Input(("batch", 4, 3))
    states = cell.begin_state()
    ys = []
    for t in range(4):
        y, states = cell(x[:, t], states)
        ys.append(y)
    outputs, finals = cell.unroll(4, x)
    model = Model(x, [*ys, *states, outputs, *finals])
    got = rg.compile(model)(np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32))
    np.testing.assert_allclose(np.stack(list(got[:4]), 1), got[7], rtol=0, atol=TOLERANCE)
    for a, b in zip(got[4:7], got[8:], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)
    assert len([n for n in model.weights if n.endswith("recurrent_kernel")]) == 2  # a cell has its weights once


def test_valid_length() -> None:
    """test_gluon_rnn.py test_rnn_unroll_variant_length: each row as a sequence of its own, zeros behind it."""
    lengths = [2, 6, 1]
    x = np.random.default_rng(1).standard_normal((3, 6, 4)).astype(np.float32)
    cell = BidirectionalCell(LSTMCell(5), GRUCell(3))
    given, valid = Input((3, 6, 4)), Input((3,), "i32", name="valid")
    outputs, states = cell.unroll(6, given, valid_length=valid)
    model = Model([given, valid], [outputs, *states])
    got, *finals = rg.compile(model)(x, np.array(lengths, np.int32))
    for row, n in enumerate(lengths):
        short = Input((1, n, 4))
        one = Model(short, [*(r := cell.unroll(n, short))[1], r[0]])
        *states_alone, alone = rg.compile(one)(x[row : row + 1, :n])
        np.testing.assert_allclose(got[row, :n], alone[0], rtol=0, atol=TOLERANCE)
        assert not got[row, n:].any()
        for a, b in zip(finals, states_alone, strict=True):
            np.testing.assert_allclose(a[row], b[0], rtol=0, atol=TOLERANCE)


def test_masks_of_a_variational_cell_hold_until_reset() -> None:
    cell = VariationalDropoutCell(SimpleRNNCell(40, use_bias=False), drop_outputs=0.5)
    x = Input(("batch", 3))
    first, states = cell(x, cell.begin_state())
    second, _ = cell(x, states)
    cell.reset()
    third, _ = cell(x, cell.begin_state())
    model = Model(x, [first, second, third])
    a, b, c = (y == 0 for y in rg.compile(model, training=True)(np.ones((2, 3), np.float32)))
    assert (a == b).all()
    assert (a != c).any()
    assert 0.25 < a.mean() < 0.75
