"""Mutated files are read or refused, in bounded time and memory. The long run is `python -m tests.fuzz`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.harness import fuzz, outcome
from tests.fuzz.targets import targets

TARGETS = targets()
CORPUS = Path(__file__).with_name("corpus")  # files that once did harm, by target


def _check(name: str, first: int, count: int) -> None:
    done = fuzz(TARGETS[name], first, count)
    assert not done.failures, Counter(what for what, _ in done.failures)
    assert done.read + done.refused == count
    assert done.refused, "mutations that change nothing would find nothing"


@pytest.mark.parametrize("name", TARGETS)
def test_sound_files_are_read(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        assert outcome(target, seed, tmp_path / f"model{target.suffix}")[0] == "read"


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_files(name: str) -> None:
    _check(name, 0, 300)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_mutated_files(name: str) -> None:
    _check(name, 1_000_000, 4000)


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*/*")), ids=lambda f: f"{f.parent.name}/{f.name}")
def test_files_that_once_did_harm(file: Path, tmp_path: Path) -> None:
    target = TARGETS[file.parent.name]
    assert outcome(target, file.read_bytes(), tmp_path / f"model{target.suffix}")[0] in ("read", "refused")
