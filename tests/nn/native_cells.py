"""Checks that every cell passes: native code against float64 numpy, at several sizes, in every way to call a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

import rnngraph as rg
from rnngraph.ir import Array
from rnngraph.nn import RNN, Bidirectional, Cell, Layer
from rnngraph.nn.cell import States
from rnngraph.runtime.model import CompiledModel
from tests.nn.numpy_cells import Step, run
from tests.nn.support import some

Reference = Callable[[Mapping[str, Array]], Step]  # weights by name -> one step in float64
SIZES = ((1, 1), (7, 3), (1, 33), (33, 2))  # batch, time
TOLERANCE = 1e-5  # of the largest number of an output, or of 1


def filled(layer: Layer, features: int, seed: int = 1) -> Layer:
    """Build the layer and give all weights random values that keep its states of the order of 1."""
    layer.build((None, None, features))
    scale = np.float32(1.5 / np.sqrt(max(4, *(w.shape[0] for w in layer.weights.values()))))
    layer.set_weights([some(*w.shape, seed=seed + i) * scale for i, w in enumerate(layer.weights.values())])
    return layer


def native(model: Layer, features: int, threads: int = 1) -> CompiledModel:
    return rg.compile(model, rg.Input(("batch", "time", features)), target="cpu", threads=threads)


def assert_llvm(compiled: CompiledModel, **variant: bool) -> None:
    """No part of the model falls back to the reference backend."""
    kernels = compiled.variant(**variant).report.kernels
    assert kernels
    assert {k.backend for k in kernels} == {"llvm"}


def close(got: object, want: Array, tolerance: float = TOLERANCE) -> None:
    """The largest error relative to the scale of what is expected."""
    assert isinstance(got, np.ndarray)
    assert got.shape == want.shape
    scale = max(1.0, float(np.abs(want).max(initial=0.0)))
    np.testing.assert_allclose(got / scale, want / scale, rtol=0.0, atol=tolerance)


def check_cell(cell: Cell, reference: Reference, features: int = 5, *, seed: int = 1, tolerance: float = TOLERANCE,
               sizes: Sequence[tuple[int, int]] = SIZES) -> None:
    """The layer `RNN(cell)` and `Bidirectional` of it, plain and with lengths and initial states, in native code."""
    layer = filled(RNN(cell, return_sequences=True, return_state=True, name="r"), features, seed)
    shapes = States.of(cell).shapes
    compiled = native(layer, features)
    step = reference(layer.weights)
    for batch, time in sizes:
        x = some(batch, time, features, seed=batch)
        zeros = [np.zeros((batch, *s), np.float32) for s in shapes]
        _same(compiled(x), run(step, x, zeros), tolerance)
        given = [some(batch, *s, seed=3 + i) for i, s in enumerate(shapes)]
        lengths = [1 + (5 * i) % time for i in range(batch)]
        _same(compiled(x, lengths=lengths, initial_state=given), run(step, x, given, lengths=lengths), tolerance)
    assert_llvm(compiled)
    assert_llvm(compiled, lengths=True, initial_state=True)
    check_both_ways(cell, reference, features, tolerance)


def check_both_ways(cell: Cell, reference: Reference, features: int, tolerance: float) -> None:
    """Forwards and backwards, with lengths, zeros past them."""
    layer = filled(Bidirectional(RNN(cell.fresh_copy(), return_sequences=True, zero_output_for_mask=True), name="b"),
                   features, 7)
    compiled, (batch, time) = native(layer, features), (3, 6)
    x, lengths = some(batch, time, features, seed=2), [6, 1, 4]
    zeros = [np.zeros((batch, *s), np.float32) for s in States.of(cell).shapes]
    halves = []
    for direction in ("forward", "backward"):
        weights = {k: v for k, v in layer.weights.items() if k.startswith(direction)}
        halves.append(run(reference(weights), x, zeros, lengths=lengths, backwards=direction == "backward",
                          zero=True)[0])
    close(compiled(x, lengths=lengths), np.concatenate(halves, -1), tolerance)
    assert_llvm(compiled, lengths=True)


def _same(got: object, want: tuple[Array, list[Array]], tolerance: float) -> None:
    assert isinstance(got, tuple)
    for a, b in zip(got, (want[0], *want[1]), strict=True):
        close(a, b, tolerance)
