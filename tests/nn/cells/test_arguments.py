"""Arguments, sizes and first weights of the cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rnngraph import nn
from rnngraph.errors import ShapeError, TraceError
from tests.nn.cells.harness import Array

WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: nn.UGRNNCell(0), "cell UGRNNCell: units must be an int >= 1, got 0"),
    (lambda: nn.UGRNNCell(True), "cell UGRNNCell: units must be an int >= 1, got True"),
    (lambda: nn.UGRNNCell(4, forget_bias=float("nan")), "cell UGRNNCell: forget_bias must be a finite number, got nan"),
    (lambda: nn.UGRNNCell(4, activation="nope"), "cell UGRNNCell: activation: unknown activation 'nope'"),
    (lambda: nn.UGRNNCell(4, activation=3),  # type: ignore[arg-type]
     "cell UGRNNCell: activation must be a function or the name of an activation, got 3"),
    (lambda: nn.UGRNNCell(4, "nope"), "cell UGRNNCell: initializer: unknown initializer 'nope'"),
    (lambda: nn.UGRNNCell(4, 3),  # type: ignore[arg-type]
     "cell UGRNNCell: initializer must be an initializer or the name of one, got 3"),
    (lambda: nn.NASCell(4, num_proj=0), "cell NASCell: num_proj must be an int >= 1, got 0"),
    (lambda: nn.NASCell(4, use_bias=1), "cell NASCell: use_bias must be True or False, got 1"),  # type: ignore[arg-type]
    (lambda: nn.IntersectionRNNCell(4, num_in_proj=5),
     "cell IntersectionRNNCell: num_in_proj must be None or units = 4, got 5"),
    (lambda: nn.PhasedLSTMCell(4, leak=1.5), "cell PhasedLSTMCell: leak must be a number in 0..1, got 1.5"),
    (lambda: nn.PhasedLSTMCell(4, ratio_on=-0.1), "cell PhasedLSTMCell: ratio_on must be a number in 0..1, got -0.1"),
    (lambda: nn.PhasedLSTMCell(4, period_init_min=0.0),
     "cell PhasedLSTMCell: period_init_min must be a finite number above 0, got 0.0"),
    (lambda: nn.PhasedLSTMCell(4, period_init_min=5.0, period_init_max=2.0),
     "cell PhasedLSTMCell: period_init_max must be at least period_init_min = 5.0, got 2.0"),
    (lambda: nn.GLSTMCell(10, number_of_groups=3),
     "cell GLSTMCell: units must be a multiple of number_of_groups = 3, got 10"),
    (lambda: nn.GLSTMCell(9, number_of_groups=3, num_proj=4),
     "cell GLSTMCell: num_proj must be a multiple of number_of_groups = 3, got 4"),
    (lambda: nn.TimeFreqLSTMCell(4), "cell TimeFreqLSTMCell: feature_size must be an int >= 1, got None"),
    (lambda: nn.TimeFreqLSTMCell(4, cell_clip=-1.0, feature_size=2),
     "cell TimeFreqLSTMCell: cell_clip must be a finite number above 0, got -1.0"),
    (lambda: nn.StackedCells([nn.TimeFreqLSTMCell(4, feature_size=2)]).state_size,
     "cell TimeFreqLSTMCell: the number of windows, and so of states, follows from the input, which is not known yet; "
     "give num_frequency_blocks="),
    (lambda: nn.GridLSTMCell(4, feature_size=2, frequency_skip=1),
     "cell GridLSTMCell: num_frequency_blocks must be a list of ints >= 1, got None"),
    (lambda: nn.GridLSTMCell(4, feature_size=2, frequency_skip=1, num_frequency_blocks=[2, 0]),
     "cell GridLSTMCell: num_frequency_blocks[1] must be an int >= 1, got 0"),
    (lambda: nn.GridLSTMCell(4, feature_size=2, frequency_skip=1, num_frequency_blocks=[2, 3]),
     "cell GridLSTMCell: num_frequency_blocks must have one number where there is no start_freqindex_list and "
     "end_freqindex_list, got [2, 3]"),
    (lambda: nn.GridLSTMCell(4, feature_size=2, frequency_skip=1, num_frequency_blocks=[2], start_freqindex_list=[0]),
     "cell GridLSTMCell: end_freqindex_list must be a list of ints >= 1, got None"),
    (lambda: nn.GridLSTMCell(4, feature_size=2, frequency_skip=1, num_frequency_blocks=[2],
                             start_freqindex_list=[0, 4], end_freqindex_list=[3, 6]),
     "cell GridLSTMCell: start_freqindex_list must have 1 numbers, one for each of num_frequency_blocks, got [0, 4]"),
    (lambda: nn.GridLSTMCell(4, feature_size=2, frequency_skip=1, num_frequency_blocks=[2],
                             start_freqindex_list=[0], end_freqindex_list=[5]),
     "cell GridLSTMCell: expected num_frequency_blocks[0] = 4 for the 5 features of block 0 in windows of 2 every 1, "
     "got 2"),
    (lambda: nn.BidirectionalGridLSTMCell(4, feature_size=2, frequency_skip=1, num_frequency_blocks=[2],
                                          backward_slice_offset=0.5),  # type: ignore[arg-type]
     "cell BidirectionalGridLSTMCell: backward_slice_offset must be an int, got 0.5"),
    (lambda: nn.ESNCell(4, connectivity=2.0), "cell ESNCell: connectivity must be a number in 0..1, got 2.0"),
    (lambda: nn.ESNCell(4, leaky=-1.0), "cell ESNCell: leaky must be a number in 0..1, got -1.0"),
    (lambda: nn.EchoStateCell(4, spectral_radius=-1.0),
     "cell EchoStateCell: spectral_radius must be a number in 0..inf, got -1.0"),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((ShapeError, TraceError)) as caught:
        make()
    assert str(caught.value).startswith(message)


SIZES: list[tuple[nn.Cell, int, str]] = [
    (nn.IntersectionRNNCell(4), 3, "cell IntersectionRNNCell: expected 4 input features, as many as units, got 3; give "
                                   "num_in_proj=4 to project the input"),
    (nn.PhasedLSTMCell(4), 1, "cell PhasedLSTMCell: expected an input of the time and at least one feature, got 1 "
                              "features"),
    (nn.GLSTMCell(4, number_of_groups=2), 3, "cell GLSTMCell: the input's features must be a multiple of "
                                             "number_of_groups = 2, got 3"),
    (nn.TimeFreqLSTMCell(4, feature_size=5), 3, "cell TimeFreqLSTMCell: expected feature_size <= the 3 features of the "
                                                "input, got 5"),
    (nn.TimeFreqLSTMCell(4, feature_size=2, num_frequency_blocks=3), 3,
     "cell TimeFreqLSTMCell: expected num_frequency_blocks = 2 for 3 features in windows of 2 every 1, got 3"),
    (nn.GridLSTMCell(4, feature_size=2, frequency_skip=1, num_frequency_blocks=[3]), 3,
     "cell GridLSTMCell: expected num_frequency_blocks[0] = 2 for the 3 features of the input in windows of 2 every 1, "
     "got 3"),
    (nn.GridLSTMCell(4, feature_size=2, frequency_skip=1, num_frequency_blocks=[2], start_freqindex_list=[2],
                     end_freqindex_list=[5]), 4,
     "cell GridLSTMCell: expected end_freqindex_list within the 4 features of the input, got [5]"),
]


@pytest.mark.parametrize(("cell", "features", "message"), SIZES, ids=[m for _, _, m in SIZES])
def test_wrong_inputs(cell: nn.Cell, features: int, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        nn.trace(nn.RNN(cell, name="mine"), nn.Input(("batch", "time", features)))
    assert str(caught.value).removeprefix("layer 'mine': ") == message


def weights(cell: nn.Cell, features: int) -> dict[str, Array]:
    layer = nn.RNN(cell, name="mine")
    layer.build((None, None, features))
    return layer.weights


def test_first_periods_phases_and_ratios() -> None:
    w = weights(nn.PhasedLSTMCell(500, ratio_on=0.3, period_init_min=2.0, period_init_max=50.0), 3)
    assert 2.0 <= w["period"].min() < 2.5
    assert 40.0 < w["period"].max() <= 50.0
    assert abs(np.log(w["period"]).mean() - np.log([2.0, 50.0]).mean()) < 0.15  # uniform logarithms
    assert (w["phase"] >= 0.0).all()
    assert (w["phase"] <= w["period"]).all()
    assert abs((w["phase"] / w["period"]).mean() - 0.5) < 0.05
    assert (w["ratio_on"] == np.float32(0.3)).all()


def test_a_reservoir_has_the_spectral_radius_and_the_connectivity() -> None:
    r = weights(nn.ESNCell(200, connectivity=0.25, spectral_radius=0.8), 3)["recurrent_kernel"]
    assert abs(np.abs(np.linalg.eigvals(r.astype(np.float64))).max() - 0.8) < 1e-5
    assert 0.22 < (r != 0).mean() < 0.28
    plain = weights(nn.EchoStateCell(50, spectral_radius=1.1, input_scaling=0.2), 3)
    assert abs(np.abs(np.linalg.eigvals(plain["recurrent_kernel"].astype(np.float64))).max() - 1.1) < 1e-5
    assert (plain["recurrent_kernel"] != 0).all()
    assert 0.15 < np.abs(plain["kernel"]).max() <= 0.2


def test_a_reservoir_scaled_by_its_norm() -> None:
    r = weights(nn.ESNCell(60, use_norm2=True, spectral_radius=0.8), 3)["recurrent_kernel"].astype(np.float64)
    assert abs(np.sqrt((r * r).sum()) - 0.8) < 1e-5


def test_a_reservoir_without_connections_is_zero() -> None:
    assert not weights(nn.ESNCell(5, connectivity=0.0), 3)["recurrent_kernel"].any()


def test_first_biases() -> None:
    indy = weights(nn.IndyGRUCell(4), 3)
    assert (indy["gate_bias"] == 1.0).all()
    assert (indy["candidate_bias"] == 0.0).all()
    assert weights(nn.SRUv2Cell(4, highway_bias=-2.0), 4)["bias"].tolist() == [0.0] * 4 + [-2.0] * 4
    mgu = weights(nn.MGUCell(4), 3)
    assert (mgu["forget_bias"] == 1.0).all()
    assert not mgu["activation_bias"].any()
