"""Induction: the integers of a loop that follow from the number of its step, as ``start + step * i``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rnngraph.errors import ShapeError
from rnngraph.ir import dims
from rnngraph.ir.core import Op, Value
from rnngraph.ir.ops import ConstAttrs
from rnngraph.ir.scan import Scan
from rnngraph.ir.size_ops import SizeAttrs
from rnngraph.ir.types import F32, F64, Dim, DType

MAX_DEPTH = 64  # of the arithmetic behind one integer
_STATE = "the_state"  # stands for a carry while it is asked what a step adds to it
_THROUGH = ("cast", "reshape", "broadcast")  # one element stays that element


@dataclass(frozen=True, slots=True)
class Affine:
    """``start + step * i`` in step i = 0, 1, ...; the start may be a size."""

    start: Dim
    step: int = 0

    def plus(self, other: Affine) -> Affine:
        return Affine(dims.add(self.start, other.start), self.step + other.step)

    def times(self, factor: int) -> Affine:
        return Affine(dims.mul(self.start, factor), self.step * factor)

    def reversed(self, steps: Dim) -> Affine:
        """The same where i counts from the last of so many steps to the first."""
        return Affine(dims.add(self.start, dims.mul(self.step, dims.sub(steps, 1))), -self.step)


def affine(value: Value, known: Mapping[Value, Affine]) -> Affine | None:
    """The value, an integer, in terms of what is known of others; None where its form does not show it."""
    return _Reader(known).of(value, 0)


class _Reader:
    """Reads each value once, however often others are made of it."""

    def __init__(self, known: Mapping[Value, Affine]) -> None:
        self.found: dict[Value, Affine | None] = dict(known)

    def of(self, value: Value, depth: int) -> Affine | None:
        if value not in self.found:
            self.found[value] = self._read(value, depth)
        return self.found[value]

    def _read(self, value: Value, depth: int) -> Affine | None:
        op = value.op
        if op is None or depth > MAX_DEPTH or any(d != 1 for d in value.shape):
            return None
        if value.type.dtype.kind != "int" and not _holds_integers(op, value.type.dtype):
            return None
        try:
            return self._of_op(op, depth)
        except ShapeError:  # a size beyond what dims can express
            return None

    def _of_op(self, op: Op, depth: int) -> Affine | None:
        if isinstance(op.attrs, ConstAttrs):
            return Affine(int(op.attrs.value.array.reshape(-1)[0]))
        if isinstance(op.attrs, SizeAttrs):
            return Affine(op.attrs.dim)
        if op.name not in (*_THROUGH, "add", "sub", "mul", "neg"):
            return None
        parts = [self.of(v, depth + 1) for v in op.operands]
        found = [p for p in parts if p is not None]
        if len(found) != len(parts):
            return None
        if op.name in _THROUGH:
            return found[0]
        if op.name == "neg":
            return found[0].times(-1)
        a, b = found
        if op.name in ("add", "sub"):
            return a.plus(b if op.name == "add" else b.times(-1))
        for x, y in ((a, b), (b, a)):
            if x.step == 0 and isinstance(x.start, int):
                return y.times(x.start)
        return None


def _holds_integers(op: Op, dtype: DType) -> bool:
    """A float that was an integer before: tf2onnx compares counters and sizes as floats. They are exact up to 2**24."""
    if dtype not in (F32, F64):
        return False
    return op.name in _THROUGH or (isinstance(op.attrs, ConstAttrs)
                                   and float(op.attrs.value.array.reshape(-1)[0]).is_integer())


def counters(args: Sequence[Value], initial: Sequence[Value], following: Sequence[Value]) -> dict[Value, Affine]:
    """The carries to which every step adds the same number, or none, by the number of the steps run before."""
    found: dict[Value, Affine] = {}
    for arg, first, after in zip(args, initial, following, strict=True):
        if arg.type.dtype.kind != "int":
            continue
        start, change = affine(first, {}), affine(after, {arg: Affine(_STATE)})
        if start is None or change is None or change.step:
            continue
        added = dims.sub(change.start, _STATE)
        if isinstance(added, int):
            found[arg] = Affine(start.start, added)
    return found


def of_scan(scan: Scan) -> dict[Value, Affine]:
    """What a step's integers are in terms of its place t in the sequences, whichever way time runs."""
    found = {arg: Affine(0, 1) for arg, x in zip(scan.x_args, scan.xs, strict=True) if _is_iota(x)}
    if scan.lengths is None:
        for arg, by_step in counters(scan.carry_args, scan.inits, scan.next_carries).items():
            found[arg] = by_step.reversed(scan.attrs.steps) if scan.attrs.reverse else by_step
    return found


def _is_iota(value: Value) -> bool:
    op = value.op
    while op is not None and op.name == "cast" and op.result.type.dtype.kind == "int":
        op = op.operands[0].op
    return op is not None and op.name == "iota"


# --- conditions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Below:
    """The condition ``start + step * i < end``, for one i after the other."""

    start: Dim
    step: int
    end: Dim

    @property
    def margin(self) -> Dim:
        """It holds at i = 0 where this is above 0."""
        return dims.sub(self.end, self.start)

    @property
    def always(self) -> bool:
        """Whether it holds for every i, as far as the form shows."""
        return self.step <= 0 and dims.is_nonnegative(dims.sub(self.margin, 1))

    def steps(self) -> Dim | None:
        """For how many i = 0, 1, ... it holds before it fails; None where the form does not show it."""
        return dims.maximum(dims.ceildiv(self.margin, self.step), 0) if self.step > 0 else None

    def before(self) -> Below:
        """The same condition where i counts from -1."""
        return Below(dims.sub(self.start, self.step), self.step, self.end)


def below(condition: Value, known: Mapping[Value, Affine]) -> list[Below] | None:
    """A condition as conditions that must hold together; None where its form does not show them."""
    found, all_of_it = needed(condition, known)
    return found if all_of_it else None


def needed(condition: Value, known: Mapping[Value, Affine]) -> tuple[list[Below], bool]:
    """(conditions that must hold for it to hold, as far as its form shows them; whether these are all)."""
    reader, found, seen, todo = _Reader(known), dict[Below, None](), {condition}, [condition]
    all_of_it = True
    while todo:
        at = todo.pop()
        op = at.op
        if op is None or any(d != 1 for d in at.shape):
            all_of_it = False
        elif op.name in ("and", *_THROUGH):
            if any(v.type.dtype.kind != "bool" for v in op.operands):
                all_of_it = False
                continue
            todo += [v for v in dict.fromkeys(op.operands) if v not in seen]
            seen.update(op.operands)
        elif not (isinstance(op.attrs, ConstAttrs) and op.attrs.value.array.all()):
            one = _comparison(op, reader)
            if one is None:
                all_of_it = False
            else:
                found[one] = None
    return [c for c in found if not any(_implies(o, c) for o in found if o is not c)], all_of_it


def _implies(a: Below, b: Below) -> bool:
    """Whether b holds wherever a does and is another condition."""
    return a.step == b.step and a.margin != b.margin and dims.is_nonnegative(dims.sub(b.margin, a.margin))


def _comparison(op: Op, reader: _Reader) -> Below | None:
    negated = op.name == "not"
    inner = op.operands[0].op if negated else op
    ordered = None if inner is None else _ordered(inner, negated=negated)
    if ordered is None:
        return None
    low, high, gap = ordered
    a, b = reader.of(low, 0), reader.of(high, 0)
    if a is None or b is None:
        return None
    return Below(a.start, a.step - b.step, dims.add(b.start, gap))


def _ordered(op: Op, *, negated: bool) -> tuple[Value, Value, int] | None:
    """(low, high, gap) of a comparison that says low < high + gap."""
    name = {"lt": "ge", "le": "gt", "gt": "le", "ge": "lt"}.get(op.name) if negated else op.name
    if name not in ("lt", "le", "gt", "ge"):
        return None
    a, b = op.operands
    low, high = (a, b) if name in ("lt", "le") else (b, a)
    return low, high, 1 if name in ("le", "ge") else 0
