"""Every path against the float64 reference: in poisoned memory, on several sizes, twice for equal bits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np

import rnngraph as rg
from benchmarks.gpu.forced import NotUsed, compiled, paths, precision_of
from benchmarks.gpu.models import Model, Sizes, sized
from benchmarks.gpu.poison import Poisoned, poison_pool
from benchmarks.gpu.section import Case, Setting
from benchmarks.gpu.table import ABSENT, FAIL, OK, Row
from rnngraph.backends.cupy import device
from rnngraph.errors import SelectionError
from rnngraph.ir import Array, evaluate

TOLERANCES = {"f32": 1e-5, "tf32": 3e-3, "bf16": 2e-2}  # of the largest number of an output
POOL = 512  # MiB that are filled with NaN


def cases(setting: Setting) -> Iterator[Case]:
    """A case for each model, number of units and path."""
    for model, units, sizes in sized(setting.shim, setting.full):
        for path in paths():
            yield Case(f"{model.name}, {units} on {path}", partial(check, model, units, sizes, path))


def check(model: Model, units: int, sizes: Sizes, path: str) -> Iterator[Row]:
    """One model on one path."""
    case = f"{model.name}, {units}"
    try:
        yield _checked(case, model, units, sizes, path)
    except (SelectionError, NotUsed) as e:
        yield Row(case, path, ABSENT, note=_reason(e, path))


def _checked(case: str, model: Model, units: int, sizes: Sizes, path: str) -> Row:
    limit = TOLERANCES[precision_of(path)]
    poisoned = Poisoned(device.open_device())
    with patch.object(device, "open_device", lambda: poisoned):
        made = compiled(path, model.make(units), given(model), lengths=model.lengths)
        worst = max(_error(made, model, batch, steps, poisoned) for batch, steps in sizes)
    numbers = {"error": worst, "tolerance": limit, "poisoned": poisoned.floats}
    assert poisoned.floats, "no memory of the call was filled with NaN: the check has lost its way into the plan"
    right = worst <= limit
    return Row(case, path, OK if right else FAIL, numbers, "" if right else "off by more than allowed")


def given(model: Model) -> rg.Input:
    """What the model is called with."""
    return rg.Input(("batch", "time"), "i32") if model.tokens else rg.Input(("batch", "time", model.features))


def random_input(model: Model, batch: int, steps: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if model.tokens:
        return rng.integers(0, 50, (batch, steps)).astype(np.int32)
    return rng.standard_normal((batch, steps, model.features)).astype(np.float32)


def _error(made: Any, model: Model, batch: int, steps: int, poisoned: Poisoned) -> float:
    """The largest error of a call; AssertionError when a second call with the same input gives other bits, after one
    with another input."""
    x, other = (random_input(model, batch, steps, seed) for seed in (0, 1))
    more = {"lengths": np.random.default_rng(2).integers(0, steps + 1, batch).astype(np.int32)} if model.lengths else {}
    poison_pool(poisoned.xp.xp, POOL)
    first = _outputs(made, x, more)
    _outputs(made, other, more)
    again = _outputs(made, x, more)
    for name, a, b in zip(made.output_names, first, again, strict=True):
        assert a.tobytes() == b.tobytes(), f"output {name}: a second call gives other bits"
    program = made.variant(lengths=True) if model.lengths else made.program
    feeds = dict(zip(program.input_names, (x, *more.values()), strict=True))
    want = evaluate(program.graph, feeds, float64=True)
    return max(error_of(a, w) for a, w in zip(first, want.values(), strict=True))


def _outputs(made: Any, x: Array, more: dict[str, Array]) -> list[Array]:
    results = made(x, **more)
    return [np.array(r) for r in (results if isinstance(results, tuple) else (results,))]


def error_of(got: Array, want: Array) -> float:
    """The largest difference, of the largest number; AssertionError for NaN, and for another shape."""
    assert got.shape == want.shape, f"expected {want.shape}, got {got.shape}"
    assert not np.isnan(got).any(), "NaN in an output"
    scale = max(1e-3, float(np.abs(want).max(initial=0.0)))
    return float(np.abs(got - want).max(initial=0.0)) / scale


def _reason(e: Exception, path: str) -> str:
    """What a SelectionError says of the path."""
    return str(e).partition(f"{path}: ")[2] or str(e)


__all__ = ["cases", "check", "error_of", "given", "random_input"]
