"""Every cell of the zoo in native code, on every kind of vector, against the float64 reference."""

from __future__ import annotations

import pytest

from tests.backends.llvm.helpers import TARGETS
from tests.backends.llvm.native import check, native
from tests.phases.cells import CELLS, graph

SIZES = [{"batch": b, "time": t} for b, t in ((1, 9), (3, 1), (33, 4), (2, 0))]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_on_a_target(kind: str, target: str) -> None:
    check(native(graph(kind, 11, 5), TARGETS[target]), SIZES, tolerance=3e-6)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("pad", ["zero", "repeat"])
def test_lengths(kind: str, pad: str) -> None:
    made = graph(kind, 17, 6, lengths=True, zero_output_for_mask=pad == "zero")
    assert pad in {op.attrs.pad for op in made.walk() if op.name == "scan"}  # type: ignore[attr-defined]
    check(native(made), [{"batch": 7, "time": 12}], tolerance=3e-6)


@pytest.mark.parametrize("kind", CELLS)
def test_backwards(kind: str) -> None:
    check(native(graph(kind, 8, 16, lengths=True, go_backwards=True)), [{"batch": 9, "time": 7}], tolerance=3e-6)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("units", [1, 2, 15, 16, 31, 33, 64, 97, 128, 130])
def test_widths(kind: str, units: int, target: str) -> None:
    run = native(graph(kind, units, units + 3, lengths=True), TARGETS[target])
    check(run, [{"batch": b, "time": t} for b, t in ((1, 70), (7, 11), (33, 5))], tolerance=1e-5)
