"""Lane analysis: what a body computes, as instances over lanes.

A body works on rows (batch, or time x batch) and lanes (the last axis). An `Instance` is a base value seen through a
window of lanes ``[off, off + n)``: split, concat and slice are never executed, they are offsets; an elementwise op on
a fused [B, 4H] vector becomes one instance per gate for free. Row scalars (a reduction's result, a per-row gate) are
instances with ``n == ROW``. See docs/architecture.md, "Phases".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from rnngraph.ir import BOOL, F32, I32, Op, Value
from rnngraph.ir.grid_ops import ShiftRowsAttrs
from rnngraph.ir.ops import CAST, BroadcastAttrs, ConcatAttrs, ConstAttrs, ReduceAttrs, SliceAttrs, is_elementwise
from rnngraph.phases.instances import ROW, Instance, Kind, Leaf, Piece, Source
from rnngraph.phases.static import is_static

LANES = (F32, BOOL, I32)  # what a lane may be
INTEGER_OPS = frozenset({"add", "sub", "mul", "min", "max", "neg", "abs", "sign", "lt", "le", "gt", "ge", "eq", "ne",
                         "select"})


class Unsupported(Exception):
    """The body holds something that phases cannot express; the message is the reason, in the user's words."""


_Key: TypeAlias = tuple[int, int, int, bool]  # value, offset, extent, whether computed although stored
MAX_DEPTH = 60  # of nested requests for operands
MAX_PIECES = 128  # of a join that is looked through: each is code of its own


class _TooDeep(Exception):
    """A request that must be served before the one that asked for it."""

    def __init__(self, key: _Key, make: Callable[[], Instance]) -> None:
        super().__init__()
        self.key = key
        self.make = make


class NeedsStore(Exception):
    """Analysis found a value that must be kept in memory between phases; it starts over knowing it."""

    def __init__(self, value: Value) -> None:
        super().__init__()
        self.value = value


@dataclass(slots=True)
class LaneAnalysis:
    """Builds instances of a body. ``rows`` are the leading dims of a row-wise value, ``stored`` the values that an
    earlier phase writes to a temporary in full."""

    rows: tuple[int | str, ...]
    leaves: Mapping[Value, Leaf]
    stored: Sequence[Value] = ()
    memo: dict[_Key, Instance] = field(default_factory=dict)
    depth: int = 0  # of the request being served

    # --- windows ---------------------------------------------------------------------------------------------

    def lanes_of(self, value: Value) -> int:
        """The lane extent of a row-wise value; Unsupported when it is not one."""
        shape = value.shape
        if len(shape) != len(self.rows) + 1 or shape[:-1] != self.rows or not isinstance(shape[-1], int):
            raise Unsupported(f"{_name(value)} has type {value.type}; a step computes on "
                              f"[{','.join(map(str, self.rows))},n] with a known n")
        return shape[-1]

    def resolve(self, value: Value, off: int, n: int, *, through: bool = False) -> list[tuple[Value, int, int, int]]:
        """The pieces (base, offset, extent, position) that make up lanes [off, off + n) of ``value``; ``through``
        looks behind a stored value, for the phase that stores it."""
        op = value.op
        if op is None or (not through and (value in self.leaves or value in self.stored)):
            return [(value, off, n, 0)]
        if isinstance(op.attrs, SliceAttrs) and op.attrs.axis == len(self.rows) and op.attrs.step == 1:
            start = op.attrs.start
            if not isinstance(start, int):
                raise Unsupported(f"{_name(value)} is cut out at the lane {start}, which the code must know")
            if start < 0:
                start += self.lanes_of(op.operands[0])
            return self.resolve(op.operands[0], start + off, n)
        if isinstance(op.attrs, ConcatAttrs) and op.attrs.axis == len(self.rows):
            pieces, at = [], 0
            for operand in op.operands:
                width = self.lanes_of(operand)
                lo, hi = max(off, at), min(off + n, at + width)
                if lo < hi:
                    for base, o, m, pos in self.resolve(operand, lo - at, hi - lo):
                        pieces.append((base, o, m, lo - off + pos))
                    if sum(not _is_shift(v) for v, *_ in pieces) > MAX_PIECES:  # taps share their code
                        raise Unsupported(f"{_name(value)} is joined from more than {MAX_PIECES} pieces")
                at += width
            return pieces
        return [(value, off, n, 0)]

    def bases(self, value: Value) -> list[Value]:
        """What must be in memory for ``value`` to be read as a matmul's left side: its pieces, at whatever rows."""
        found: list[Value] = []
        todo = [(value, 0, self.lanes_of(value))]
        while todo:
            for base, off, n, _ in self.resolve(*todo.pop()):
                if _is_shift(base) and base not in self.leaves and base.op is not None:
                    todo.append((base.op.operands[0], off, n))
                else:
                    found.append(base)
        return found

    # --- lanes -----------------------------------------------------------------------------------------------

    def get(self, value: Value, off: int, n: int) -> Instance:
        """The instance of ``value`` over lanes [off, off + n)."""
        pieces = self.resolve(value, off, n)
        if len(pieces) > 1:  # an op computes on a join: keep the join in memory
            raise NeedsStore(value)
        base, off, n, _ = pieces[0]
        return self._memo(base, off, n, computed=False)

    def roots(self, value: Value) -> list[tuple[int, Instance]]:
        """What to store, and at which lane, so that ``value`` is in memory in full. A row scalar is one lane."""
        if value.shape == self.rows:
            row = self.get_row(value) if self.depth else self._solve(lambda: self.get_row(value))
            return [(0, Instance(Kind.ROW_SPLAT, value, 0, 1, (row,), level=row.level))]
        out = []
        for base, o, m, pos in self.resolve(value, 0, self.lanes_of(value), through=value in self.stored):
            out.append((pos, self._root(base, o, m, computed=base is value)))
        return out

    def _root(self, base: Value, off: int, n: int, *, computed: bool) -> Instance:
        if self.depth:  # asked for from within
            return self._memo(base, off, n, computed=computed)
        return self._solve(lambda: self._memo(base, off, n, computed=computed))

    def _memo(self, v: Value, off: int, n: int, *, computed: bool) -> Instance:
        computed = computed and v in self.stored
        key = (id(v), off, n, computed)
        if key not in self.memo:
            make = self._compute if computed else self._make
            self._enter(key, lambda: make(v, off, n))
        return self.memo[key]

    def _enter(self, key: _Key, make: Callable[[], Instance]) -> None:
        """Make an instance. Instances ask for their operands; beyond `MAX_DEPTH` the request is handed up to
        `_solve`, which serves it first."""
        if self.depth >= MAX_DEPTH:
            raise _TooDeep(key, make)
        self.depth += 1
        try:
            instance = make()
        finally:
            self.depth -= 1
        instance.index = len(self.memo)
        self.memo[key] = instance

    def _solve(self, request: Callable[[], Instance]) -> Instance:
        """The result of a request, however deep the body is."""
        waiting: list[tuple[_Key, Callable[[], Instance]]] = []
        while True:
            try:
                if not waiting:
                    return request()
                key, make = waiting[-1]
                if key not in self.memo:
                    self._enter(key, make)
                waiting.pop()
            except _TooDeep as e:
                waiting.append((e.key, e.make))

    def _make(self, v: Value, off: int, n: int) -> Instance:
        if v in self.leaves:
            self._check(v)
            return Instance(Kind.LOAD, v, off, n, leaf=self.leaves[v])
        if v in self.stored:
            level = max(i.level for _, i in self.roots(v)) + 1
            leaf = Leaf(Source.TEMPORARY, f"tmp{self.stored.index(v)}")
            return Instance(Kind.LOAD, v, off, n, leaf=leaf, level=level)
        return self._compute(v, off, n)

    def _compute(self, v: Value, off: int, n: int) -> Instance:
        op = v.op
        if op is None:
            raise Unsupported(f"{_name(v)} is not an operand of this loop")
        if is_lanewise(op):
            self.lanes_of(v)
            self._check(v)
            if op.name == "add" and (joined := self._joined_sum(v, off, n)) is not None:
                return joined
            args = tuple(self.get(a, off, n) for a in op.operands)
            return Instance(Kind.ELEMENTWISE, v, off, n, args, level=max(a.level for a in args))
        if op.name == "matmul":
            return self._matmul(op, v, off, n)
        if isinstance(op.attrs, BroadcastAttrs):
            return self._broadcast(op, op.attrs, off, n)
        if isinstance(op.attrs, ShiftRowsAttrs):
            return self._shifted(op.operands[0], op.attrs, off, n)
        if op.name == "reshape" and op.operands[0].shape == self.rows and v.shape == (*self.rows, 1):
            row = self.get_row(op.operands[0])
            return Instance(Kind.ROW_SPLAT, v, off, n, (row,), level=row.level)
        raise Unsupported(f"op {op.name} ({v.type}{_of(op)}) has no lane form in a fused loop")

    def _matmul(self, op: Op, v: Value, off: int, n: int) -> Instance:
        left, right = op.operands
        self._check(v)
        if right.type.rank != 2 or not is_static(right):
            raise Unsupported(f"the right side of matmul{_of(op)} ({right.type}) is not a constant matrix; "
                              "weights are packed at compile time")
        k = self.lanes_of(left)
        pieces, level = [], 0
        for base, o, m, pos in self.resolve(left, 0, k):
            load = self.get(base, o, m)
            if load.kind is not Kind.LOAD or load.leaf is None or load.leaf.source in (Source.VECTOR, Source.SCALAR):
                raise NeedsStore(base)
            level = max(level, load.level)
            pieces.append(Piece(load, right, pos, m))
        return Instance(Kind.MATMUL, v, off, n, pieces=tuple(pieces), level=level)

    def _shifted(self, source: Value, attrs: ShiftRowsAttrs, off: int, n: int) -> Instance:
        """Memory read at other rows."""
        pieces = self.resolve(source, off, n)
        if len(pieces) > 1:
            raise NeedsStore(source)
        base, o, m, _ = pieces[0]
        load = self._memo(base, o, m, computed=False)
        if load.kind is not Kind.LOAD or load.leaf is None or load.leaf.source in (Source.VECTOR, Source.SCALAR):
            raise NeedsStore(base)
        image = attrs.image if load.shift == 0 else math.lcm(attrs.image, load.image)  # 0 stays 0
        return Instance(Kind.LOAD, load.value, o, m, leaf=load.leaf, level=load.level, shift=load.shift + attrs.by,
                        image=image)

    def _joined_sum(self, v: Value, off: int, n: int) -> Instance | None:
        """x @ W + b + h @ R as one accumulation over the pieces of both matmuls, then the other terms; None when the
        sum does not have two matmuls of its own. Reassociates, so it rounds a little differently."""
        terms = self._terms(v)
        own = [t for t in terms if t.op is not None and t.op.name == "matmul" and self._is_own(t)]
        if len(own) < 2:
            return None
        parts = [self.get(t, off, n) for t in own]
        pieces = tuple(p for m in parts for p in m.pieces)
        total = Instance(Kind.MATMUL, v, off, n, pieces=pieces, level=max(m.level for m in parts))
        for rest in (self.get(t, off, n) for t in terms if t not in own):
            level = max(total.level, rest.level)
            total.index = len(self.memo)
            total = Instance(Kind.ELEMENTWISE, v, off, n, (total, rest), level=level)
        return total

    def _terms(self, v: Value) -> list[Value]:
        """The terms of a tree of additions whose inner sums nobody else uses."""
        assert v.op is not None
        out: list[Value] = []
        for operand in v.op.operands:
            inner = operand.op is not None and operand.op.name == "add" and self._is_own(operand)
            out += self._terms(operand) if inner else [operand]
        return out

    def _is_own(self, v: Value) -> bool:
        """Computed here, for one user only."""
        return len(v.uses) == 1 and v not in self.leaves and v not in self.stored

    def _broadcast(self, op: Op, attrs: BroadcastAttrs, off: int, n: int) -> Instance:
        rank, source, v = len(self.rows), op.operands[0], op.result
        self.lanes_of(v)
        self._check(v)
        if attrs.axes == ():
            return self._splat(source, v, off, n)
        if attrs.axes == (rank,):
            if source not in self.leaves:
                raise Unsupported(f"vector {_name(source)}{_of(op)} is computed inside the step; "
                                  "hoist-invariant moves it out")
            return Instance(Kind.LOAD, source, off, n, leaf=_role(self.leaves[source], Source.VECTOR))
        if attrs.axes == tuple(range(rank)):
            row = self.get_row(source)
            return Instance(Kind.ROW_SPLAT, v, off, n, (row,), level=row.level)
        raise Unsupported(f"broadcast of {source.type} to {v.type}{_of(op)} is not along rows or lanes alone")

    def _splat(self, source: Value, v: Value, off: int, n: int) -> Instance:
        op = source.op
        if op is not None and isinstance(op.attrs, ConstAttrs):
            return Instance(Kind.SPLAT, v, off, n, number=float(op.attrs.value.array))
        if source in self.leaves:
            return Instance(Kind.LOAD, source, off, n, leaf=_role(self.leaves[source], Source.SCALAR))
        raise Unsupported(f"scalar {_name(source)} is computed inside the step")

    # --- row scalars -----------------------------------------------------------------------------------------

    def get_row(self, value: Value) -> Instance:
        """The instance of a row scalar: a value of exactly the rows' shape, or one lane that `_is_row`."""
        key = (id(value), -1, ROW, False)
        if key not in self.memo:
            self._enter(key, lambda: self._make_row(value))
        return self.memo[key]

    def _make_row(self, v: Value) -> Instance:
        if v.shape == (*self.rows, 1):
            return self._lane_as_row(v)
        if v.shape != self.rows:
            raise Unsupported(f"{_name(v)} has type {v.type}, expected one number per row")
        self._check(v)
        if v in self.leaves:
            return Instance(Kind.LOAD, v, 0, ROW, leaf=_role(self.leaves[v], Source.ROW))
        op = v.op
        if op is None:
            raise Unsupported(f"{_name(v)} is not an operand of this loop")
        if is_lanewise(op):
            args = tuple(self.get_row(a) for a in op.operands)
            return Instance(Kind.ELEMENTWISE, v, 0, ROW, args, level=max(a.level for a in args))
        rank = len(self.rows)
        if isinstance(op.attrs, ReduceAttrs) and op.attrs.axes == (rank,) and "reduce" in op.opdef.tags:
            return self._reduce(v, op.operands[0])
        if op.name == "reshape" and op.operands[0].shape == (*self.rows, 1):
            return self._reduce(v, op.operands[0])
        if isinstance(op.attrs, BroadcastAttrs) and op.attrs.axes == ():
            return self._splat(op.operands[0], v, 0, ROW)
        raise Unsupported(f"op {op.name} ({v.type}{_of(op)}) has no form as one number per row")

    def _reduce(self, v: Value, source: Value) -> Instance:
        lanes = self.lanes_of(source)
        if lanes == 1 and self._is_row(source):
            return self.get_row(source)
        if v.type.dtype is not F32:
            raise Unsupported(f"a reduction of {source.type} to {_name(v)}: fused loops reduce f32")
        arg = self.get(source, 0, lanes)
        return Instance(Kind.REDUCE, v, 0, ROW, (arg,), level=arg.level + 1)

    def _is_row(self, value: Value) -> bool:
        """Whether a value of one lane is made of lanes of memory, numbers and row scalars alone. Then it is a row
        scalar too: it needs no reduction, and no phase of its own before its users."""
        todo, seen = [value], set[Value]()
        while todo:
            base, _, _, _ = self.resolve(todo.pop(), 0, 1)[0]
            if base in seen:
                continue
            seen.add(base)
            op = base.op
            if base in self.leaves:
                if self.leaves[base].source not in (Source.SEQUENCE, Source.CARRY, Source.CAPTURE):
                    return False
            elif base in self.stored or op is None or base.shape != (*self.rows, 1):
                return False
            elif is_lanewise(op):
                todo += op.operands
            elif isinstance(op.attrs, BroadcastAttrs):
                source = op.operands[0].op
                number = op.attrs.axes == () and source is not None and isinstance(source.attrs, ConstAttrs)
                if not number and op.operands[0].shape != self.rows:
                    return False
            elif op.name != "reshape" or op.operands[0].shape != self.rows:
                return False
        return True

    def _lane_as_row(self, v: Value) -> Instance:
        """The row scalar of a lane that `_is_row`."""
        base, off, _, _ = self.resolve(v, 0, 1)[0]
        if base in self.leaves:
            self._check(base)
            return Instance(Kind.LOAD, base, off, ROW, leaf=self.leaves[base])
        op = base.op
        assert op is not None
        if is_lanewise(op):
            args = tuple(self.get_row(a) for a in op.operands)
            return Instance(Kind.ELEMENTWISE, base, 0, ROW, args, level=max(a.level for a in args))
        if isinstance(op.attrs, BroadcastAttrs) and op.attrs.axes == ():
            return self._splat(op.operands[0], base, 0, ROW)
        return self.get_row(op.operands[0])

    def _check(self, v: Value) -> None:
        """f32; bool, which memory holds as the f32 numbers 0 and 1; or i32, by its bits."""
        if v.type.dtype not in LANES:
            raise Unsupported(f"{_name(v)} has dtype {v.type.dtype}; fused loops compute in f32 and i32")


def is_lanewise(op: Op) -> bool:
    """Elementwise on lanes of f32, bool or i32; casts between these are."""
    if op.opdef is CAST:
        return all(v.type.dtype in LANES for v in (*op.operands, *op.results))
    if not is_elementwise(op) or "interpreted" in op.opdef.tags:
        return False
    return op.name in INTEGER_OPS or all(v.type.dtype is not I32 for v in op.operands)


def _role(leaf: Leaf, source: Source) -> Leaf:
    """The leaf as it is read here; a sequence or carry stays one."""
    return leaf if leaf.source in (Source.SEQUENCE, Source.CARRY) else Leaf(source, f"{leaf.name}:{source.value}")


def _is_shift(v: Value) -> bool:
    return v.op is not None and isinstance(v.op.attrs, ShiftRowsAttrs)


def _name(v: Value) -> str:
    return f"value %{v.hint}" if v.hint else "a value"


def _of(op: Op) -> str:
    return f" of layer {op.layer}" if op.layer else ""
