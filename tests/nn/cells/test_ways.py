"""One cell of each family both ways, backwards to the last output, unrolled, and in a stack; all of it native."""

from __future__ import annotations

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.nn import RNN, Bidirectional, GLSTMCell, GridLSTMCell, LSTMCell, SRUCell, TimeFreqLSTMCell, UGRNNCell
from rnngraph.nn.cell import States
from tests.nn.cells.harness import Array, assert_close, assert_native, compiled, over_time
from tests.nn.cells.table import CASES

LENGTHS = [9, 0, 4, 9, 1]
FAMILIES = [name for name in CASES if "," not in name or name == "BidirectionalGridLSTM, ahead"]


@pytest.mark.parametrize("name", FAMILIES)
def test_both_ways_with_lengths(name: str) -> None:
    case = CASES[name]
    layer = Bidirectional(case.layer(), name="both")
    case.fill(layer)
    x = case.input(5, 9)
    got = compiled(layer, case.features, lengths=True, verify=None).run({"x": x, "lengths": np.array(LENGTHS)})
    outputs: list[Array] = []
    for way in ("forward", "backward"):
        own = {n.removeprefix(f"{way}/"): w for n, w in layer.weights.items() if n.startswith(way)}
        zero = {n: np.zeros_like(s) for n, s in case.states(getattr(layer, way), 5).items()}
        y, finals = over_time(case.reference(own), x, zero, LENGTHS, backwards=way == "backward")
        outputs.append(y)
        for state, final in finals.items():
            assert_close(got[f"both/{way}.{state}"], final, tolerance=1e-5)
    assert_close(got["y"], np.concatenate(outputs, axis=2), tolerance=1e-5)


@pytest.mark.parametrize(("name", "how"), [
    *((n, "go_backwards") for n in ("UGRNN", "Phased LSTM", "GLSTM", "SRU", "GridLSTM")),
    *((n, "unroll") for n in ("Phased LSTM", "GLSTM", "IndyGRU", "GridLSTM"))])
def test_last_output(name: str, how: str) -> None:
    case, backwards = CASES[name], how == "go_backwards"
    layer = case.layer(steps=4, return_sequences=False, return_state=False, **{how: True})
    x = case.input(3, 4)
    zero = {n: np.zeros_like(s) for n, s in case.states(layer, 3).items()}
    y, _ = over_time(case.reference(layer.weights), x, zero, backwards=backwards)
    got = compiled(layer, case.features, 4, verify=None).run({"x": x})["y"]
    assert_close(got, y[:, 0 if backwards else -1], tolerance=1e-5)


@pytest.mark.parametrize("name", ["Phased LSTM", "GLSTM, projection", "SRU", "NAS", "GridLSTM", "TimeFreqLSTM"])
def test_no_rows_no_steps_and_a_row_of_nan(name: str) -> None:
    case = CASES[name]
    layer = case.layer()
    model = compiled(layer, case.features, initial_state=True, verify=None)
    for batch, steps in ((0, 3), (2, 0)):
        states = {f"mine.{n}0": s for n, s in case.states(layer, batch).items()}
        got = model.run({"x": case.input(batch, steps), **{n: s for n, s in states.items()}})
        assert got["y"].shape == (batch, steps, layer.cell.output_size)
        for n, s in states.items():
            np.testing.assert_array_equal(got[n[:-1]], s)
    x, states = case.input(3, 4), {f"mine.{n}0": s for n, s in case.states(layer, 3).items()}
    clean = model.run({"x": x, **states})["y"]
    x[1] = np.nan
    got = model.run({"x": x, **states})["y"]
    assert np.isnan(got[1]).all()
    np.testing.assert_array_equal(got[[0, 2]], clean[[0, 2]])


def test_in_a_stack_of_cells() -> None:
    cells = [TimeFreqLSTMCell(4, feature_size=4, frequency_skip=2, num_frequency_blocks=3), UGRNNCell(6),
             GLSTMCell(8, number_of_groups=2), SRUCell(5), LSTMCell(7),
             GridLSTMCell(3, feature_size=3, frequency_skip=2, num_frequency_blocks=[3])]
    model = rg.compile(RNN(cells, return_sequences=True), rg.Input(("batch", "time", 8)), target="cpu",
                       verify="numeric")
    assert_native(model.report)
    assert np.shape(model(np.ones((2, 5, 8), np.float32))) == (2, 5, 18)


def test_states_stand_in_the_order_in_which_they_are_named() -> None:
    cell = GridLSTMCell(3, feature_size=3, frequency_skip=2, num_frequency_blocks=[1, 2], start_freqindex_list=[0, 2],
                        end_freqindex_list=[4, 8])
    assert States.of(cell).names == ("state_f00_b00_c", "state_f00_b00_m", "state_f00_b01_c", "state_f00_b01_m",
                                     "state_f01_b01_c", "state_f01_b01_m")
