"""Runs with several workers (`pytest -n logical`): each has a core of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Pools of threads (ours, PyTorch's, ONNX Runtime's) wait by spinning: on shared cores workers rob each other."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and _CORES:
        os.sched_setaffinity(0, {sorted(_CORES)[int(worker.removeprefix("gw")) % len(_CORES)]})


@pytest.fixture(scope="module")
def all_cores() -> Iterator[None]:
    """For tests whose threads must really run at the same time."""
    if not _CORES:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _CORES)
    yield
    os.sched_setaffinity(0, own)
