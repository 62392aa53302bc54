"""What the tests of PyTorch models share: a module compiled, and compared with the module on other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

import rnngraph as rg
from rnngraph.ir import Array, Graph, evaluate
from rnngraph.runtime.model import CompiledModel

TOLERANCE = 1e-5  # of the scale of what is expected


def flat(value: Any) -> list[Any]:
    """The tensors of a nested structure, in order."""
    if isinstance(value, torch.Tensor | PackedSequence):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [leaf for item in items for leaf in flat(item)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


def close(got: Array, want: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    """Equal shapes, kinds and values, within ``tolerance`` of the scale."""
    expected = want.detach().numpy()
    assert got.shape == expected.shape
    assert got.dtype.kind == expected.dtype.kind
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(got, expected)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=tolerance * max(1.0, float(finite.max(initial=0.0))))


def same(compiled: CompiledModel, module: torch.nn.Module, *inputs: Any, tolerance: float = TOLERANCE) -> None:
    """The compiled model and the module give the same on ``inputs``."""
    with torch.no_grad():
        want = flat(module(*inputs))
    got = compiled(*[t.numpy() for t in flat(inputs)])
    results = got if isinstance(got, tuple) else (got,)
    assert len(results) == len(want)
    for g, w in zip(results, want, strict=True):
        close(g, w, tolerance)


def check_graph(module: torch.nn.Module, example: Sequence[Any], *calls: Sequence[Any]) -> Graph:
    """As `check`, by the reference evaluation of the traced graph: for what is about the reading alone."""
    layer = rg.from_torch(module.eval(), tuple(example))
    graph = rg.trace(layer, layer.inputs)
    for inputs in (example, *calls):
        with torch.no_grad():
            want = flat(module(*inputs))
        with np.errstate(all="ignore"):
            arrays = dict(zip(graph.input_names, (t.numpy() for t in flat(inputs)), strict=True))
            got = evaluate(graph, arrays).values()
        for g, w in zip(got, want, strict=True):
            close(g, w)
    return graph


def check(module: torch.nn.Module, example: Sequence[Any], *calls: Sequence[Any],
          tolerance: float = TOLERANCE) -> CompiledModel:
    """Compile a module with one example, compare it on that and on the other calls."""
    module.eval()
    compiled = rg.compile(module, example_inputs=tuple(example))
    for inputs in (example, *calls):
        same(compiled, module, *inputs, tolerance=tolerance)
    return compiled
