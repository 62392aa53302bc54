"""verify="numeric": after every pass the graph must still compute the traced graph's numbers, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rnngraph.errors import PassError
from rnngraph.ir import Array, Dims, Graph, Value, evaluate, resolve
from rnngraph.ir.bounds import integer_bounds
from rnngraph.ir.sizes import sizes_for
from rnngraph.rewrite import PassRecord

AMPLIFIED = 8.0  # one float32 evaluation against another of the same graph: the worst seen is a ratio of 3
SIZES = (3, 5, 2, 4, 6)  # small and different, so that a mixed-up axis shows


@dataclass(slots=True)
class NumericCheck:
    """An instrument: PassError, naming the pass, when an output is off by more than ``tolerance`` of its
    scale, or, in a model that magnifies rounding, by more than `AMPLIFIED` times what float32 itself loses there.

    Everything is computed in float64, but constants that a pass folds are rounded to their dtype, hence 1e-5.
    """

    graph: Graph
    dims: Dims = field(default_factory=dict)
    seed: int = 0
    tolerance: float = 1e-5
    inputs: dict[str, Array] = field(init=False)
    want: dict[str, Array] = field(init=False)
    allowed: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = random_inputs(self.graph, self.dims, self.seed)
        self.want = evaluate(self.graph, self.inputs, float64=True)
        self.allowed = allowance(self.graph, self.inputs, self.want, self.tolerance)

    def after(self, index: int, record: PassRecord, graph: Graph) -> None:
        """Compare, and name the pass that changed the numbers."""
        got = evaluate(graph, self.inputs, float64=True)
        for name, want in self.want.items():
            if name not in got or got[name].shape != want.shape:
                found = "is gone" if name not in got else f"has shape {got[name].shape}, not {want.shape}"
                raise PassError(f"pass {index} ({record.name}) changed the meaning: output {name!r} {found}")
            error, scale = deviation(got[name], want)
            if not error <= self.allowed[name]:
                shapes = ", ".join(f"{n}{list(a.shape)}" for n, a in self.inputs.items())
                raise PassError(f"pass {index} ({record.name}) changed the numbers: output {name!r} is off by "
                                f"{error:.3g} where its scale is {scale:.3g} (inputs {shapes}, "
                                f"seed {self.seed}); compare the graphs before and after it in a dump")


def allowance(graph: Graph, inputs: Mapping[str, Array], want: Mapping[str, Array], tolerance: float,
              ) -> dict[str, float]:
    """How far each output may be from ``want``, the float64 result: ``tolerance`` of its scale, and at least
    `AMPLIFIED` times the float32 reference's own distance. A recurrence can magnify the rounding of one operation by
    any factor; then 1e-5 is out of reach of every float32 evaluation, whatever its order of operations."""
    plain = evaluate(graph, inputs)
    out = {}
    for name, array in want.items():
        error, scale = deviation(plain[name], array)
        out[name] = max(tolerance * scale, AMPLIFIED * error)
    return out


def deviation(got: Array, want: Array) -> tuple[float, float]:
    """(largest difference, scale): equal NaNs and infinities differ by 0; one-sided ones by infinity."""
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    same = finite | (a == b) | (np.isnan(a) & np.isnan(b))
    scale = max(1.0, float(np.abs(b[finite]).max(initial=0.0)))
    return (float(np.abs(a[finite] - b[finite]).max(initial=0.0)) if bool(same.all()) else np.inf), scale


def random_inputs(graph: Graph, dims: Mapping[str, int] | None = None, seed: int = 0) -> dict[str, Array]:
    """Normal floats, coins, and integers that their users accept; symbols not in ``dims`` get small sizes."""
    sizes = sizes_for(graph, {s: SIZES[i % len(SIZES)] for i, s in enumerate(graph.symbols())}, dims or {})
    rng = np.random.default_rng(seed)
    return {name: _random(value, sizes, rng)
            for name, value in zip(graph.input_names, graph.inputs, strict=True)}


def _random(value: Value, sizes: Dims, rng: np.random.Generator) -> Array:
    shape, dtype = resolve(value.shape, sizes), value.type.dtype
    if dtype.kind == "float":
        return rng.standard_normal(shape).astype(dtype.numpy)
    if dtype.kind == "bool":
        return rng.random(shape) < 0.5
    highest = min((b.highest(sizes) for b in integer_bounds(value)), default=3)
    return rng.integers(0, max(highest, 0) + 1, shape).astype(dtype.numpy)
