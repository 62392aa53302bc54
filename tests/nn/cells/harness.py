"""Cells against independent float64 numpy steps: native runs over batches, lengths, states and directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

import rnngraph as rg
from rnngraph.nn import RNN, Cell
from rnngraph.nn.cell import States
from rnngraph.report.numeric import deviation

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
State: TypeAlias = dict[str, Array]
Step: TypeAlias = Callable[[Array, State], tuple[Array, State]]
Weights: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Case:
    """A cell and the step that it must compute.

    reference  weights in float64 -> one step on float64 rows
    first      makes the first feature of an input [B, T] (the times of a Phased LSTM); None: random as the others
    weights    how to draw a weight, by the last part of its name; others are normal times ``scale``
    """

    make: Callable[[], Cell]
    features: int
    reference: Callable[[Weights], Step]
    first: Callable[[np.random.Generator, int, int], Array] | None = None
    weights: Mapping[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = field(default_factory=dict)
    scale: float = 0.5

    def layer(self, steps: int | None = None, **options: Any) -> RNN:
        """The cell over time, with weights of a fitting size."""
        layer = RNN(self.make(), **{"return_sequences": True, "return_state": True, "name": "mine", **options})
        self.fill(layer, steps)
        return layer

    def fill(self, layer: Any, steps: int | None = None) -> None:
        """Build a layer and give all its weights, biases too, random values."""
        layer.build((None, steps, self.features))
        rng = np.random.default_rng(3)
        drawn = {}
        for name, w in layer.weights.items():
            draw = self.weights.get(name.split("/")[-1])
            drawn[name] = np.asarray(draw(rng, w.shape) if draw else rng.normal(size=w.shape) * self.scale, np.float32)
        layer.set_weights(drawn)

    def input(self, batch: int, steps: int, seed: int = 0) -> Array:
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((batch, steps, self.features)).astype(np.float32)
        if self.first is not None:
            x[:, :, 0] = self.first(rng, batch, steps)
        return x

    def states(self, layer: RNN, batch: int, seed: int = 1) -> State:
        """Random initial states by name."""
        shapes = States.of(layer.cell)
        rng = np.random.default_rng(seed)
        return {n: np.asarray(0.5 * rng.standard_normal((batch, *s)), np.float32)
                for n, s in zip(shapes.names, shapes.shapes, strict=True)}


def wide(weights: Weights, prefix: str = "") -> dict[str, Array]:
    """The weights in float64, those whose name starts with ``prefix``, without it."""
    return {k[len(prefix):]: v.astype(np.float64) for k, v in weights.items() if k.startswith(prefix)}


def over_time(step: Step, x: Array, states: State, lengths: Sequence[int] | None = None, *,
              backwards: bool = False) -> tuple[Array, State]:
    """Outputs [B, T, n] in the input's order and final states, row by row; past its length a row repeats the output
    before (0 where there is none: at length 0, and backwards)."""
    rows: list[list[Array]] = []
    finals: list[State] = []
    for b in range(x.shape[0]):
        steps, n = x.shape[1], x.shape[1] if lengths is None else lengths[b]
        state = {k: v[b : b + 1].astype(np.float64) for k, v in states.items()}
        empty = np.zeros_like(step(x[b : b + 1, 0].astype(np.float64), state)[0])
        out, last = [empty] * steps, empty
        for t in range(n)[::-1] if backwards else range(n):
            last, state = step(x[b : b + 1, t].astype(np.float64), state)
            out[t] = last
        rows.append([*out[:n], *[empty if backwards else last] * (steps - n)])
        finals.append(state)
    y = np.stack([np.concatenate(r) for r in rows])
    return y, {k: np.concatenate([f[k] for f in finals]) for k in states}


def assert_close(got: Array, want: Array, *, tolerance: float) -> None:
    """Within ``tolerance`` of the scale, the largest value and at least 1."""
    assert got.shape == want.shape
    error, scale = deviation(got, want)
    assert error <= tolerance * scale, f"off by {error:.3g} where the scale is {scale:.3g}"


def assert_native(report: Any) -> None:
    """Every kernel is llvm's, and there is a scan among what it runs."""
    assert {k.backend for k in report.kernels} == {"llvm"}, report.explain()


def compiled(layer: Any, features: int, steps: int | str = "time", *, verify: str | None = "numeric",
             **variant: bool) -> Any:
    """The variant of the layer alone, compiled for the CPU, and all of it native."""
    graph = rg.trace(layer, rg.Input(("batch", steps, features)), **variant)
    model = rg.compile(graph, target="cpu", threads=2, verify=verify)
    assert_native(model.report)
    return model
