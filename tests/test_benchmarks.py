"""The table of cells that the benchmark measures is whole, its flops are those of the matmuls, and it runs."""

from __future__ import annotations

import pytest

from benchmarks.cell_table import LEFT_OUT, REASONS, TABLE
from benchmarks.cells import contestant, main
from rnngraph import nn


def test_every_cell_is_in_the_table_or_left_out_with_a_reason() -> None:
    made = {type(entry.make(32)).__name__ for entry in TABLE.values()}
    known = {name for name in nn.cells.__all__ if isinstance(getattr(nn.cells, name), type)}
    assert known - made == set(LEFT_OUT)
    assert set(REASONS) <= set(TABLE)


@pytest.mark.parametrize(("name", "per_step"), [
    ("LSTM", 2 * (16 + 16) * 4 * 16),
    ("minimal gated unit (user)", 2 * (16 + 16) * 2 * 16),
    ("IndRNN", 2 * 16 * 16),
    ("SRU", 2 * 16 * 4 * 16),
    ("GLSTM, 4 groups", 2 * 4 * (4 + 4) * 16),
    ("Phased LSTM", 2 * (16 + 16) * 4 * 16),
    # The first window has no frequency to see, every other one a quarter of the input, m_t and m_f.
    ("TimeFreqLSTM, 4 windows", 2 * 16 * (8 + 3 * 12)),
])
def test_flops_are_those_of_the_matmuls(name: str, per_step: int) -> None:
    for batch in (1, 16):  # at 16 rows the projections stay in the loop
        made = contestant(TABLE[name], 16, batch, 5, 1)
        assert made.backend == "llvm"
        assert made.work.flops == per_step * batch * 5


def test_weights_count_once() -> None:
    assert contestant(TABLE["LSTM"], 16, 1, 5, 1).work.weight_bytes == 4 * (16 + 16) * 4 * 16


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--hidden", "8", "--steps", "3", "--batch", "2", "--threads", "1", "--rounds", "1",
                 "--only", "IndRNN"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["H=8,", "cell", "LSTM", "IndRNN"]
    assert "llvm" in lines[2]
