"""From top-level ops to stages: what one native loop computes, and what is only a view of memory.

A rows stage computes row-wise ops once over all rows (T*B: the time-parallel GEMM); a scan stage runs a scan's body
step by step. Transposes, slices, reshapes, reversals and broadcasts between them are views: strides, never code.
A concat is a join: its operands are written straight into its buffer where possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from rnngraph.ir import BOOL, F32, I32, Dim, Op, Scan, Value
from rnngraph.ir.ops import BroadcastAttrs, ConcatAttrs, SliceAttrs
from rnngraph.phases.hazards import CarryMode, barriers, carry_modes
from rnngraph.phases.instances import Leaf, Source, leaves_of, walk
from rnngraph.phases.lanes import Unsupported, is_lanewise
from rnngraph.phases.nests import NESTS
from rnngraph.phases.partition import Partition, partition

VIEWS = frozenset({"transpose", "reshape", "slice", "reverse", "broadcast", "const", "shift_rows", "windows", "iota",
                   "size"})
ALONE = frozenset({"llvm.nest", "cupy.op", "cupy.interpreted", "cupy.host", "cupy.steps"})  # of ops in no stage
CALLS = "cupy.cudnn."  # implementations of rnn nodes that a library runs whole
ERRORS = {"tf32": 2.0**-11, "bf16": 2.0**-8}  # of a factor of a product, relative, in precisions other than f32
JOINS = frozenset({"concat", "pad"})  # a buffer of its own, that others are copied or written into


@dataclass(frozen=True, slots=True)
class Carry:
    """A scan's state: its buffer's name, lanes, where it starts, and the value that takes its end (if used)."""

    name: str
    n: int
    init: Value
    final: Value | None
    mode: CarryMode


@dataclass(frozen=True, slots=True)
class Shifts:
    """Memory that is read at other rows than its own.

    margins  how many rows in front of and behind a buffer are read, by its name; they hold zeros
    image    threads may share the rows of a scan between multiples of this; 0: not at all
    """

    margins: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    image: int = 1


NO_SHIFTS = Shifts()


@dataclass(slots=True)
class Stage:
    """One native loop.

    rows      dims of its rows: (T, B) or (B,) for a rows stage, (B,) for a scan's step; with images (B, rows, columns)
    steps     number of steps of a scan; None for a rows stage
    until     the carry, one lane wide, that says which rows are done; "" when every step runs
    impl      the implementation that a scan was selected for; of a rows stage that of its products,
              or, if it has none, of all its ops; "" for several
    inputs    memory that it reads, by the name in its argument table
    outputs   values that it writes
    """

    name: str
    rows: tuple[Dim, ...]
    partition: Partition
    inputs: dict[str, tuple[Leaf, Value]]
    outputs: dict[str, Value]
    steps: Dim | None = None
    reverse: bool = False
    carries: tuple[Carry, ...] = ()
    lengths: Value | None = None
    pad: str = "zero"
    waits: tuple[bool, ...] = ()
    shifts: Shifts = NO_SHIFTS
    until: str = ""
    impl: str = ""

    @property
    def is_scan(self) -> bool:
        return self.steps is not None

    @property
    def precision(self) -> str:
        """What its products are computed in: the end of the implementation's name says so."""
        return end if (end := self.impl.rpartition(".")[2]) in ERRORS else "f32"

    def reads(self) -> list[Value]:
        """Every value that must be in memory before the stage runs."""
        values = [v for _, v in self.inputs.values()] + [c.init for c in self.carries]
        return values + ([self.lengths] if self.lengths is not None else [])

    def writes(self) -> list[Value]:
        return list(self.outputs.values()) + [c.final for c in self.carries if c.final is not None]


class LeafNames(Mapping[Value, Leaf]):
    """The leaves of a loop, named in order of first use: every value that ``is_leaf`` accepts."""

    def __init__(self, fixed: Mapping[Value, Leaf], internal: frozenset[Op], rows: tuple[Dim, ...],
                 *, views: Callable[[Op], bool]) -> None:
        self.fixed = dict(fixed)
        self.internal = internal
        self.rows = rows
        self.views = views  # which ops outside of ``internal`` are looked through when they are lane views
        self.named: dict[Value, Leaf] = {}

    def __contains__(self, value: object) -> bool:
        return isinstance(value, Value) and (value in self.fixed or not self._is_inside(value))

    def _is_inside(self, v: Value) -> bool:
        """Computed by this loop, or a lane view of something that is."""
        op = v.op
        if op is None:
            return False
        return op in self.internal or (self.views(op) and is_lane_view(op, self.rows))

    def __getitem__(self, value: Value) -> Leaf:
        if value in self.fixed:
            return self.fixed[value]
        if value not in self.named:
            self.named[value] = Leaf(Source.CAPTURE, f"in{len(self.named)}")
        return self.named[value]

    def __iter__(self) -> Iterator[Value]:
        return iter([*self.fixed, *self.named])

    def __len__(self) -> int:
        return len(self.fixed) + len(self.named)


def is_lane_view(op: Op, rows: tuple[Dim, ...]) -> bool:
    """A move of lanes within ``rows``, which lane analysis turns into offsets."""
    if not op.results:  # the return that delivers the value
        return False
    a, shape = op.attrs, op.results[0].shape
    if isinstance(a, SliceAttrs | ConcatAttrs):
        return a.axis == len(rows) and shape[:-1] == rows
    if isinstance(a, BroadcastAttrs):
        per_row = a.axes == tuple(range(len(rows)))
        return (shape == rows and a.axes == ()) or (shape[:-1] == rows and (a.axes in ((), (len(rows),)) or per_row))
    if op.name == "shift_rows":
        return shape[:-1] == rows
    if op.name == "reshape":  # a row scalar seen as one lane, or back
        return {shape, op.operands[0].shape} == {rows, (*rows, 1)}
    return False


def is_foldable_reshape(op: Op) -> bool:
    """A reshape that only adds or drops dims of size one: a view whatever the strides."""
    return [d for d in op.operands[0].shape if d != 1] == [d for d in op.results[0].shape if d != 1]


def is_compute(op: Op) -> bool:
    """Row-wise arithmetic that a rows stage can run."""
    return is_lanewise(op) or op.name == "matmul" or "reduce" in op.opdef.tags


def is_nest(op: Op) -> bool:
    """An op that is a nest of loops of its own: it was selected so, or nothing else runs it."""
    return op.impl in ALONE or is_call(op) or (not op.impl and op.name in NESTS and not is_compute(op))


def is_call(op: Op) -> bool:
    """An rnn node that is one call of a library: it has no stages."""
    return op.name == "rnn" and op.impl.startswith(CALLS)


def rows_of(op: Op) -> tuple[Dim, ...]:
    """The rows of a compute op: all dims of its tensor but the last, if that is a known number of lanes."""
    v = op.operands[0] if "reduce" in op.opdef.tags else op.results[0]
    return v.shape if v.shape and isinstance(v.shape[-1], str) else v.shape[:-1]


def _fits_rows(op: Op, rows: tuple[Dim, ...]) -> bool:
    """Whether a compute op can join a stage with these rows, on lanes or as one number per row."""
    return rows_of(op) == rows or (is_lanewise(op) and op.results[0].shape == rows)


# --- building -----------------------------------------------------------------------------------------------------


def scan_stage(op: Op) -> Stage:
    """A scan as a stage. Raises Unsupported with the reason."""
    s = Scan(op)
    if not s.carry_args and not s.x_args:
        raise Unsupported("a scan without carries and sequences")
    rows = _scan_rows(s)
    fixed = {v: Leaf(Source.CARRY, f"c{i}") for i, v in enumerate(s.carry_args)}
    fixed |= {v: Leaf(Source.SEQUENCE, f"x{i}") for i, v in enumerate(s.x_args)}
    for v in (*s.carry_args, *s.x_args):
        if v.type.dtype not in ((F32, I32) if v in s.carry_args else (F32, BOOL, I32)):
            raise Unsupported(f"state or input %{v.hint} of layer {op.layer} has dtype {v.type.dtype}, expected f32 or "
                              "i32")
        if v.shape != rows and v.shape[:-1] != rows:
            if len(rows) > 1:
                raise Unsupported(_not_features(s, _widest(s)))
            raise Unsupported(f"state or input %{v.hint} of layer {op.layer} has type {v.type}; "
                              f"a step computes on [{','.join(map(str, rows))},n]")
    leaves = LeafNames(fixed, frozenset(s.body.ops), rows, views=lambda op: False)
    roots = [(f"c{i}", v) for i, v in enumerate(s.next_carries)] + [(f"y{i}", v) for i, v in enumerate(s.emitted)]
    if any(inner.blocks for inner in s.body.ops):
        raise Unsupported(f"layer {op.layer}: a loop within a step")
    parts = partition(rows, leaves, roots)
    modes = carry_modes(parts, [f"c{i}" for i in range(len(s.carry_args))])
    until = "" if s.until is None else f"c{s.until}"
    if s.until is not None and s.carry_args[s.until].type.dtype is not F32:
        raise Unsupported(f"the condition %{s.attrs.until} of layer {op.layer} has dtype "
                          f"{s.carry_args[s.until].type.dtype}, expected f32")
    if until:  # every phase of a step reads what the step before has written
        modes[until] = CarryMode.DOUBLE
    carries = tuple(Carry(f"c{i}", _width(a, rows), init, final if final.uses else None, modes[f"c{i}"])
                    for i, (a, init, final) in enumerate(zip(s.carry_args, s.inits, s.finals, strict=True)))
    inputs = {f"x{i}": (fixed[a], v) for i, (a, v) in enumerate(zip(s.x_args, s.xs, strict=True))}
    inputs |= _inputs(parts)
    return Stage(op.layer or "scan", rows, parts, inputs, {f"y{i}": v for i, v in enumerate(s.ys)}, s.attrs.steps,
                 s.attrs.reverse, carries, s.lengths, s.attrs.pad, barriers(parts, modes), _shifts(parts, op.layer),
                 until, op.impl)


def _scan_rows(s: Scan) -> tuple[Dim, ...]:
    widest = _widest(s)
    if widest.type.rank < 2:
        raise Unsupported(_not_features(s, widest))
    return widest.shape[:-1]


def _widest(s: Scan) -> Value:
    """The first of the values with the most dims: what is not one number per row."""
    return max((*s.carry_args, *s.emitted, *s.x_args), key=lambda v: v.type.rank)


def _not_features(s: Scan, v: Value) -> str:
    return f"%{v.hint} of layer {s.op.layer} is {v.type}; fused loops take [batch, features] steps"


def _width(v: Value, rows: tuple[Dim, ...]) -> int:
    n = v.shape[-1]
    if v.shape == rows or not isinstance(n, int):
        raise Unsupported(f"state %{v.hint} has type {v.type}; expected [batch, n]")
    return n


def _inputs(parts: Partition) -> dict[str, tuple[Leaf, Value]]:
    """The memory operands that are neither carries, sequences nor temporaries of the stage itself."""
    roots = [s.instance for p in parts.phases for s in p.stores] + [r for p in parts.phases for r in p.reduces]
    own = (Source.CARRY, Source.SEQUENCE, Source.TEMPORARY)
    return {leaf.name: (leaf, v) for leaf, v in leaves_of(roots).items() if leaf.source not in own}


def _shifts(parts: Partition, layer: str) -> Shifts:
    """What is read at other rows."""
    roots = [s.instance for p in parts.phases for s in p.stores] + [r for p in parts.phases for r in p.reduces]
    margins: dict[str, tuple[int, int]] = {}
    image = 1
    for i in walk(roots):
        for load in (i, *(q.load for q in i.pieces)):
            if load.leaf is not None and load.shift:
                low, high = margins.get(load.leaf.name, (0, 0))
                margins[load.leaf.name] = (max(low, -load.shift), max(high, load.shift))
                image = math.lcm(image, load.image)
                if load.leaf.source is Source.SEQUENCE and not load.image:
                    raise Unsupported(f"layer {layer}: rows of a sequence are read beyond those of their step")
    return Shifts(margins, image) if margins else NO_SHIFTS


def rows_stage(ops: Sequence[Op], segment: frozenset[Op] | None = None) -> Stage:
    """Compute ops with the same rows as one stage that writes the values needed outside. Raises Unsupported.

    ``segment`` are the ops that are run natively with them (None: all): what others compute, views included, is
    memory."""
    internal = frozenset(ops)
    rows = rows_of(ops[0])
    leaves = LeafNames({}, internal, rows, views=lambda op: segment is None or op in segment)
    outputs: dict[str, Value] = {}
    for op in ops:
        for v in op.results:
            if _needed_outside(v, internal, rows, segment):
                outputs[f"y{len(outputs)}"] = v
    parts = partition(rows, leaves, list(outputs.items()))
    layer = next((op.layer for op in ops if op.layer), ops[0].name)
    impls = [op.impl for op in ops if op.name == "matmul"][:1] or sorted({op.impl for op in ops})
    return Stage(layer, rows, parts, _inputs(parts), outputs, waits=barriers(parts, {}), shifts=_shifts(parts, layer),
                 impl=impls[0] if len(impls) == 1 else "")


def _needed_outside(v: Value, internal: frozenset[Op], rows: tuple[Dim, ...], segment: frozenset[Op] | None) -> bool:
    """Whether somebody reads ``v`` who is neither in the stage nor a lane view that only the stage reads."""
    todo, seen = [v], {v}
    while todo:
        for user in todo.pop().users():
            if user in internal:
                continue
            if not is_lane_view(user, rows) or (segment is not None and user not in segment):
                return True
            fresh = [r for r in user.results if r not in seen]
            seen.update(fresh)
            todo.extend(fresh)
    return False


# --- the schedule -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Schedule:
    """A segment's work in order: stages, nests, views and joins. What the native backend turns into a program."""

    items: list[Stage | Op] = field(default_factory=list)

    @property
    def stages(self) -> list[Stage]:
        return [i for i in self.items if isinstance(i, Stage)]


def build_schedule(ops: Iterable[Op], outputs: Sequence[Value]) -> Schedule:
    """Cut a segment's ops into stages, views and joins, and keep only the views that somebody reads."""
    ops = list(ops)
    segment = frozenset(ops)
    items: list[Stage | Op] = []
    open_ops: list[Op] = []  # of the rows stage being collected
    pending: list[Op] = []  # lane views of its values; they stand behind it
    inside = set[Op]()  # both

    def close() -> None:
        if open_ops:
            items.extend(_rows_stages(open_ops, segment))
        items.extend(pending)
        open_ops.clear()
        pending.clear()
        inside.clear()

    for op in ops:
        if is_nest(op):
            if op.blocks or _depends(op, inside):
                close()
            items.append(op)
        elif is_compute(op):
            if open_ops and not (_fits_rows(op, rows_of(open_ops[0])) and _multiply_alike(op, open_ops)):
                close()
            open_ops.append(op)
            inside.add(op)
        elif op.name == "scan":
            close()
            items.append(scan_stage(op))
        elif op.name in VIEWS | JOINS:
            own = _depends(op, inside)  # other moves stand in front: the stage may read them
            if own and not is_lane_view(op, rows_of(open_ops[0])):
                close()
            if own and open_ops:
                pending.append(op)
                inside.add(op)
            else:
                items.append(op)
        else:
            raise Unsupported(f"op {op.name} has no native form")
    close()
    needed = _needed(items, outputs)
    if any(isinstance(i, Op) and i.name == "shift_rows" and i.impl not in ALONE for i in needed):
        raise Unsupported("shifted rows that no loop reads: they are no view of memory")
    return Schedule(needed)


def _multiply_alike(op: Op, others: Sequence[Op]) -> bool:
    """Whether the products of a stage are all by one implementation, with ``op`` too."""
    return op.name != "matmul" or all(other.impl == op.impl for other in others if other.name == "matmul")


def _rows_stages(ops: Sequence[Op], segment: frozenset[Op]) -> list[Stage]:
    """The ops as one stage, or as one each when they do not go together (a comparison's result that must be stored)."""
    try:
        return [rows_stage(ops, segment)]
    except Unsupported:
        if len(ops) == 1:
            raise
        return [rows_stage([op], segment) for op in ops]


def _depends(op: Op, ops: Set[Op]) -> bool:
    """Whether ``op`` reads a result of ``ops``."""
    return any(v.op in ops for v in (*op.operands, *(v for block in op.blocks for v in block.captures())))


def _needed(items: Sequence[Stage | Op], outputs: Sequence[Value]) -> list[Stage | Op]:
    needed = set(outputs)
    kept: list[Stage | Op] = []
    for item in reversed(items):
        if isinstance(item, Stage):
            needed.update(item.reads())
        elif any(r in needed for r in item.results):
            needed.update(item.operands, *(b.captures() for b in item.blocks))
        else:
            continue
        kept.append(item)
    return kept[::-1]
