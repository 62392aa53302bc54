"""The node tests of the installed onnx that hold LSTM, GRU, RNN, Scan or Loop, bodies and local functions included.

onnx builds them in memory, with inputs, expected outputs and tolerances. None is skipped.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.backend.test.loader import load_model_tests

import rnngraph as rg
from rnngraph.ir import Array

RECURRENT = {"LSTM", "GRU", "RNN", "Scan", "Loop"}
EXPECTED = 49  # in onnx 1.23.2; a newer one may have more
DTYPES = {"float32": "f32", "float64": "f64", "int64": "i64", "int32": "i32", "bool": "bool"}


def op_types(nodes: Any) -> Iterator[str]:
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            yield from op_types(attribute.g.node)


@cache
def cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases of other ops overflow on purpose while they are built
        found: list[Any] = list(load_model_tests(kind="node"))
    return {c.name: c for c in found if RECURRENT & {*op_types(c.model.graph.node), *(
        t for f in c.model.functions for t in op_types(f.node))}}


def flat(name: str, value: Any) -> dict[str, Array]:
    """A sequence by its elements, as the compiled model takes and gives them."""
    if not isinstance(value, list):
        return {name: np.asarray(value)}
    return {f"{name}.{i}": np.asarray(e) for i, e in enumerate(value)}


def sequences(model: Any, values: Any) -> dict[str, list[rg.Input]]:
    return {i.name: [rg.Input(e.shape, DTYPES[e.dtype.name]) for e in map(np.asarray, v)]
            for i, v in zip(model.graph.input, values, strict=True) if isinstance(v, list)}


def test_all_are_here() -> None:
    assert len(cases()) >= EXPECTED
    print(f"onnx {onnx.__version__}: {len(cases())} node tests", *cases(), sep="\n")


@pytest.mark.parametrize("name", cases())
def test_node(name: str) -> None:
    case = cases()[name]
    for inputs, outputs in case.data_sets:
        compiled = rg.compile(case.model, sequences(case.model, inputs))
        given: dict[str, object] = {}
        for info, value in zip(case.model.graph.input, inputs, strict=True):
            given |= flat(info.name, value)
        got = compiled.run(given)
        expected: dict[str, Array] = {}
        for info, value in zip(case.model.graph.output, outputs, strict=True):
            expected |= flat(info.name, value)
        assert list(got) == list(expected)
        for key, e in expected.items():
            assert got[key].shape == e.shape
            np.testing.assert_allclose(got[key].astype(np.float64), e.astype(np.float64), rtol=case.rtol,
                                       atol=case.atol, err_msg=key)
