"""Cells around cells: against numpy loops in float64, with the masks that the graph holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rnngraph.errors import ShapeError, TraceError
from rnngraph.ir import Graph, Interpreter
from rnngraph.ir.ops import RANDOM_MASK
from rnngraph.nn import (
    RNN,
    BidirectionalCell,
    Cell,
    CellWrapper,
    DropConnectCell,
    DropoutCell,
    DropoutWrapper,
    GRUCell,
    HighwayCell,
    Input,
    LSTMCell,
    ResidualCell,
    SequentialCell,
    SimpleRNNCell,
    VariationalDropoutCell,
    ZoneoutCell,
    trace,
)
from tests.nn.numpy_cells import Array, Step, gru, lstm, run, sigmoid, simple, wide
from tests.nn.support import B, I, T, X, checked, close, outputs, randomize, some

x = some(B, T, I)
LENGTHS = [2, 5, 0]
EXACT = 1e-12


def layer(cell: Cell, **options: Any) -> RNN:
    made = RNN(cell, **{"return_sequences": True, "return_state": True, "name": "r", **options})
    randomize(made)
    return made


def masks_of(graph: Graph) -> dict[str, Array]:
    """The dropout masks of a graph by the layer name of their ops."""
    run_ops = Interpreter({"batch": B, "time": T}, float64=True)
    found: dict[str, Array] = {}
    for op in graph.walk():
        if op.opdef is RANDOM_MASK:
            name = op.layer.removeprefix("r").removeprefix("/")
            assert name not in found
            run_ops.run_op(op)
            found[name] = run_ops.env[op.result]
    return found


def over_time(step: Callable[[int, Array, list[Array]], tuple[Array, list[Array]]], states: list[Array],
              ) -> tuple[Array, list[Array]]:
    """All rows at once, with the number of the step."""
    ys = []
    for t in range(T):
        y, states = step(t, x[:, t].astype(np.float64), states)
        ys.append(y)
    return np.stack(ys, 1), states


def trained(made: RNN) -> tuple[dict[str, Array], dict[str, Array]]:
    """The outputs in training, and the masks."""
    return outputs(made, {"x": x}, training=True, seed=3), masks_of(trace(made, X, training=True, seed=3))


def states(*sizes: int) -> list[Array]:
    return [np.zeros((B, n)) for n in sizes]


# --- residual, highway --------------------------------------------------------------------------------------------


def test_residual() -> None:
    made = layer(ResidualCell(LSTMCell(I)))
    assert list(made.weights) == ["kernel", "recurrent_kernel", "bias"]
    seq, (h, c) = run(lstm(made.weights), x, states(I, I), lengths=LENGTHS)
    got = outputs(made, {"x": x, "lengths": np.array(LENGTHS, np.int32)}, lengths=True)
    for b, n in enumerate(LENGTHS):
        close(got["y"][b, :n], seq[b, :n] + x[b, :n], EXACT)
        assert n == T or not np.ptp(got["y"][b, max(n - 1, 0) :], axis=0).any()  # the last one is repeated
    close(got["r.h"], h, EXACT)
    close(got["r.c"], c, EXACT)


def test_residual_fn_and_sizes_that_differ() -> None:
    made = layer(ResidualCell(SimpleRNNCell(3), residual_fn=lambda x, y: x[:, :3] * y))
    seq, _ = run(simple(made.weights), x, states(3))
    close(outputs(made, {"x": x})["y"], seq * x[..., :3], EXACT)
    with pytest.raises(ShapeError, match=r"layer 'r': .*ResidualCell.*one type.*residual_fn"):
        layer(ResidualCell(SimpleRNNCell(3)))


@pytest.mark.parametrize("coupled", [True, False])
def test_highway(coupled: bool) -> None:
    made = RNN(HighwayCell(GRUCell(I), coupled, carry_bias_init=2.0), return_sequences=True, name="r")
    made.build((None, None, I))
    assert (made.weights["carry_b"] == 2.0).all()
    assert coupled or (made.weights["transform_b"] == -2.0).all()
    randomize(made)
    w = wide({k: v for k, v in made.weights.items() if "cell/" not in k})
    seq, _ = run(gru({k: v for k, v in made.weights.items() if "cell/" in k}, True), x, states(I))
    carry = sigmoid(x @ w["carry_w"] + w["carry_b"])
    transform = 1.0 - carry if coupled else sigmoid(x @ w["transform_w"] + w["transform_b"])
    close(outputs(made, {"x": x})["y"], x * carry + seq * transform, EXACT)


def test_nested_highways_have_weights_of_their_own() -> None:
    made = layer(HighwayCell(HighwayCell(SimpleRNNCell(I))))
    assert [k for k in made.weights if "carry_w" in k] == ["carry_w", "cell/carry_w"]


# --- dropout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_wrapper(variational: bool) -> None:
    made = layer(DropoutWrapper(LSTMCell(5), 0.75, 0.5, 0.8, variational))
    got, masks = trained(made)
    assert sorted(masks) == [f"dropout_wrapper.{k}" for k in ("input", "output", "state.h")]  # and not state.c
    shapes = {k.split(".", 1)[1]: m.shape for k, m in masks.items()}
    assert shapes == ({"input": (I,), "output": (5,), "state.h": (5,)} if variational else
                      {"input": (T, B, I), "output": (T, B, 5), "state.h": (T, B, 5)})
    cell = lstm(made.weights)

    def at(kind: str, t: int) -> Array:
        mask = masks[f"dropout_wrapper.{kind}"]
        return mask if variational else mask[t]

    def step(t: int, xt: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        y, (h, c) = cell(xt * at("input", t), state)
        return y * at("output", t), [h * at("state.h", t), c]

    seq, (h, c) = over_time(step, states(5, 5))
    close(got["y"], seq, EXACT)
    close(got["r.h"], h, EXACT)
    close(got["r.c"], c, EXACT)


def test_dropout_state_filter() -> None:
    cell = DropoutWrapper(LSTMCell(5), state_keep_prob=0.5, dropout_state_filter=lambda name: name == "c")
    assert list(trained(layer(cell))[1]) == ["dropout_wrapper.state.c"]


def test_variational_dropout_cell() -> None:
    made = layer(VariationalDropoutCell(LSTMCell(5), 0.25, 0.5, 0.3))
    got, masks = trained(made)
    assert {k: m.shape for k, m in masks.items()} == {f"variational_dropout_cell.{k}": s for k, s in (
        ("input", (B, I)), ("state", (B, 5)), ("output", (B, 5)))}
    drop_in, drop_state, drop_out = masks.values()
    cell = lstm(made.weights)

    def step(t: int, xt: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        y, new = cell(xt * drop_in, [state[0] * drop_state, state[1]])
        return y * drop_out, new

    seq, (h, c) = over_time(step, states(5, 5))
    close(got["y"], seq, EXACT)
    close(got["r.h"], h, EXACT)
    close(got["r.c"], c, EXACT)


def test_masks_of_nested_and_sibling_wrappers_differ() -> None:
    def wrapped() -> Cell:
        return DropoutWrapper(DropoutWrapper(GRUCell(4), 0.5), 0.5)

    masks = trained(layer(SequentialCell([wrapped(), wrapped()])))[1]
    names = [f"{cell}/dropout_wrapper{n}.input" for cell in ("cell0", "cell1") for n in ("1", "")]
    assert list(masks) == names
    first, second = (masks[n] for n in names[:2])
    assert first.shape == second.shape
    assert (first != second).any()


@pytest.mark.parametrize("make", [lambda: DropoutWrapper(GRUCell(4), 0.5, 0.5, 0.5),
                                  lambda: ZoneoutCell(GRUCell(4), 0.5, 0.5),
                                  lambda: VariationalDropoutCell(GRUCell(4), 0.5, 0.5, 0.5)])
def test_inference_is_the_plain_cell(make: Callable[[], Cell]) -> None:
    made, plain = layer(make()), layer(GRUCell(4))
    assert not masks_of(checked(trace(made, X)))
    plain.set_weights(made.weights)
    close(outputs(made, {"x": x})["y"], outputs(plain, {"x": x})["y"], 0.0)


def test_seeds_make_masks() -> None:
    made = layer(DropoutWrapper(GRUCell(4), 0.5))
    by_seed = [masks_of(trace(made, X, training=True, seed=s))["dropout_wrapper.input"] for s in (1, 1, 2)]
    assert (by_seed[0] == by_seed[1]).all()
    assert (by_seed[0] != by_seed[2]).any()


@pytest.mark.parametrize("unroll", [False, True])
def test_drop_connect(unroll: bool) -> None:
    made = layer(DropConnectCell(LSTMCell(5, recurrent_dropout=0.25), 0.5, ["recurrent_kernel", "bias"]))
    made.unroll = unroll
    given = Input((B, T, I)) if unroll else X
    got = outputs(made, {"x": x}, given, training=True, seed=3)
    masks = masks_of(trace(made, given, training=True, seed=3))
    assert {k: m.shape for k, m in masks.items()} == {
        "": (B, 5), "drop_connect_cell.recurrent_kernel": (5, 20), "drop_connect_cell.bias": (20,)}
    w = wide(made.weights)
    dropped = {**w, **{n: w[n] * masks[f"drop_connect_cell.{n}"] for n in ("recurrent_kernel", "bias")}}
    cell = lstm(dropped)

    def step(t: int, xt: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        return cell(xt, [state[0] * masks[""], state[1]])

    seq, (h, c) = over_time(step, states(5, 5))
    close(got["y"], seq, EXACT)
    close(got["r.h"], h, EXACT)
    close(got["r.c"], c, EXACT)
    with pytest.raises(TraceError, match=r"GRUCell has the weights kernel, recurrent_kernel, bias, got \['w'\]"):
        layer(DropConnectCell(GRUCell(2), 0.5, ["w"]))


# --- zoneout ------------------------------------------------------------------------------------------------------


def test_zoneout() -> None:
    made = layer(ZoneoutCell(LSTMCell(5), 0.4, {"h": 0.3, "c": 0.6}))
    got, masks = trained(made)
    keep = {k.removeprefix("zoneout_cell."): m > 0 for k, m in masks.items()}
    cell = lstm(made.weights)

    def step(t: int, xt: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        h, c, before = state
        y, (new_h, new_c) = cell(xt, [h, c])
        y = np.where(keep["output"][t], y, before)
        return y, [np.where(keep["state.h"][t], new_h, h), np.where(keep["state.c"][t], new_c, c), y]

    seq, finals = over_time(step, states(5, 5, 5))
    close(got["y"], seq, EXACT)
    for name, final in zip(("h", "c", "prev_output"), finals, strict=True):
        close(got[f"r.{name}"], final, EXACT)


def test_zoneout_of_h_alone_as_an_expectation() -> None:
    """Haste: at inference h = zoneout * before + (1 - zoneout) * new."""
    made = layer(ZoneoutCell(LSTMCell(5), zoneout_states={"h": 0.25}, inference="expectation"))
    assert made.cell.states.names == ("h", "c")
    cell = lstm(made.weights)

    def step(t: int, xt: Array, state: list[Array]) -> tuple[Array, list[Array]]:
        y, (h, c) = cell(xt, state)
        return y, [0.25 * state[0] + 0.75 * h, c]

    seq, (h, c) = over_time(step, states(5, 5))
    got = outputs(made, {"x": x})
    close(got["y"], seq, EXACT)
    close(got["r.h"], h, EXACT)
    close(got["r.c"], c, EXACT)


def test_zoneout_keeps_about_its_rate() -> None:
    masks = masks_of(trace(layer(ZoneoutCell(GRUCell(200), zoneout_states=0.2)), X, training=True))
    kept = (masks["zoneout_cell.state.h"] == 0).mean()
    assert abs(kept - 0.2) < 0.03  # 3000 draws: four standard deviations


# --- sequences of cells, both directions --------------------------------------------------------------------------


def test_sequential_with_everything() -> None:
    made = layer(SequentialCell([
        GRUCell(4), DropoutCell(0.5), BidirectionalCell(LSTMCell(3), SimpleRNNCell(2)),
        ResidualCell(BidirectionalCell(GRUCell(3), GRUCell(2)))]))
    w = made.weights

    def part(prefix: str) -> dict[str, Array]:
        return {k: v for k, v in w.items() if k.startswith(prefix)}

    def both(inputs: Array, forward: Step, backward: Step, sizes: list[int], other: list[int]) -> Array:
        return np.concatenate([run(forward, inputs, states(*sizes), lengths=LENGTHS)[0],
                               run(backward, inputs, states(*other), lengths=LENGTHS, backwards=True)[0]], -1)

    lengths = {"lengths": np.array(LENGTHS, np.int32)}
    first, (h,) = run(gru(part("cell0"), True), x, states(4), lengths=LENGTHS)
    second = both(first, lstm(part("cell2/l")), simple(part("cell2/r")), [3, 3], [2])
    third = second + both(second, gru(part("cell3/l"), True), gru(part("cell3/r"), True), [3], [2])
    got = outputs(made, {"x": x, **lengths}, lengths=True)
    for b, n in enumerate(LENGTHS):
        close(got["y"][b, :n], third[b, :n], EXACT)
    close(got["r.cell0.h"], h, EXACT)
    assert [k for k in got if k != "y"] == [
        "r.cell0.h", "r.cell2.l.h", "r.cell2.l.c", "r.cell2.r.h", "r.cell3.l.h", "r.cell3.r.h"]


def test_dropout_cell_masks_the_sequence() -> None:
    made = layer(SequentialCell([GRUCell(4), DropoutCell(0.5)]))
    got, masks = trained(made)
    plain = outputs(made, {"x": x})["y"]
    close(got["y"], plain * masks["cell1/dropout.step"].transpose(1, 0, 2), EXACT)


def test_last_output_of_both_directions() -> None:
    made = layer(BidirectionalCell(GRUCell(3), GRUCell(2)), return_sequences=False)
    left, right = ({k: v for k, v in made.weights.items() if k[0] == side} for side in "lr")
    _, (forward,) = run(gru(left, True), x, states(3))
    _, (backward,) = run(gru(right, True), x, states(2), backwards=True)
    close(outputs(made, {"x": x})["y"], np.concatenate([forward, backward], -1), EXACT)


def test_variational_dropout_around_both_directions() -> None:
    made = layer(VariationalDropoutCell(BidirectionalCell(GRUCell(3), GRUCell(2)), 0.5, 0.0, 0.5))
    got, masks = trained(made)
    dropped = x * masks["variational_dropout_cell.input"][:, None]
    w = made.weights
    seq = np.concatenate([
        run(gru({k: v for k, v in w.items() if k[0] == "l"}, True), dropped, states(3))[0],
        run(gru({k: v for k, v in w.items() if k[0] == "r"}, True), dropped, states(2), backwards=True)[0]], -1)
    close(got["y"], seq * masks["variational_dropout_cell.output"][:, None], EXACT)


def test_unrolled_is_the_loop() -> None:
    cells = [GRUCell(4), ResidualCell(BidirectionalCell(GRUCell(2), GRUCell(2)))]
    made = layer(SequentialCell(cells))
    from_loop = outputs(made, {"x": x})["y"]
    made.unroll = True
    close(outputs(made, {"x": x}, Input((B, T, I)))["y"], from_loop, EXACT)


# --- errors -------------------------------------------------------------------------------------------------------


def wrong(value: Any) -> Any:
    """What type checking would not let through."""
    return value


def both_ways() -> Cell:
    return BidirectionalCell(GRUCell(2), GRUCell(2))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: ResidualCell(wrong(RNN(GRUCell(2)))), "ResidualCell: expected a cell to wrap"),
    (lambda: ZoneoutCell(both_ways(), 0.5), "ZoneoutCell: zoneout needs the single steps.*wrap the cells inside"),
    (lambda: ZoneoutCell(GRUCell(2), 1.5), "zoneout_outputs must be in 0..1, got 1.5"),
    (lambda: ZoneoutCell(GRUCell(2), 0.0, {"c": 0.5}), r"has the states h, got \['c'\]"),
    (lambda: ZoneoutCell(GRUCell(2), inference="mean"), "inference must be one of new, expectation"),
    (lambda: VariationalDropoutCell(both_ways(), 0.0, 0.5), "drop_states needs the single steps"),
    (lambda: DropoutWrapper(both_ways(), state_keep_prob=0.5), "state_keep_prob needs the single steps"),
    (lambda: DropoutWrapper(GRUCell(2), input_keep_prob=-1), "input_keep_prob must be in 0..1"),
    (lambda: DropoutCell(2.0), "rate must be in 0..1"),
    (lambda: BidirectionalCell(GRUCell(2), wrong(3)), "BidirectionalCell: expected two cells"),
    (lambda: SequentialCell([GRUCell(2), wrong("lstm")]), "expected a cell to add, got 'lstm'"),
])
def test_bad_arguments(make: Callable[[], Cell], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        make()


def test_one_cell_in_both_directions_is_refused() -> None:
    cell = GRUCell(2)
    with pytest.raises(TraceError, match="one cell twice"):
        BidirectionalCell(cell, cell)


def test_bad_uses() -> None:
    with pytest.raises(TraceError, match="SequentialCell: expected at least one cell"):
        layer(SequentialCell())
    used = SequentialCell([GRUCell(2)])
    layer(used)
    with pytest.raises(TraceError, match="before the first use"):
        used.add(GRUCell(2))
    with pytest.raises(TraceError, match=r"has no last output; use return_sequences=True"):
        layer(ResidualCell(BidirectionalCell(GRUCell(2), GRUCell(2))), return_sequences=False)

    class Doubled(CellWrapper):
        def step(self, x: Any, state: Any) -> Any:
            y, new = self.inner(x, state)
            return y + y, new

    with pytest.raises(TraceError, match="layer 'r': cell Doubled needs the single steps of its cell"):
        layer(Doubled(both_ways()))
