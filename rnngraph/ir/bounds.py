"""Which integers an input may hold, read off its users: row lengths lie in 0..steps, indices in the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rnngraph.ir.core import Graph, Op, Value
from rnngraph.ir.rnn import RNN, Rnn
from rnngraph.ir.scan import SCAN, Scan
from rnngraph.ir.types import Dim, Dims, resolve

MOVES = frozenset({"reshape", "transpose", "broadcast", "slice", "reverse", "concat", "cast"})


@dataclass(frozen=True, slots=True)
class Bound:
    """``kind`` is "lengths" (0..size), "index" (0..size-1), "place" (-size..size-1: negative ones count from the end)
    or "longest" (0..size, the largest being size itself).

    ``layer``: where the op stands that needs it.
    """

    kind: str
    size: Dim
    layer: str = ""

    def highest(self, dims: Dims) -> int:
        """The greatest value allowed."""
        (size,) = resolve((self.size,), dims)
        return size - 1 if self.kind in ("index", "place") else size

    def lowest(self, dims: Dims) -> int:
        """The least value allowed."""
        return -resolve((self.size,), dims)[0] if self.kind == "place" else 0


def integer_bounds(value: Value) -> tuple[Bound, ...]:
    """The distinct bounds that the users of an integer value set, also through ops that only move it."""
    return tuple(dict.fromkeys(_bounds(value, set()))) if value.type.dtype.kind == "int" else ()


def input_bounds(graph: Graph) -> dict[str, tuple[Bound, ...]]:
    """`integer_bounds` of every input that has some, by name."""
    found = {n: integer_bounds(v) for n, v in zip(graph.input_names, graph.inputs, strict=True)}
    return {n: b for n, b in found.items() if b}


def _bounds(value: Value, seen: set[Value]) -> Iterator[Bound]:
    if value in seen:
        return
    seen.add(value)
    for op, i in value.uses:
        yield from _bound(op, i, seen)


def _bound(op: Op, i: int, seen: set[Value]) -> Iterator[Bound]:
    value = op.operands[i]
    if op.opdef is SCAN:
        scan = Scan(op)
        if scan.attrs.lengths and i == len(op.operands) - 1:
            yield Bound("lengths", scan.attrs.steps, op.layer)
        elif i >= len(scan.attrs.carries):
            yield from _bounds(scan.body.args[i], seen)
    elif op.opdef is RNN:
        if value is Rnn(op).lengths:
            yield Bound("lengths", Rnn(op).x.shape[0], op.layer)
    elif op.name == "gather" and i == 1:
        yield Bound("index", op.operands[0].shape[0], op.layer)
    elif op.name in ("take", "gather_elements", "scatter_elements") and i == 1:
        axis = getattr(op.attrs, "axis", 0)
        yield Bound("place", op.operands[0].shape[axis], op.layer)
    elif op.name in MOVES and op.result.type.dtype.kind == "int":
        # a take checks its own indices when it runs, and what a slice leaves out need not be one
        yield from (b for b in _bounds(op.result, seen) if not (op.name == "slice" and b.kind == "place"))
