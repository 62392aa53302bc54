"""Segments: the top-level ops of a selected graph, cut in order into maximal runs of one backend.

Constants are host data: a ``const`` op has no implementation and belongs to no segment. A segment lists the
constants that its ops use in ``constants``; a backend reads their arrays (``value.op.attrs.value``) when it
builds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rnngraph.errors import CompileError
from rnngraph.ir import Graph, Op, Value
from rnngraph.ir.ops import CONST, ConstAttrs


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive ops of one backend.

    inputs     values that come from the graph's inputs or from earlier segments (also those that scan bodies
               capture)
    outputs    values that later segments or the graph's ``return`` use; those of the return first, in its order
    constants  results of top-level const ops that the segment uses; they are not among the inputs
    """

    backend: str
    ops: tuple[Op, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    constants: tuple[Value, ...]


def segment(graph: Graph) -> list[Segment]:
    """Cut ``graph``; CompileError when an op that is not a constant has no implementation."""
    ops = [op for op in graph.block.body if op.opdef is not CONST]
    for op in ops:
        if not op.impl:
            where = f" of layer {op.layer!r}" if op.layer else ""
            raise CompileError(f"op {op.name!r}{where} has no implementation; "
                               "a pipeline must end with select-implementation before the graph is built")
    starts = dict.fromkeys(backend_of(op) for op in ops)
    runs = min((_runs(ops, start) for start in starts), key=len, default=[])
    return [_segment(graph, backend, part) for backend, part in runs]


def backend_of(op: Op) -> str:
    """The backend of the op's implementation."""
    return op.impl.split(".")[0]


def _runs(ops: list[Op], start: str) -> list[tuple[str, list[Op]]]:
    """Runs of one backend, each as long as it can be: an op waits until a run of its backend comes and all that it
    reads is there. Within a run ops keep their order."""
    left, backend, runs = list(ops), start, list[tuple[str, list[Op]]]()
    while left:
        waiting, taken = set[Op](), list[Op]()
        for op in left:
            if backend_of(op) == backend and not any(source in waiting for source in _sources(op)):
                taken.append(op)
            else:
                waiting.add(op)
        early = _early(taken)
        if early and len(early) < len(taken):
            taken = [op for op in taken if op not in early]
            waiting |= early
        if taken:
            runs.append((backend, taken))
        left = [op for op in left if op in waiting]
        if left:
            backend = backend_of(next((op for op in left if op not in early), left[0]))
    return runs


def _early(taken: list[Op]) -> set[Op]:
    """Shifted rows, and joins of them, that nothing of the run reads: they are no array that one kernel could hand to
    another, and wait for the run of their readers."""
    left, early = set(taken), set[Op]()
    for op in reversed(taken):
        joins = op.name == "concat" and any(v.op is not None and v.op.name == "shift_rows" for v in op.operands)
        if (op.name == "shift_rows" or joins) and not any(user in left for user in op.result.users()):
            left.discard(op)
            early.add(op)
    return early


def _sources(op: Op) -> set[Op]:
    """The ops whose results ``op``, or its bodies, read."""
    return {v.op for inner in op.walk() for v in inner.operands if v.op is not None}


def constant_of(value: Value) -> ConstAttrs | None:
    """The constant that ``value`` is, or None."""
    op = value.op
    return op.attrs if op is not None and isinstance(op.attrs, ConstAttrs) else None


def _segment(graph: Graph, backend: str, ops: list[Op]) -> Segment:
    inside = {id(inner) for op in ops for inner in op.walk()}
    used = _outer_operands(graph, ops, inside)
    outputs = [r for op in ops for r in op.results if any(id(user) not in inside for user, _ in r.uses)]
    place = {v: i for i, v in enumerate(graph.outputs)}
    outputs.sort(key=lambda v: place.get(v, len(place)))
    return Segment(backend, tuple(ops), tuple(v for v in used if constant_of(v) is None), tuple(outputs),
                   tuple(v for v in used if constant_of(v) is not None))


def _outer_operands(graph: Graph, ops: Iterable[Op], inside: set[int]) -> list[Value]:
    """Values of the graph's own block that the ops or their bodies use but do not define, by first use."""
    found = {v: None for op in ops for inner in op.walk() for v in inner.operands
             if v.block is graph.block and (v.op is None or id(v.op) not in inside)}
    return list(found)
