"""Builds an rnn node's operands outside the scan, from the linear forms of its gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from rnngraph.ir import Builder, DType, Op, Scan, Value, ops
from rnngraph.ir.clone import clone_op
from rnngraph.passes.recognize.linear import Linear
from rnngraph.passes.recognize.polynomial import Dot, Input, State


@dataclass(frozen=True, slots=True)
class Piece:
    """coefficient * a rectangle of a weight (or columns of a vector), at row ``at`` of the result."""

    coefficient: float
    value: Value
    row: int
    rows: int
    col: int
    at: int


class Assembler:
    """Operands for one node whose gates have ``units`` columns: ``b`` inserts in front of the scan."""

    def __init__(self, b: Builder, scan: Scan, units: int) -> None:
        self.b = b
        self.scan = scan
        self.dtype: DType = scan.inits[0].type.dtype
        self.units = units
        self._lifted: dict[Value, Value] = {}

    def lift(self, value: Value) -> Value:
        """``value`` outside the scan; ops of the body that compute it from outside values are copied."""
        if value.op is None or value.op.parent is not self.scan.body:
            return value
        needed, stack = set[Op](), [value.op]
        while stack:
            op = stack.pop()
            if op not in needed and op.results[0] not in self._lifted:
                needed.add(op)
                sources = (v.op for v in (*op.operands, *(v for block in op.blocks for v in block.captures())))
                stack.extend(s for s in sources if s is not None and s.parent is self.scan.body)
        for op in self.scan.body.ops:
            if op in needed:
                copy = self.b.insert(clone_op(op, dict(self._lifted)))
                self._lifted.update(zip(op.results, copy.results, strict=True))
        return self._lifted[value]

    # --- x ---------------------------------------------------------------------------------------------------

    def sequence(self, forms: Sequence[Linear]) -> tuple[Value, dict[Value, int]]:
        """x, and the first row of W for each sequence that the gates read (several become one by concat)."""
        found = list(dict.fromkeys(base.value for f in forms for _, dot in f.inputs
                                   for base, _ in dot.base if isinstance(base, Input)))
        if not found:
            batch = self.scan.inits[0].shape[0]
            x = self.b.full(0.0, (self.scan.attrs.steps, batch, 1), self.dtype)
            return x, {}
        offsets, at = {}, 0
        for value in found:
            offsets[value] = at
            width = value.shape[2]
            assert isinstance(width, int)
            at += width
        return self.b.concat(found, 2), offsets

    def input_pieces(self, form: Linear, offsets: dict[Value, int]) -> list[Piece]:
        return [_piece(c, dot, offsets[base.value] + base.lo)
                for c, dot in form.inputs for base, _ in dot.base if isinstance(base, Input)]

    def state_pieces(self, form: Linear) -> list[Piece]:
        return [_piece(c, dot, base.lo) for c, dot in form.states for base, _ in dot.base if isinstance(base, State)]

    # --- weights ---------------------------------------------------------------------------------------------

    def matrix(self, gates: Sequence[list[Piece]], rows: int) -> Value:
        """[rows, gates * units]; neighbouring columns of one weight are taken in one slice."""
        if self._together(gates):
            return self._matrix(gates[0], rows, len(gates) * self.units)
        return self.b.concat([self._matrix(g, rows, self.units) for g in gates], 1)

    def projection(self, dot: Dot) -> Value:
        """The weight of one matmul, [rows, cols]."""
        return self._stack([_piece(1.0, dot, 0)], dot.rows, dot.cols)

    def vector(self, forms: Sequence[Linear]) -> Value:
        """[gates * units]: the sum of each gate's vectors and number."""
        gates = [[Piece(c, v.value, 0, 0, v.lo, 0) for c, v in f.vectors] for f in forms]
        if self._together(gates) and len({f.constant for f in forms}) == 1:
            return self._vector(gates[0], forms[0].constant, len(gates) * self.units)
        return self.b.concat([self._vector(g, f.constant, self.units) for g, f in zip(gates, forms, strict=True)], 0)

    def _together(self, gates: Sequence[list[Piece]]) -> bool:
        return all(gate == [replace(p, col=p.col + k * self.units) for p in gates[0]] for k, gate in enumerate(gates))

    def _matrix(self, pieces: list[Piece], rows: int, cols: int) -> Value:
        pieces = sorted(pieces, key=lambda p: p.at)
        apart = all(p.at + p.rows <= q.at for p, q in pairwise(pieces))
        groups = [pieces] if apart else [[p] for p in pieces]
        total: Value | None = None
        for group in groups:
            block = self._stack(group, rows, cols)
            total = block if total is None else self.b.add(total, block)
        assert total is not None
        return total

    def _stack(self, pieces: list[Piece], rows: int, cols: int) -> Value:
        """Pieces at their rows, zeros between them."""
        parts, at = [], 0
        for p in pieces:
            if p.at > at:
                parts.append(self._zeros(p.at - at, cols))
            block = self.b.slice(self.lift(p.value), 0, p.row, p.rows)
            parts.append(self._scaled(self.b.slice(block, 1, p.col, cols), p.coefficient))
            at = p.at + p.rows
        if at < rows:
            parts.append(self._zeros(rows - at, cols))
        return self.b.concat(parts, 0)

    def _vector(self, pieces: list[Piece], constant: float, n: int) -> Value:
        total: Value | None = None
        for p in pieces:
            part = self._scaled(self.b.slice(self._row(self.lift(p.value)), 0, p.col, n), p.coefficient)
            total = part if total is None else self.b.add(total, part)
        if total is None:
            return self._filled(constant, (n,))
        return self.b.add(total, self._filled(constant, (n,))) if constant else total

    def _row(self, value: Value) -> Value:
        """The one row of a constant whose rows are all equal."""
        n = value.shape[-1]
        for axis in range(value.type.rank - 1):
            value = self.b.slice(value, axis, 0, 1)
        return self.b.reshape(value, (n,))

    def _scaled(self, value: Value, factor: float) -> Value:
        if factor == 1.0:
            return value
        return self.b.op(ops.NEG, value) if factor == -1.0 else self.b.mul(value, factor)

    def _zeros(self, rows: int, cols: int) -> Value:
        return self._filled(0.0, (rows, cols))

    def _filled(self, value: float, shape: tuple[int, ...]) -> Value:
        return self.b.const(np.full(shape, value, self.dtype.numpy), self.dtype)


def _piece(coefficient: float, dot: Dot, first: int) -> Piece:
    """``first``: where the dot's base starts in the node's x or h."""
    return Piece(coefficient, dot.weight, dot.row, dot.rows, dot.col, first + dot.lo)
