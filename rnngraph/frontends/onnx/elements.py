"""Small vectors of integers that depend on the step of a loop, element by element: where a step slices a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

from rnngraph.errors import ShapeError
from rnngraph.ir import Dim, Op, Value, dims
from rnngraph.ir.ops import ConcatAttrs, ConstAttrs, SliceAttrs
from rnngraph.ir.size_ops import SizeAttrs
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor, wrap

MAX_ELEMENTS = 16
MAX_DEPTH = 64
Element = Dim | bool | None  # None where nothing is known

_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Dim]]] = {
    "add": dims.add, "sub": dims.sub, "mul": dims.mul, "max": dims.maximum, "min": dims.minimum}
_COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {
    "lt": int.__lt__, "le": int.__le__, "gt": int.__gt__, "ge": int.__ge__, "eq": int.__eq__, "ne": int.__ne__}


@dataclass
class Elements:
    """Reads values as elements; integers of one element that come into a step are symbols, taken to be 0 or more."""

    symbols: dict[str, Value] = field(default_factory=dict)
    found: dict[Value, list[Element] | None] = field(default_factory=dict)

    def of(self, value: Value, depth: int = 0) -> list[Element] | None:
        """The elements of a vector or scalar; None where its form does not show them."""
        if value not in self.found:
            self.found[value] = None
            count = prod(d for d in value.shape if isinstance(d, int))
            if depth <= MAX_DEPTH and count <= MAX_ELEMENTS and all(isinstance(d, int) for d in value.shape):
                try:
                    self.found[value] = self._read(value, count, depth + 1)
                except ShapeError:  # a size beyond what dims can express
                    pass
        return self.found[value]

    def number(self, dim: Dim) -> Tensor | None:
        """The value, an i64, that a sum of multiples of symbols and of sizes is; None for other forms."""
        total: Tensor | None = None
        for name, value in self.symbols.items():
            if not isinstance(dim, str) or name not in dims.symbols_of(dim):
                continue
            at = [dims.substitute(dim, {name: i}) for i in (0, 1, 2)]
            change = dims.sub(at[1], at[0])
            if not isinstance(change, int) or change == 0 or dims.sub(at[2], at[1]) != change:
                return None
            part = ops.reshape(ops.cast(wrap(value), "i64"), ()) * change
            total = part if total is None else total + part
            dim = at[0]
        if total is None:
            return None
        return total + (ops.size_of(dim, "i64") if isinstance(dim, str) else dim)

    def _read(self, value: Value, count: int, depth: int) -> list[Element] | None:
        op = value.op
        if op is None:
            if count != 1 or value.type.dtype.kind != "int":
                return None
            name = f"the_step_{len(self.symbols)}"
            self.symbols[name] = value
            return [name]
        if isinstance(op.attrs, ConstAttrs):
            return [_plain(v) for v in op.attrs.value.array.reshape(-1).tolist()]
        if isinstance(op.attrs, SizeAttrs):
            return [op.attrs.dim]
        parts = [self.of(v, depth) for v in op.operands]
        known = [p for p in parts if p is not None]
        return _apply(op, known, count) if len(known) == len(parts) else None


def _plain(number: float | bool) -> Element:
    if isinstance(number, bool):
        return number
    return int(number) if float(number).is_integer() else None


def _apply(op: Op, parts: Sequence[list[Element]], count: int) -> list[Element] | None:
    if isinstance(op.attrs, ConcatAttrs):
        return [e for p in parts for e in p] if op.result.type.rank == 1 else None
    if isinstance(op.attrs, SliceAttrs):
        start, size, step = op.attrs.start, op.attrs.size, op.attrs.step
        if op.result.type.rank != 1 or not isinstance(start, int) or start < 0 or not isinstance(size, int):
            return None
        return parts[0][start::step][:size]
    if op.name in ("cast", "reshape", "broadcast"):
        return parts[0] if len(parts[0]) == count else parts[0] * count if len(parts[0]) == 1 else None
    if any(len(p) != count for p in parts):
        return None
    return [_element(op.name, column) for column in zip(*parts, strict=True)]


def _element(name: str, operands: Sequence[Element]) -> Element:
    if name == "and":
        return False if any(e is False for e in operands) else True if all(e is True for e in operands) else None
    if name == "not":
        return not operands[0] if isinstance(operands[0], bool) else None
    if name == "select":
        return None if not isinstance(operands[0], bool) else operands[1] if operands[0] else operands[2]
    if any(e is None or isinstance(e, bool) for e in operands) or len(operands) != 2:
        return None
    if name in _ARITHMETIC:
        return _ARITHMETIC[name](*operands)
    if name in _COMPARISONS and all(isinstance(e, int) for e in operands):
        return _COMPARISONS[name](*(int(e) for e in operands if isinstance(e, int)))
    return None
