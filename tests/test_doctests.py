"""The examples in the docstrings run and give what they show."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def modules_with_examples() -> Iterator[str]:
    for top in ("rnngraph", "passes", "backends"):
        for file in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if name.startswith(("rnngraph.passes.", "rnngraph.backends.")) or ">>> " not in file.read_text():
                continue  # the links are reached from the folders that they lead to
            yield name if top == "rnngraph" else f"rnngraph.{name}"


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0
