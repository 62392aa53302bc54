"""Program: one compiled graph, ready to run. All is decided when it is built; a call only moves arrays along."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from rnngraph.ir import F32, Array, Dims, Graph, Value, evaluate
from rnngraph.ir.sizes import computed_shapes, expressions
from rnngraph.ir.types import Sizes, is_empty, size_of
from rnngraph.report import Report
from rnngraph.runtime.inputs import InputPlan
from rnngraph.runtime.segments import Segment, constant_of
from rnngraph.runtime.streaming import StreamPlan

Hot: TypeAlias = Callable[[Sequence[object]], list[Array] | None]  # None: it takes a whole call
MAX_HOT = 32  # shapes of inputs whose calls are repeated the short way


class Runnable(Protocol):
    """What a program calls; `rnngraph.backends.registry.Kernel` is one."""

    def run(self, dims: Dims, inputs: Sequence[Array]) -> list[Array]:
        """New arrays for the segment's outputs."""


@dataclass(frozen=True, slots=True)
class Step:
    """Call ``kernel`` with the arrays in slots ``inputs``; put what it returns into slots ``outputs``."""

    kernel: Runnable
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Program:
    """Kernels in order, over numbered slots: the graph's inputs, returned constants, then every segment's
    outputs.

    Threads may share it: all that it remembers is the sizes of the call before. A call in which a dim of some value is
    0 (an empty batch, no steps) has next to nothing to compute and is answered by the reference evaluation, so that
    kernels never see empty arrays.
    """

    def __init__(self, graph: Graph, segments: Sequence[Segment], kernels: Sequence[Runnable],
                 report: Report, plan: InputPlan | None = None) -> None:
        self.graph = graph
        self.report = report
        self.place: Any = None  # where arrays may lie beside the host's memory: see `rnngraph.runtime.placed`
        self.stream: StreamPlan | None = None  # how to call it step by step, if that is what it is for
        self.kept: tuple[str, ...] = ()  # the states of stateful layers, by the names of their outputs
        self.packed_outputs: frozenset[str] | None = None  # those that come packed for packed inputs; None: sequences
        self.plan = plan or InputPlan(graph)  # of the traced graph, whose layers are the user's
        self.expressions = tuple(dict.fromkeys((*self.plan.computed, *expressions(graph))))
        self.computed_shapes = tuple(d for d in computed_shapes(graph) if d in self.expressions)
        self._sized: tuple[Dims, Sizes] | None = None  # of the call before
        self.input_names = graph.input_names
        self.output_names = graph.output_names
        slots: dict[Value, int] = {v: i for i, v in enumerate(graph.inputs)}
        constants = {v: c.value.array for v in graph.outputs if (c := constant_of(v)) is not None}
        for v in (*constants, *(v for s in segments for v in s.outputs)):
            slots[v] = len(slots)
        self.constants = list(constants.values())
        self.room = [None] * sum(len(s.outputs) for s in segments)
        self.steps = [Step(k, tuple(slots[v] for v in s.inputs), tuple(slots[v] for v in s.outputs))
                      for s, k in zip(segments, kernels, strict=True)]
        self.outputs = [slots[v] for v in graph.outputs]
        fresh = len(graph.inputs) + len(constants)  # slots below hold arrays that a caller must not get
        self.copied = [i for i, slot in enumerate(self.outputs) if slot < fresh or slot in self.outputs[:i]]
        self.direct = self._direct()
        floats = all(s.type.dtype is F32 and not s.bounds for s in self.plan.specs)
        self.again: Callable[[Dims], Hot | None] | None = getattr(self.direct, "hot", None)
        self.repeats = floats and not self.expressions and self.again is not None
        self.hot: dict[tuple[tuple[int, ...], ...], Hot] = {}

    def _direct(self) -> Runnable | None:
        """The kernel, when it takes the graph's inputs and gives the graph's outputs as they stand."""
        if len(self.steps) != 1 or self.copied:
            return None
        (step,) = self.steps
        same = step.inputs == tuple(range(len(self.graph.inputs))) and list(step.outputs) == self.outputs
        return step.kernel if same else None

    def sized(self, dims: Dims) -> Dims:
        """``dims`` and the sizes that the graph computes from them; InputError when one is below 0."""
        if not self.expressions:
            return dims
        known = self._sized
        if known is None or known[0] != dims:
            sizes = Sizes(dims, {d: size_of(d, dims) for d in self.expressions}, self.computed_shapes)
            known = self._sized = (dims, sizes)
        return known[1]

    def run(self, given: Sequence[object]) -> list[Array]:
        """Check the inputs (ordered as ``input_names``), run, return new arrays, ordered as ``output_names``."""
        if not self.repeats:
            return self._run(given)[0]
        key = _shapes(given)
        hot = self.hot.get(key)
        results = hot(given) if hot is not None else None
        if results is not None:
            return results
        results, dims = self._run(given)
        if key and self.again is not None and not is_empty(dims):
            if len(self.hot) >= MAX_HOT:
                self.hot.clear()
            again = self.again(dims)
            if again is not None:
                self.hot[key] = again
        return results

    def _run(self, given: Sequence[object]) -> tuple[list[Array], Dims]:
        """The outputs, and the size of every symbol."""
        arrays, dims = self.plan.bind(given)
        if self.expressions:
            dims = self.sized(dims)
        if is_empty(dims):
            return list(evaluate(self.graph, dict(zip(self.input_names, arrays, strict=True))).values()), dims
        if self.direct is not None:
            return self.direct.run(dims, arrays), dims
        slots: list[Any] = [*arrays, *self.constants, *self.room]
        for step in self.steps:
            results = step.kernel.run(dims, [slots[i] for i in step.inputs])
            for slot, array in zip(step.outputs, results, strict=True):
                slots[slot] = array
        outputs: list[Array] = [slots[i] for i in self.outputs]
        for i in self.copied:
            outputs[i] = np.array(outputs[i])
        return outputs, dims

    def run_states(self, given: Sequence[object], states: Collection[int], ends: Sequence[int],
                   count: int) -> tuple[list[Array], list[Array]]:
        """`run` for a caller that keeps states, which stay at the program's place: the first ``count`` outputs, and
        those at ``ends``, for the next call, which has them at ``states``."""
        outputs = self.run(given)
        return outputs[:count], [outputs[i].copy() for i in ends]

    def on_host(self, array: Array) -> Array:
        """The array, or its copy on the host where it lies elsewhere."""
        return array


def _shapes(given: Sequence[object]) -> tuple[tuple[int, ...], ...]:
    """The shapes of numpy arrays; empty when one is something else."""
    found = []
    for a in given:
        if type(a) is not np.ndarray:
            return ()
        found.append(a.shape)
    return tuple(found)
