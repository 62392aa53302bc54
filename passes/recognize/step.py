"""Reads the body of a scan into polynomials, columns by columns.

Slices, concats and broadcasts are resolved on the way, so fused and per-gate forms read the same. A sequence that is
added to the gates is followed to its producer outside the scan: there an already hoisted projection x @ W is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from rnngraph.ir import Op, Scan, Value, ops
from rnngraph.passes.recognize.polynomial import (
    MAX_TERMS,
    ONE,
    Apply,
    Atom,
    Dot,
    Input,
    Monomial,
    Other,
    Polynomial,
    State,
    Vector,
)

MAX_DEPTH = 80  # ops in a row that are read; what is deeper stays an atom, so that no body exhausts the stack


@dataclass(frozen=True, slots=True)
class View:
    """Columns ``lo : lo+n`` (last axis) of a value.

    base      it is the left operand of a matmul: there a sequence is not followed further
    sequence  it stands outside the scan and has time as its first axis
    """

    value: Value
    lo: int
    n: int
    base: bool = False
    sequence: bool = False

    def of(self, value: Value, shift: int = 0) -> View:
        return replace(self, value=value, lo=self.lo + shift)


class Step:
    """One scan's body as polynomials; results are remembered, so reading is linear in the body."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan
        self._known: dict[View, Polynomial] = {}
        self._depth = 0
        self._varying = dict.fromkeys(scan.body.args)
        for op in scan.body.ops:
            inner = [v for block in op.blocks for v in block.captures()]
            if any(v in self._varying for v in (*op.operands, *inner)):
                self._varying.update(dict.fromkeys(op.results))

    def read(self, value: Value) -> Polynomial:
        """All columns of a value of the body."""
        n = value.shape[-1] if value.shape else 1
        if not isinstance(n, int):
            return Polynomial.of(Other(value, 0, 0))
        return self._read(View(value, 0, n))

    def varies(self, value: Value) -> bool:
        """Whether ``value`` depends on a state or a sequence, and so changes from step to step."""
        return value in self._varying

    def _read(self, view: View) -> Polynomial:
        if view not in self._known:
            self._depth += 1
            found = self._argument(view)
            if found is None and self._depth <= MAX_DEPTH:
                found = self._compute(view)
            self._depth -= 1
            self._known[view] = Polynomial.of(self._leaf(view)) if found is None else found
        return self._known[view]

    def _argument(self, view: View) -> Polynomial | None:
        """A state, or a sequence (followed outwards unless it feeds a matmul)."""
        if view.value.op is not None or view.value.block is not self.scan.body:
            return None
        index, carries = view.value.index, len(self.scan.attrs.carries)
        if index < carries:
            return Polynomial.of(State(index, view.lo, view.n))
        return self._read(replace(view, value=self.scan.xs[index - carries], sequence=True))

    def _leaf(self, view: View) -> Atom:
        value = view.value
        if view.sequence:
            return Input(value, view.lo, view.n)
        if value.type.rank == 1 and not self.varies(value):
            return Vector(value, view.lo, view.n)
        return Other(value, view.lo, view.n)

    def _compute(self, view: View) -> Polynomial | None:
        """The polynomial of an op's result; None when the op is not arithmetic on columns."""
        op = view.value.op
        if op is None or len(op.results) != 1 or (view.base and view.sequence):
            return None
        if op.name in ("slice", "concat", "broadcast", "const"):
            return self._move(op, view)
        if view.value.type.rank == 1 and not view.sequence and not self.varies(view.value):
            return None  # however it is computed, it is one vector
        if op.name == "matmul":
            return self._matmul(op, view)
        if ops.is_elementwise(op):
            return self._arithmetic(op, view)
        return None

    # --- moves -----------------------------------------------------------------------------------------------

    def _move(self, op: Op, view: View) -> Polynomial | None:
        if isinstance(op.attrs, ops.ConstAttrs):
            return _constant(op, view)
        if isinstance(op.attrs, ops.BroadcastAttrs):
            return self._broadcast(op, op.attrs, view)
        parts = list(_pieces(view))
        if len(parts) == 1 and parts[0].value is not view.value:
            return self._read(parts[0])
        return None

    def _broadcast(self, op: Op, attrs: ops.BroadcastAttrs, view: View) -> Polynomial | None:
        (source,) = op.operands
        if source.type.rank == 0:
            producer = source.op
            return _constant(producer, view) if producer is not None and producer.name == "const" else None
        if attrs.axes[-1] != len(attrs.shape) - 1:
            return None
        return self._read(replace(view, value=source, sequence=view.sequence and attrs.axes[0] == 0))

    # --- arithmetic ------------------------------------------------------------------------------------------

    def _matmul(self, op: Op, view: View) -> Polynomial | None:
        left, weight = op.operands
        k = left.shape[-1]
        if weight.type.rank != 2 or not isinstance(k, int) or self.varies(weight):
            return None
        terms: dict[Monomial, float] = {}
        row = 0
        for piece in _pieces(View(left, 0, k, base=True, sequence=view.sequence)):
            rectangle = _rectangle(weight, row, piece.n, view.lo, view.n)
            for m, c in self._read(_whole(piece)).terms.items():
                key: Monomial = frozenset([(Dot(m, piece.lo, *rectangle), 1)])
                terms[key] = terms.get(key, 0.0) + c
            row += piece.n
        return Polynomial(terms)

    def _arithmetic(self, op: Op, view: View) -> Polynomial | None:
        if len(op.operands) == 1 and op.name != "neg":  # what a function reads is not what the matmul reads
            view = replace(view, base=False)
        args = [self._read(view.of(v)) for v in op.operands]
        match op.name:
            case "add":
                return args[0] + args[1]
            case "sub":
                return args[0] - args[1]
            case "neg":
                return -args[0]
            case "mul":
                return _product(*args)
            case "div":
                return _quotient(*args)
            case "max" if 0.0 in (args[0].number, args[1].number):
                return Polynomial.of(Apply("relu", args[0] + args[1]))
        return Polynomial.of(Apply(op.name, args[0])) if len(args) == 1 else None


def _whole(view: View) -> View:
    """All columns of the value, so that parts of one base are parts of equal atoms."""
    n = view.value.shape[-1]
    return replace(view, lo=0, n=n) if isinstance(n, int) else view


def _product(a: Polynomial, b: Polynomial) -> Polynomial | None:
    return a * b if len(a.terms) * len(b.terms) <= MAX_TERMS else None


def _quotient(a: Polynomial, b: Polynomial) -> Polynomial | None:
    """a / b, where 1 / (1 + exp(-p)) is read as sigmoid(p)."""
    if b.number:
        return a.scaled(1.0 / b.number)
    for atom in b.atoms():
        if isinstance(atom, Apply) and atom.function == "exp" and b == Polynomial.constant(1.0) + Polynomial.of(atom):
            return _product(a, Polynomial.of(Apply("sigmoid", -atom.argument)))
    return _product(a, Polynomial.of(Apply("reciprocal", b)))


def _constant(op: Op, view: View) -> Polynomial | None:
    assert isinstance(op.attrs, ops.ConstAttrs)
    literal = op.attrs.value
    if literal.splat is not None:
        return Polynomial({ONE: float(literal.splat)})
    rows = literal.array.reshape(-1, literal.array.shape[-1])
    if literal.array.size and (rows == rows[0]).all() and np.isfinite(rows[0]).all():
        return Polynomial.of(Vector(op.result, view.lo, view.n))
    return None


def _pieces(view: View) -> Iterator[View]:
    """The columns of ``view`` in order, cut where a concat joins them, slices resolved."""
    op, last = view.value.op, view.value.type.rank - 1
    if op is not None and not (view.base and view.sequence):
        a = op.attrs
        if isinstance(a, ops.SliceAttrs) and a.axis == last and a.step == 1:
            dim = op.operands[0].shape[last]
            if isinstance(dim, int) and isinstance(a.start, int):
                yield from _pieces(view.of(op.operands[0], a.start if a.start >= 0 else dim + a.start))
                return
        if isinstance(a, ops.ConcatAttrs) and a.axis == last and isinstance(op.result.shape[last], int):
            at = 0
            for part in op.operands:
                width = part.shape[last]
                assert isinstance(width, int)
                lo, hi = max(view.lo, at), min(view.lo + view.n, at + width)
                if lo < hi:
                    yield from _pieces(replace(view, value=part, lo=lo - at, n=hi - lo))
                at += width
            return
    yield view


def _rectangle(weight: Value, row: int, rows: int, col: int, cols: int) -> tuple[Value, int, int, int, int]:
    """The same rectangle of the weight that slices and concats were made of, as far back as it lies in one."""
    while (op := weight.op) is not None:
        a, dims = op.attrs, op.operands[0].shape if op.operands else ()
        if isinstance(a, ops.SliceAttrs) and a.step == 1 and isinstance(dim := dims[a.axis], int):
            if not isinstance(a.start, int):
                break
            start = a.start if a.start >= 0 else dim + a.start
            weight = op.operands[0]
            row, col = (row + start, col) if a.axis == 0 else (row, col + start)
        elif isinstance(a, ops.ConcatAttrs):
            lo, n = (row, rows) if a.axis == 0 else (col, cols)
            found = _part(op, a.axis, lo, n)
            if found is None:
                break
            weight, lo = found
            row, col = (lo, col) if a.axis == 0 else (row, lo)
        else:
            break
    return weight, row, rows, col, cols


def _part(concat: Op, axis: int, lo: int, n: int) -> tuple[Value, int] | None:
    """The operand of ``concat`` that holds ``lo : lo+n``, and where it starts there; None when it lies in several."""
    at = 0
    for part in concat.operands:
        width = part.shape[axis]
        assert isinstance(width, int)
        if at <= lo and lo + n <= at + width:
            return part, lo - at
        at += width
    return None
