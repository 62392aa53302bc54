"""docs/migrate.md: every row's right column runs, and what it makes compiles and runs on the CPU."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import nn
from rnngraph.nn import ops

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "migrate.md").read_text()
SETUP = re.findall(r"^<!-- names -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
INPUTS = ("x", "words", "lines", "images", "volumes")  # what a row's layer may take, tried in this order
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def rows() -> Iterator[tuple[str, str, str]]:
    """(system, the API's name there, the code here) of every table row."""
    system = ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            system = line[3:]
        cells = [c.strip() for c in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) >= 2 and not set(line) <= set("| -:") and cells[1] != "here":
            for code in CODE.findall(cells[1]):
                yield system, cells[0], code


@lru_cache(maxsize=1)
def names() -> dict[str, Any]:
    """What the page says that its rows may use."""
    found: dict[str, Any] = {"rg": rg, "nn": nn, "np": np, "ops": ops}
    exec(SETUP, found)
    return found


def array(symbol: rg.Input) -> Any:
    """Random values for an Input: batch 2, 5 steps."""
    shape = tuple(d if isinstance(d, int) else {"batch": 2, "time": 5}[d] for d in symbol.shape)
    rng = np.random.default_rng(0)
    if symbol.dtype.is_float:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(0, 8, shape).astype(symbol.dtype.numpy)


def check_runs(layer: nn.Layer, given: Sequence[rg.Input]) -> None:
    out = rg.compile(layer, given, target="cpu")(*map(array, given))
    for y in out if isinstance(out, tuple) else (out,):
        assert np.isfinite(y).all()


@pytest.mark.parametrize(("system", "there", "code"), list(rows()), ids=lambda v: v[:60])
def test_row(system: str, there: str, code: str) -> None:
    scope = dict(names())
    *statements, last = code.split("; ")
    for statement in statements:
        exec(statement, scope)
    result = eval(last, scope)
    if isinstance(result, bool):
        assert result
    if isinstance(result, np.ndarray):
        assert np.isfinite(result).all()
    if isinstance(result, nn.Cell):
        result = nn.RNN(result, return_sequences=True)
    if isinstance(result, nn.Model):
        check_runs(result, result.inputs)
    elif isinstance(result, nn.Layer):
        given = next((scope[n] for n in INPUTS if accepts(result, scope[n])), None)
        assert given is not None, f"{there}: takes none of the page's inputs"
        check_runs(result, [given])
    elif isinstance(result, nn.Tensor):
        given = [scope[n] for n in ("x", "x_t") if depends(result, scope[n])]
        check_runs(nn.Model(given, result), given)


def depends(result: Any, given: rg.Input) -> bool:
    """Whether ``given`` alone is what the tensor follows from."""
    try:
        nn.Model(given, result)
    except rg.errors.TraceError:
        return False
    return True


def accepts(layer: nn.Layer, given: rg.Input) -> bool:
    try:
        rg.trace(layer, given)
    except rg.errors.RnngraphError:
        return False
    return True


def test_every_system_has_rows() -> None:
    found = {system for system, _, _ in rows()}
    for name in ("mx.rnn", "Gluon", "tf.nn", "tf.contrib.rnn", "Keras", "Flux", "Lasagne", "Theano", "Torch", "CNTK",
                 "PyTorch"):
        assert any(name in system for system in found), name
