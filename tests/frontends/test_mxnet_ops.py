"""Symbols of MXNet 1.9.1, op by op and as models, give MXNet's outputs (tests/data/mxnet/make_symbols.py made them)."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnngraph as rg
from rnngraph.frontends.mxnet import MxnetModel
from tests.nn.numpy_cells import Array

DATA = Path(__file__).resolve().parent.parent / "data" / "mxnet"
CASES: dict[str, dict[str, Any]] = json.loads(gzip.decompress((DATA / "symbols.json.gz").read_bytes()))
TOLERANCE = 1e-5  # of the output's scale; both sides are float32
SIZES = {"batch": 2, "time": 5}


def array(packed: list[Any]) -> Array:
    dtype, shape, data = packed
    return np.frombuffer(base64.b64decode(data), dtype).reshape(shape)


def model(name: str, tmp_path: Path, sizes: dict[str, int]) -> tuple[MxnetModel, dict[str, Array], list[Array]]:
    case = CASES[name]
    file = tmp_path / "m-symbol.json"
    file.write_text(json.dumps(case["symbol"]))
    shapes = {n: tuple(sizes.get(d, d) for d in shape) for n, shape in case["shapes"].items()}
    made = rg.from_mxnet(symbol=file, params={n: array(p) for n, p in case["params"].items()}, inputs=shapes)
    return made, {n: array(p) for n, p in case["inputs"].items()}, [array(p) for p in case["outputs"]]


def check(got: Any, want: list[Array]) -> None:
    outputs = list(got) if isinstance(got, tuple) else [got]
    assert len(outputs) == len(want)
    for a, b in zip(outputs, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(b).max(initial=0))))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("symbolic", [pytest.param(False, marks=pytest.mark.slow, id="numbers"),
                                      pytest.param(True, id="symbols")])
def test_outputs(name: str, symbolic: bool, tmp_path: Path) -> None:
    made, inputs, want = model(name, tmp_path, {} if symbolic else SIZES)
    compiled = rg.compile(made, target="cpu", threads=1)
    assert list(compiled.output_names) == CASES[name]["names"]
    check(compiled(*(inputs[n] for n in compiled.input_names)), want)
