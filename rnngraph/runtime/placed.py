"""Programs with kernels whose arrays lie elsewhere than in the host's memory: on a GPU.

A call with an array that lies there gives its results there, one with host arrays alone gives host arrays. Between
kernels of that place values stay there; kernels of the host get copies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rnngraph.errors import InputError
from rnngraph.ir import Array, Dims, Graph, evaluate
from rnngraph.ir.types import is_empty
from rnngraph.report import Report
from rnngraph.runtime.inputs import InputPlan, InputSpec
from rnngraph.runtime.program import Program, Runnable
from rnngraph.runtime.segments import Segment


class Place(Protocol):
    """A memory that is not the host's; `rnngraph.backends.cupy.place.CupyPlace` is one."""

    def holds(self, value: object) -> bool:
        """Whether it is an array there, of any library."""

    def adopt(self, value: object) -> Array:
        """What it holds as an array of the place's own kind, without a copy; InputError where that cannot be."""

    def bring(self, array: Array) -> Array:
        """A copy of a host array."""

    def host(self, array: Array) -> Array:
        """A copy on the host."""

    def settle(self, values: Iterable[object]) -> None:
        """Let the owners of ``values``, arrays of other libraries, overwrite them: calls have read them."""


@runtime_checkable
class RunsThere(Protocol):
    """A kernel with a place; `run` gives host arrays."""

    place: Place

    def run_there(self, dims: Dims, inputs: Sequence[Array]) -> list[Array]:
        """As `run`, to arrays of the place."""


@dataclass(frozen=True, slots=True)
class PlacedSpec(InputSpec):
    """An input that may lie at a place; ``own`` is the same one for host arrays."""

    own: InputSpec | None = None
    place: Place | None = None

    def array(self, given: object) -> Array:
        """As `InputSpec.array`; what lies at the place stays there."""
        assert self.own is not None
        if self.place is None or not self.place.holds(given):
            return self.own.array(given)
        try:
            array = self.place.adopt(given)
        except (InputError, BufferError, RuntimeError, TypeError, ValueError) as e:  # also what other libraries raise
            raise InputError(f"input {self.shown}: expected {self.type}, got something that cannot be used: {e}") from e
        return self.own.fitted(array, given)


class PlacedProgram(Program):
    """A program of which some kernels run at ``place``."""

    def __init__(self, graph: Graph, segments: Sequence[Segment], kernels: Sequence[Runnable], report: Report,
                 plan: InputPlan, place: Place) -> None:
        super().__init__(graph, segments, kernels, report, plan)
        self.place = place
        plan.specs = tuple(PlacedSpec(s.name, s.type, s.bounds, s.label, s, place) for s in plan.specs)
        self.kernels = [k if isinstance(k := s.kernel, RunsThere) else None for s in self.steps]
        self.read_there = {slot for k, s in zip(self.kernels, self.steps, strict=True) if k for slot in s.inputs}

    def run(self, given: Sequence[object]) -> list[Array]:
        return self.run_states(given, (), (), len(self.outputs))[0]

    def run_states(self, given: Sequence[object], states: Collection[int], ends: Sequence[int],
                   count: int) -> tuple[list[Array], list[Array]]:
        there = any(self.place.holds(g) for i, g in enumerate(given) if i not in states)
        arrays, dims = self.plan.bind(given)
        if self.expressions:
            dims = self.sized(dims)
        if is_empty(dims):
            named = {n: self.on_host(a) for n, a in zip(self.input_names, arrays, strict=True)}
            found = list(evaluate(self.graph, named).values())
        else:
            found = self._found(dims, arrays, stay=there or bool(ends))
        outputs = [self._there(a) if there else self.on_host(a) for a in found[:count]]
        kept = [self._there(found[i]) for i in ends]
        self.place.settle(given)
        return outputs, [a.copy() if any(a is o for o in outputs) else a for a in kept]

    def _found(self, dims: Dims, arrays: Sequence[Array], *, stay: bool) -> list[Array]:
        """The outputs, each where it was made; ``stay``: what is made at the place stays there."""
        slots: list[Any] = [*arrays, *self.constants, *self.room]
        hosts: dict[int, Array] = {}  # copies of what stays there
        for step, kernel in zip(self.steps, self.kernels, strict=True):
            inputs: list[Array] = [slots[i] for i in step.inputs]
            if kernel is None:
                for i, array in zip(step.inputs, inputs, strict=True):
                    hosts[i] = hosts[i] if i in hosts else self.on_host(array)
                results = step.kernel.run(dims, [hosts[i] for i in step.inputs])
            elif stay or not self.read_there.isdisjoint(step.outputs):
                results = kernel.run_there(dims, inputs)
            else:
                results = step.kernel.run(dims, inputs)
            for slot, array in zip(step.outputs, results, strict=True):
                slots[slot] = array
        outputs: list[Array] = [slots[i] for i in self.outputs]
        for i in self.copied:
            outputs[i] = outputs[i].copy()
        return outputs

    def on_host(self, array: Array) -> Array:
        """The array, or its copy on the host."""
        return self.place.host(array) if self.place.holds(array) else array

    def _there(self, array: Array) -> Array:
        return array if self.place.holds(array) else self.place.bring(array)


def program_of(graph: Graph, segments: Sequence[Segment], kernels: Sequence[Runnable], report: Report,
               plan: InputPlan) -> Program:
    """The program of these kernels."""
    place = next((k.place for k in kernels if isinstance(k, RunsThere) and k.place is not None), None)
    return PlacedProgram(graph, segments, kernels, report, plan, place) if place else Program(
        graph, segments, kernels, report, plan)


__all__ = ["Place", "PlacedProgram", "program_of"]
