"""Trials: an op alone, run by one implementation on the device, against the float64 reference; timed where asked.

Selection asks for them where a device is `unproven`: kernels that this machine has not run yet. What they show is kept
in a tuning file (`rnngraph.runtime.tuning`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from rnngraph import __version__
from rnngraph.backends import registry
from rnngraph.backends.cache import cache_for, digest_of, sources_digest
from rnngraph.backends.registry import Device, Registry
from rnngraph.errors import CompileError, PassError, RnngraphError, SelectionError
from rnngraph.ir import Dims, Graph, Op, evaluate
from rnngraph.ir.clone import alone
from rnngraph.passes.expand_rnn import expands
from rnngraph.phases import stages
from rnngraph.phases.static import is_static
from rnngraph.report.numeric import allowance, deviation, random_inputs
from rnngraph.rewrite import Tried
from rnngraph.runtime.program import Program
from rnngraph.runtime.tuning import Trial, Tuning

# how far a result may be from the float64 reference, relative to its scale, by what products are computed in
TOLERANCES = {"f32": 1e-5, "f64": 1e-5, "tf32": 5e-3, "f16": 2e-2, "bf16": 6e-2}
CHECKED_SIZE = 12  # of open sizes, in the run that is compared with the reference
CHECKED_FLOPS = 5e10  # beyond which the reference would take too long
GENERATORS = tuple(Path(str(m.__file__)).parent for m in (registry, stages))  # changed code is tried anew
CALLS, SECONDS = 7, 0.5  # of a timing: calls at most, and time at most


class Trials:
    """Tries one implementation of one op at a time. ``build`` compiles a graph, whose op has its implementation, for a
    target; ``measure``: time it as well."""

    def __init__(self, registry: Registry, build: Callable[[Graph, str], Program], tuning: Tuning | None = None, *,
                 measure: bool = False) -> None:
        self.registry = registry
        self.build = build
        self.found = tuning
        self.measure = measure

    @property
    def tuning(self) -> Tuning:
        """The file beside the compile cache, read when the first trial asks."""
        if self.found is None:
            self.found = Tuning(cache_for(".o").directory)
        return self.found

    def __call__(self, op: Op, impl: str, dims: Dims) -> Tried:
        """From the tuning file, or run now."""
        graph = alone(op, is_static)
        graph.block.body[-1].impl = impl
        sizes = {s: n for s, n in dims.items() if s in graph.symbols()}
        device = self._device(impl)
        key = self._key(_shape_of(graph), graph.block.body[-1], sizes)
        known = self.tuning.get(key)
        if known is not None and (known.failure or known.seconds is not None or not self.measure):
            return known.tried
        found, lasts = self._try(graph, impl, sizes)
        if not lasts:
            return found
        self.tuning.put(key, Trial(device.name, f"{op.name} {', '.join(str(v.type) for v in op.results)}",
                                   ", ".join(f"{s}={n}" for s, n in sizes.items()), impl, found.failure, found.seconds,
                                   found.error))
        return found

    def _key(self, text: str, op: Op, sizes: Dims) -> str:
        device = self._device(op.impl)
        scans = [device.precision, *sorted(map(str, self.registry.without))] if expands(op) else []  # what they may be
        return digest_of(__version__, *map(sources_digest, GENERATORS), device.name, *sorted(device.features),
                         str(sorted(device.limits.items())), str(sorted(device.versions.items())), op.impl, text,
                         str(sorted(sizes.items())), *scans)

    def _device(self, impl: str) -> Device:
        return self.registry.device(next(i.target for i in self.registry.implementations if i.name == impl))

    def _try(self, graph: Graph, impl: str, sizes: Dims) -> tuple[Tried, bool]:
        """What came of it, and whether it would come again: not so of a GPU that has failed, is full, or lacks a
        library."""
        try:
            program = self.build(graph.clone(), self._device(impl).target)
            found = self._check(graph, program, sizes)
            if found.failure or not self.measure:
                return found, True
            return replace(found, seconds=_time(program, graph, sizes)), True
        except (CompileError, SelectionError, PassError) as e:
            return Tried(f"trial: it must build and run ({e})"), bool(getattr(e, "not_supported", True))
        except (RnngraphError, RuntimeError, MemoryError, ValueError, OSError) as e:  # what drivers and libraries raise
            return Tried(f"trial: it must build and run ({type(e).__name__}: {e})"), False

    def _check(self, graph: Graph, program: Program, sizes: Dims) -> Tried:
        """Compare at sizes that the reference can do. The third call is looked at: what is recorded is so by then."""
        op = graph.block.body[-1]
        small = {s: min(n, CHECKED_SIZE) for s, n in sizes.items()}
        inputs = random_inputs(graph, small)
        for _ in range(3):
            got = program.run([inputs[n] for n in graph.input_names])
        if op.opdef.cost(op, small).flops > CHECKED_FLOPS:
            return Tried()
        want = evaluate(graph, inputs, float64=True)
        allowed = allowance(graph, inputs, want, tolerance_of(op, self._device(op.impl).precision))
        worst = 0.0
        for array, (name, exact) in zip(got, want.items(), strict=True):
            error, scale = deviation(np.asarray(array), exact)
            if not error <= allowed[name]:
                return Tried(f"trial: its numbers must be right (off by {error / scale:.3g} of the scale, "
                             f"{allowed[name] / scale:.3g} allowed)")
            worst = max(worst, error / scale)
        return Tried(error=worst)


def _shape_of(graph: Graph) -> str:
    """Its text without names, layers and whose weights they are."""
    bare = graph.clone()
    for op in bare.walk():
        for v in (*op.results, *(a for b in op.blocks for a in b.args)):
            v.hint = ""
    return re.sub(r"@[0-9a-f]+|const \[[^\]]*\]|layer = [^,>]+", "", bare.to_text(resources=False))


def tolerance_of(op: Op, precision: str) -> float:
    """By the precision in the implementation's name, or that which its scans may have; else by the results' dtype."""
    last = precision if expands(op) else op.impl.split(".")[-1]
    named = TOLERANCES.get(last, 0.0)
    return max(named, *(TOLERANCES.get(str(v.type.dtype), TOLERANCES["f32"]) for v in op.results))


def _time(program: Program, graph: Graph, sizes: Dims) -> float:
    """The median of some calls, after two that warm it up."""
    inputs = random_inputs(graph, sizes)
    arrays = [inputs[n] for n in graph.input_names]
    program.run(arrays)
    program.run(arrays)
    times, end = list[float](), time.perf_counter() + SECONDS
    while len(times) < CALLS and (not times or time.perf_counter() < end):
        start = time.perf_counter()
        program.run(arrays)
        times.append(time.perf_counter() - start)
    return median(times)


__all__ = ["TOLERANCES", "Trials", "tolerance_of"]
