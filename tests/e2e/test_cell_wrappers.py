"""Wrapped cells run as native loops; in training the same seed draws the same masks on every backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.ir import evaluate
from rnngraph.nn import (
    RNN,
    BidirectionalCell,
    Cell,
    DropConnectCell,
    DropoutCell,
    DropoutWrapper,
    GRUCell,
    HighwayCell,
    LSTMCell,
    ResidualCell,
    SequentialCell,
    SimpleRNNCell,
    VariationalDropoutCell,
    ZoneoutCell,
)
from rnngraph.report.numeric import deviation, random_inputs

I = 6  # noqa: E741
INPUTS = rg.Input(("batch", "time", I))
CELLS: dict[str, Callable[[], Cell]] = {
    "residual": lambda: ResidualCell(LSTMCell(I)),
    "highway": lambda: HighwayCell(GRUCell(I), couple_carry_transform_gates=False),
    "zoneout": lambda: ZoneoutCell(LSTMCell(11), 0.3, {"h": 0.2, "c": 0.1}),
    "expected zoneout": lambda: ZoneoutCell(LSTMCell(11), 0.3, 0.2, inference="expectation"),
    "dropout": lambda: DropoutWrapper(LSTMCell(11), 0.5, 0.6, 0.7),
    "variational, all rows": lambda: DropoutWrapper(LSTMCell(11), 0.5, 0.6, 0.7, variational_recurrent=True),
    "variational, each row": lambda: VariationalDropoutCell(LSTMCell(11), 0.5, 0.4, 0.3),
    "drop connect": lambda: DropConnectCell(GRUCell(11), 0.4),
    "both directions": lambda: DropoutWrapper(BidirectionalCell(LSTMCell(5), GRUCell(3)), 0.5, 0.5),
    "sequence": lambda: SequentialCell([
        LSTMCell(5), DropoutCell(0.5), BidirectionalCell(LSTMCell(3), GRUCell(2)),
        ResidualCell(BidirectionalCell(GRUCell(3), SimpleRNNCell(2)))]),
}


@pytest.mark.parametrize("how", [{}, {"lengths": True, "initial_state": True}], ids=["plain", "lengths-and-states"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("cell", CELLS)
def test_runs_native(cell: str, training: bool, how: dict[str, bool]) -> None:
    model = RNN(CELLS[cell](), return_sequences=True, return_state=True, name="mine")
    model.build((None, None, I))
    rng = np.random.default_rng(3)
    model.set_weights([np.asarray(0.4 * rng.standard_normal(w.shape), np.float32) for w in model.weights.values()])
    compiled = rg.compile(model, INPUTS, target="cpu", threads=2, training=training, seed=5)
    graph = rg.trace(model, INPUTS, training=training, seed=5, **how)
    program = compiled.variant(lengths=bool(how), initial_state=bool(how))
    by_reference = {op.name for op in program.graph.block.ops if op.impl.startswith("reference")}
    if not (training and cell == "drop connect"):  # weights that change from call to call are not packed
        assert by_reference <= ({"random_mask"} if training else set())
        assert any(op.impl == "llvm.scan" for op in program.graph.block.ops)
    for batch, steps in [(1, 1), (3, 9)]:
        inputs = random_inputs(graph, {"batch": batch, "time": steps}, seed=steps)
        want = evaluate(graph, inputs, float64=True)
        for name, got in compiled.run(inputs).items():
            error, scale = deviation(got, want[name])
            assert error <= 1e-5 * scale


def test_a_sequence_of_lstm_cells_is_one_node() -> None:
    model = RNN(SequentialCell([LSTMCell(8), DropoutCell(0.5), LSTMCell(8)]), return_sequences=True)
    remarks = [str(r) for p in rg.compile(model, INPUTS).report.passes for r in p.remarks]
    assert any("one rnn node of 2 layers" in r for r in remarks)
