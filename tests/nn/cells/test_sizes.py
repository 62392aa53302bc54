"""Widths around the vector's, batches around the microkernel's: the cells at every kind of tail."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from rnngraph import nn
from tests.nn.cells import frequency_references as frequency
from tests.nn.cells import references as by_hand
from tests.nn.cells.harness import Case, Step, assert_close, compiled, over_time
from tests.nn.cells.table import phased

RUNS = [(1, 9, [9]), (7, 5, [5, 0, 3, 5, 1, 4, 5]), (33, 2, [2] * 33)]


def scaled(make: Callable[[int], nn.Cell], units: int, features: int, reference: Callable[..., Step]) -> Case:
    """Weights that keep the sums of any width near 1."""
    return Case(lambda: make(units), features, reference, scale=0.7 / np.sqrt(units))


SIZED: dict[str, Callable[[int], Case]] = {
    "UGRNN": lambda u: scaled(nn.UGRNNCell, u, u + 3, by_hand.ugrnn),
    "NAS": lambda u: scaled(nn.NASCell, u, u + 1, by_hand.nas),
    "Intersection": lambda u: scaled(nn.IntersectionRNNCell, u, u, by_hand.intersection),
    "Phased LSTM": lambda u: phased(units=u, features=u + 1, scale=0.7 / np.sqrt(u)),
    "GLSTM": lambda u: scaled(lambda n: nn.GLSTMCell(3 * n, number_of_groups=3), u, 6,
                              partial(by_hand.group_lstm, groups=3)),
    "SRU": lambda u: scaled(nn.SRUCell, u, u + 2, by_hand.sru),
    "SRU v2": lambda u: scaled(nn.SRUv2Cell, u, u, by_hand.sru_v2),
    "IndyLSTM": lambda u: scaled(nn.IndyLSTMCell, u, 5, by_hand.indy_lstm),
    "IndyGRU": lambda u: scaled(nn.IndyGRUCell, u, 5, by_hand.indy_gru),
    "minimal gated unit": lambda u: scaled(nn.MinimalGatedUnitCell, u, u + 3, by_hand.zhou_mgu),
    "MinimalRNN": lambda u: scaled(nn.MinimalRNNCell, u, 7, by_hand.minimal_rnn),
    "ESN": lambda u: scaled(lambda n: nn.ESNCell(n, leaky=0.4), u, 7, partial(by_hand.echo_state, leaky=0.4)),
    "TimeFreqLSTM": lambda u: scaled(lambda n: nn.TimeFreqLSTMCell(n, feature_size=5, frequency_skip=3), u, 12,
                                     partial(frequency.time_freq, size=5, skip=3)),
    "GridLSTM": lambda u: scaled(
        lambda n: nn.GridLSTMCell(n, use_peepholes=True, feature_size=5, frequency_skip=4, num_frequency_blocks=[2]),
        u, 9, partial(frequency.grid, size=5, skip=4, blocks=[2])),
}


def check(case: Case) -> None:
    layer = case.layer()
    model = compiled(layer, case.features, lengths=True, verify=None)
    step = case.reference(layer.weights)
    for batch, steps, lengths in RUNS:
        x, zero = case.input(batch, steps), {n: np.zeros_like(s) for n, s in case.states(layer, batch).items()}
        got = model.run({"x": x, "lengths": np.array(lengths, np.int32)})
        y, finals = over_time(step, x, zero, lengths)
        assert_close(got["y"], y, tolerance=1e-5)
        for state, final in finals.items():
            assert_close(got[f"mine.{state}"], final, tolerance=1e-5)


@pytest.mark.parametrize("units", [1, 33])
@pytest.mark.parametrize("name", SIZED)
def test_one_unit_and_a_tail(name: str, units: int) -> None:
    check(SIZED[name](units))


@pytest.mark.slow
@pytest.mark.parametrize("units", [2, 7, 8, 15, 16, 17, 31, 64, 97, 128, 130])
@pytest.mark.parametrize("name", SIZED)
def test_widths(name: str, units: int) -> None:
    check(SIZED[name](units))
