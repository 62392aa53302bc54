"""Packed sequences as inputs and outputs of a compiled model.

A call with packed inputs is one with lengths whose rows are sorted by falling length: a step of a recurrence runs the
rows that are still going and no other, so that a call runs as many steps of rows as the data has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnngraph.data.packing import Array, PackedSequence, pad_packed_sequence
from rnngraph.errors import InputError, TraceError
from rnngraph.ir import Graph, Scan, Shape
from rnngraph.ir.dims import is_symbol, symbols_of
from rnngraph.ir.grid_ops import PadAttrs
from rnngraph.ir.ops import ConcatAttrs, SliceAttrs
from rnngraph.runtime.program import Program


@dataclass(frozen=True, slots=True)
class Packing:
    """What the packed inputs of a call have in common: ``like`` is one of them, under the name ``name``."""

    like: PackedSequence
    name: str

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Packing | None:
        """The packing of a call's inputs, None where none is packed; InputError when two do not go together."""
        found = {n: v.checked() for n, v in values.items() if isinstance(v, PackedSequence)}
        if not found:
            return None
        name, first = next(iter(found.items()))
        for other, packed in found.items():
            same = np.array_equal(packed.batch_sizes, first.batch_sizes) and _same(packed.sorted_indices,
                                                                                  first.sorted_indices)
            if not same:
                raise InputError(f"inputs {name!r} and {other!r} are packed differently: expected equal batch_sizes "
                                 "and sorted_indices; pad one of them")
        return cls(first, name)

    def pad(self, program: Program, values: Mapping[str, object]) -> dict[str, object]:
        """Arrays for the program's inputs, the rows sorted as they are packed, and the lengths."""
        batch, _ = self.layout(program)
        arrays: dict[str, object] = {"lengths": self.like.lengths.astype(np.int32)}
        for spec in program.plan.specs:
            value = values.get(spec.name)
            if isinstance(value, PackedSequence):
                first, steps = _axes(spec.type.shape, batch)
                if isinstance(steps, int) and steps < len(self.like.batch_sizes):
                    raise InputError(f"input {spec.name!r}: expected sequences of at most {steps} steps for "
                                     f"{spec.type}, got {len(self.like.batch_sizes)}")
                arrays[spec.name] = pad_packed_sequence(PackedSequence(value.data, value.batch_sizes), first,
                                                        total_length=steps if isinstance(steps, int) else None)[0]
            elif value is not None and spec.name not in arrays:
                axis = _row_axis(spec.type.shape, batch)
                rows = self.like.sorted_indices is not None and axis is not None
                arrays[spec.name] = self.sort(spec.name, value, axis or 0) if rows else value
        return arrays

    def sort(self, name: str, value: object, axis: int) -> Array:
        """Rows that were given in the order of the sequences, in the order in which these are packed."""
        array, order = np.asarray(value), self.like.sorted_indices
        assert order is not None
        if array.ndim <= axis or array.shape[axis] != len(order):
            raise InputError(f"input {name!r}: expected {len(order)} rows, as many as there are packed sequences, got "
                             f"the shape {list(array.shape)}")
        return array.take(order, axis)

    def pack(self, program: Program, outputs: Sequence[Array]) -> list[Any]:
        """Sequences packed as the inputs are; what has one row per sequence in the order of the sequences."""
        batch, steps = self.layout(program)
        there = np.arange(len(self.like.batch_sizes))[:, None] < self.like.lengths
        results: list[Any] = []
        named = zip(program.output_names, program.graph.outputs, outputs, strict=True)
        for name, value, array in named:
            wanted = program.packed_outputs is None or name in program.packed_outputs
            if wanted and value.shape[:2] in ((batch, steps), (steps, batch)):
                timed = array.swapaxes(0, 1) if value.shape[:2] == (batch, steps) else array
                results.append(PackedSequence(timed[: len(there)][there], *self.like[1:]))
            elif self.like.unsorted_indices is not None and (axis := _row_axis(value.shape, batch)) is not None:
                results.append(array.take(self.like.unsorted_indices, axis))
            else:
                results.append(array)
        return results

    def layout(self, program: Program) -> tuple[int | str, int | str]:
        """The dims batch and time of the packed inputs."""
        types = {s.name: s.type for s in program.plan.specs}
        (batch,) = types["lengths"].shape
        shape = types[self.name].shape
        if len(shape) < 2 or batch not in shape[:2]:
            raise InputError(f"input {self.name!r}: expected {types[self.name]}, which is no sequence, got a "
                             "PackedSequence")
        return batch, _axes(shape, batch)[1]


def _axes(shape: Shape, batch: int | str) -> tuple[bool, int | str]:
    """Whether the batch is the first axis, and the time dim."""
    return (True, shape[1]) if shape[0] == batch else (False, shape[0])


def _row_axis(shape: Shape, batch: int | str) -> int | None:
    """The axis with one row per sequence: the first, or that of the open batch, as in states [layers, batch, size]."""
    if shape[:1] == (batch,):
        return 0
    return shape.index(batch) if isinstance(batch, str) and batch in shape else None


def _same(a: Array | None, b: Array | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def _check_rows(graph: Graph, batches: set[str]) -> None:
    for op in graph.block.body:
        if isinstance(op.attrs, SliceAttrs | ConcatAttrs | PadAttrs):
            changed = {d for v, r in zip(op.operands, op.results * len(op.operands), strict=True)
                       for d, e in zip(v.shape, r.shape, strict=True) if d != e}
            if changed & batches:
                raise TraceError(f"layer {op.layer!r}: with packed input, rows stand in the order of their lengths; "
                                 f"expected ops that keep them, got {op.name} along the batch; pad and give lengths=")
    for name, v in zip(graph.output_names, graph.outputs, strict=True):
        if joined := [d for d in v.shape if d not in batches and symbols_of(d) & batches]:
            raise TraceError(f"output {name!r} of type {v.type}: with packed input, expected the batch as an axis of "
                             f"its own, got {joined[0]}; pad and give lengths=")


def check_packable(graph: Graph) -> None:
    """TraceError when a sequence is turned around whole, padding first: packed, its steps would be the wrong ones. Also
    where rows are picked, or leave the model joined with another axis: packed, they stand in another order."""
    timed = {Scan(op).attrs.steps for op in graph.walk() if op.name == "scan" and Scan(op).lengths is not None}
    lengths = [Scan(op).lengths for op in graph.walk() if op.name == "scan"]
    batches = [v.shape[0] for v in lengths if v is not None]
    _check_rows(graph, {b for b in batches if isinstance(b, str) and is_symbol(b)})
    for op in graph.block.body:
        if op.name == "reverse" and op.result.shape[getattr(op.attrs, "axis", 0)] in timed:
            raise TraceError(f"layer {op.layer!r}: with packed input, expected sequences in the order of the input, "
                             "got one in reverse order, whose padding comes first; use Bidirectional, leave "
                             "go_backwards out, or pad and give lengths=")
