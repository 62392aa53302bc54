"""Every cell of the table, with every option, runs native and computes its published equation."""

from __future__ import annotations

import numpy as np
import pytest

from tests.nn.cells.harness import assert_close, compiled, over_time
from tests.nn.cells.table import CASES

RUNS = [(1, 1, [1]), (1, 13, [13]), (5, 9, [9, 0, 4, 9, 1]), (17, 4, [4] * 17)]


@pytest.mark.parametrize("name", CASES)
def test_sequences_states_and_lengths(name: str) -> None:
    case = CASES[name]
    layer = case.layer()
    model = compiled(layer, case.features, lengths=True, initial_state=True)
    step = case.reference(layer.weights)
    assert layer.cell.output_size == step(case.input(1, 1)[:, 0], case.states(layer, 1))[0].shape[1]
    for batch, steps, lengths in RUNS:
        x, states = case.input(batch, steps), case.states(layer, batch)
        named = {f"mine.{n}{'_' if n[-1].isdigit() else ''}0": s for n, s in states.items()}
        got = model.run({"x": x, "lengths": np.array(lengths, np.int32), **named})
        y, finals = over_time(step, x, states, lengths)
        assert_close(got["y"], y, tolerance=1e-5)
        for state, final in finals.items():
            assert_close(got[f"mine.{state}"], final, tolerance=1e-5)
