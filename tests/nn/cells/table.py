"""The cells of rnngraph.nn outside of the LSTM and GRU families, each with its reference and its options."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from rnngraph import nn
from tests.nn.cells import frequency_references as frequency
from tests.nn.cells import references as by_hand
from tests.nn.cells.harness import Array, Case
from tests.nn.cells.references import relu


def times(rng: np.random.Generator, batch: int, steps: int) -> Array:
    """Irregular moments, ascending in each row."""
    return np.cumsum(rng.uniform(0.05, 0.9, (batch, steps)), axis=1)


def late(rng: np.random.Generator, batch: int, steps: int) -> Array:
    """Moments after thousands of periods."""
    return times(rng, batch, steps) + rng.uniform(0.0, 5e4, (batch, 1))


def phased(units: int = 13, features: int = 7, scale: float = 0.5,
           first: Callable[[np.random.Generator, int, int], Array] = times, **options: Any) -> Case:
    drawn = {
        "period": lambda rng, shape: np.exp(rng.uniform(np.log(1.5), np.log(12.0), shape)),
        "phase": lambda rng, shape: rng.uniform(0.0, 1.5, shape),
        "ratio_on": lambda rng, shape: rng.uniform(0.2, 0.9, shape),
    }
    leak = options.get("leak", 0.001)
    return Case(lambda: nn.PhasedLSTMCell(units, **options), features, partial(by_hand.phased_lstm, leak=leak), first,
                drawn, scale)


def grid(features: int, size: int, skip: int, blocks: list[int], starts: list[int] | None = None,
         ends: list[int] | None = None, coupled: bool = False, cell_clip: float | None = None, forget_bias: float = 1.0,
         backward: int | None = None, **options: Any) -> Case:
    def make() -> nn.Cell:
        cell: Any = nn.GridLSTMCell if backward is None else nn.BidirectionalGridLSTMCell
        more = {} if backward is None else {"backward_slice_offset": backward}
        made: nn.Cell = cell(5, feature_size=size, frequency_skip=skip, num_frequency_blocks=blocks,
                             start_freqindex_list=starts, end_freqindex_list=ends, couple_input_forget_gates=coupled,
                             cell_clip=cell_clip, forget_bias=forget_bias, **options, **more)
        return made

    return Case(make, features, partial(frequency.grid, size=size, skip=skip, blocks=blocks, starts=starts,
                                        coupled=coupled, cell_clip=cell_clip, forget_bias=forget_bias,
                                        backward=backward))


CASES: dict[str, Case] = {
    "UGRNN": Case(lambda: nn.UGRNNCell(19), 6, by_hand.ugrnn),
    "UGRNN, relu, no forget bias": Case(lambda: nn.UGRNNCell(8, forget_bias=0.0, activation="relu"), 6,
                                        partial(by_hand.ugrnn, forget_bias=0.0, act=relu)),
    "NAS": Case(lambda: nn.NASCell(12), 6, by_hand.nas),
    "NAS, projection and bias": Case(lambda: nn.NASCell(17, num_proj=5, use_bias=True), 6, by_hand.nas),
    "Intersection": Case(lambda: nn.IntersectionRNNCell(9), 9, by_hand.intersection),
    "Intersection, input projection": Case(
        lambda: nn.IntersectionRNNCell(18, num_in_proj=18, forget_bias=0.5, y_activation="tanh"), 6,
        partial(by_hand.intersection, forget_bias=0.5, act=np.tanh)),
    "Phased LSTM": phased(),
    "Phased LSTM, peepholes": phased(use_peepholes=True, leak=0.05),
    "Phased LSTM, late": phased(first=late),
    "GLSTM, one group": Case(lambda: nn.GLSTMCell(10), 6, partial(by_hand.group_lstm, groups=1)),
    "GLSTM": Case(lambda: nn.GLSTMCell(20, number_of_groups=4), 8, partial(by_hand.group_lstm, groups=4)),
    "GLSTM, projection": Case(
        lambda: nn.GLSTMCell(18, num_proj=6, number_of_groups=3, forget_bias=0.0, activation="relu"), 6,
        partial(by_hand.group_lstm, groups=3, forget_bias=0.0, act=relu)),
    "SRU": Case(lambda: nn.SRUCell(21), 6, by_hand.sru),
    "SRU, relu": Case(lambda: nn.SRUCell(21, activation="relu"), 6, partial(by_hand.sru, act=relu)),
    "SRU v2": Case(lambda: nn.SRUv2Cell(6, highway_scale=1.5), 6, partial(by_hand.sru_v2, scale=1.5)),
    "SRU v2, projected highway": Case(lambda: nn.SRUv2Cell(11, activation="tanh", use_bias=False), 6,
                                      partial(by_hand.sru_v2, act=np.tanh)),
    "IndRNN": Case(lambda: nn.IndRNNCell(40), 6, by_hand.ind_rnn),
    "IndRNN, relu, no bias": Case(lambda: nn.IndRNNCell(7, activation="relu", use_bias=False), 6,
                                  partial(by_hand.ind_rnn, act=relu)),
    "IndyLSTM": Case(lambda: nn.IndyLSTMCell(17), 6, by_hand.indy_lstm),
    "IndyLSTM, relu, no forget bias": Case(lambda: nn.IndyLSTMCell(9, forget_bias=0.0, activation="relu"), 6,
                                           partial(by_hand.indy_lstm, forget_bias=0.0, act=relu), scale=0.4),
    "IndyGRU": Case(lambda: nn.IndyGRUCell(17), 6, by_hand.indy_gru),
    "minimal gated unit": Case(lambda: nn.MinimalGatedUnitCell(21), 6, by_hand.zhou_mgu),
    "minimal gated unit, no bias": Case(
        lambda: nn.MinimalGatedUnitCell(16, activation="relu", use_bias=False), 6,
        partial(by_hand.zhou_mgu, act=relu), scale=0.3),
    "MGU of flax": Case(lambda: nn.MGUCell(15), 6, by_hand.flax_mgu),
    "MGU of flax, no reset gate": Case(lambda: nn.MGUCell(15, reset_gate=False), 6,
                                       partial(by_hand.flax_mgu, reset_gate=False)),
    "MinimalRNN": Case(lambda: nn.MinimalRNNCell(14), 6, by_hand.minimal_rnn),
    "CFN": Case(lambda: nn.CFNCell(14), 6, by_hand.cfn),
    "ESN": Case(lambda: nn.ESNCell(24), 6, by_hand.echo_state, scale=0.3),
    "ESN, leaky, no bias": Case(lambda: nn.ESNCell(24, leaky=0.3, use_bias=False, activation="relu"), 6,
                                partial(by_hand.echo_state, leaky=0.3, act=relu), scale=0.2),
    "plain echo state": Case(lambda: nn.EchoStateCell(24), 6, by_hand.echo_state, scale=0.3),
    "TimeFreqLSTM": Case(lambda: nn.TimeFreqLSTMCell(9, feature_size=4, frequency_skip=2), 11,
                         partial(frequency.time_freq, size=4, skip=2)),
    "TimeFreqLSTM, peepholes, clip": Case(
        lambda: nn.TimeFreqLSTMCell(7, use_peepholes=True, cell_clip=0.4, feature_size=3, forget_bias=0.0), 5,
        partial(frequency.time_freq, size=3, skip=1, cell_clip=0.4, forget_bias=0.0)),
    "GridLSTM": grid(10, 4, 3, [3]),
    "GridLSTM, shared": grid(10, 4, 3, [3], share_time_frequency_weights=True, forget_bias=0.0),
    "GridLSTM, coupled": grid(9, 4, 2, [3], coupled=True),
    "GridLSTM, peepholes, clip": grid(8, 4, 2, [3], use_peepholes=True, cell_clip=0.3),
    "GridLSTM, shared, coupled, peepholes": grid(8, 4, 4, [2], use_peepholes=True, coupled=True,
                                                 share_time_frequency_weights=True),
    "GridLSTM, blocks": grid(12, 3, 2, [2, 3], [0, 4], [5, 12]),
    "BidirectionalGridLSTM": grid(10, 4, 3, [3], backward=0),
    "BidirectionalGridLSTM, ahead": grid(10, 4, 3, [3], backward=2, use_peepholes=True),
    "BidirectionalGridLSTM, behind, blocks": grid(12, 3, 2, [2, 3], [0, 4], [5, 12], backward=-4, coupled=True),
}
