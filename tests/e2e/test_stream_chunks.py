"""Long sequences in chunks, their states carried from chunk to chunk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.data import chunks
from rnngraph.errors import InputError, StreamError
from rnngraph.ir import Array

RNG = np.random.default_rng(0)
LENGTHS = [23, 4, 1, 11, 0, 8, 30, 2]
SEQUENCES = [RNG.standard_normal((n, 5)).astype(np.float32) for n in LENGTHS]


@pytest.mark.parametrize("batch", [1, 3, 20])
@pytest.mark.parametrize("steps", [1, 4, 50])
def test_every_step_stands_in_one_chunk(batch: int, steps: int) -> None:
    found: list[list[Array]] = [[] for _ in SEQUENCES]
    open_rows: dict[int, int] = {}
    for c in chunks(SEQUENCES, batch, steps):
        assert c.x.shape == (batch, steps, 5)
        for b in range(batch):
            key, n = int(c.keys[b]), int(c.lengths[b])
            assert not c.x[b, n:].any()
            if key < 0:
                assert (n, c.starts[b], c.ends[b]) == (0, False, False)
                continue
            assert bool(c.starts[b]) == (key not in open_rows.values() and not found[key])
            assert open_rows.setdefault(b, key) == key
            found[key].append(c.x[b, :n])
            if c.ends[b]:
                del open_rows[b]
    for got, want in zip(found, SEQUENCES, strict=True):
        np.testing.assert_array_equal(np.concatenate(got), want)


def test_bad_chunks() -> None:
    for batch, steps in ((0, 1), (1, 0), (True, 1), (1, 1.5)):
        with pytest.raises(InputError, match="must be a number >= 1"):
            chunks(SEQUENCES, batch, steps)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sequence 1 has steps"):
        chunks([np.zeros((2, 3)), np.zeros((2, 4))], 1, 1)
    with pytest.raises(InputError, match="sequence 0"):
        chunks([np.float32(1.0)], 1, 1)  # type: ignore[list-item]
    with pytest.raises(InputError, match="expected a list of sequences, got int"):
        chunks(5, 1, 1)  # type: ignore[arg-type]
    assert list(chunks([], 2, 2)) == []


@pytest.mark.parametrize("layer", [
    lambda: nn.LSTM(8, return_sequences=True), lambda: nn.GRU(6, return_sequences=True, return_state=True),
    lambda: nn.Sequential([nn.GRU(6, return_sequences=True), nn.LSTM(4, zero_output_for_mask=True)])])
@pytest.mark.parametrize(("batch", "steps"), [(1, 7), (3, 5), (8, 64)])
def test_outputs_are_those_of_whole_sequences(layer: Any, batch: int, steps: int) -> None:
    model = rg.compile(layer(), rg.Input(("batch", "time", 5)))
    got = model.stream(batch, lengths=True).over(SEQUENCES, steps)
    assert len(got) == len(SEQUENCES)
    for outputs, x in zip(got, SEQUENCES, strict=True):
        want = model(x[None])
        for a, b in zip(listed(outputs), listed(want), strict=True):
            np.testing.assert_allclose(a, b[0], rtol=0.0, atol=1e-6)


def listed(outputs: Any) -> list[Array]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def test_time_major() -> None:
    model = rg.compile(nn.GRU(4, return_sequences=True, time_major=True), rg.Input(("time", "batch", 5)))
    for got, x in zip(model.stream(2, lengths=True).over(SEQUENCES, 6), SEQUENCES, strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(model(x[:, None]))[:, 0], rtol=0.0, atol=1e-6)


def test_what_over_needs() -> None:
    model = rg.compile(nn.GRU(4), rg.Input(("batch", "time", 5)))
    with pytest.raises(StreamError, match="lengths=True"):
        model.stream(2).over(SEQUENCES, 3)
    with pytest.raises(InputError, match="dtype float64"):
        model.stream(2, lengths=True).over([s.astype(np.float64) for s in SEQUENCES], 3)
    assert model.stream(2, lengths=True).over([], 3) == []
