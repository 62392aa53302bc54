"""A segment ready to run for given sizes: buffers, argument tables, and a table of records per thread.

Per call only the addresses of inputs and outputs are written into the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from rnngraph.backends.llvm.args import TIMED, Slots, has_row_scalars, most_row_scalars, shifts_of
from rnngraph.backends.llvm.arrays import Arrays, margins, row_stride
from rnngraph.backends.llvm.copy import WORDS, copy_shape
from rnngraph.backends.llvm.cost import Machine
from rnngraph.backends.llvm.ends import Ends
from rnngraph.backends.llvm.layout import Tiling, aligned
from rnngraph.backends.llvm.pool import Job, records
from rnngraph.backends.llvm.tasks import Planner, Record, Share
from rnngraph.errors import CompileError
from rnngraph.ir import Array, Dim, Dims, Op, Value, resolve
from rnngraph.ir.grid_ops import PadAttrs
from rnngraph.ir.ops import ConcatAttrs, ConstAttrs
from rnngraph.phases.instances import Source
from rnngraph.phases.memory import MemoryPlan
from rnngraph.phases.stages import Carry, Schedule, Stage

ROW_PAD = 16
NOTHING: Mapping[int, int] = {}
PlanKey: TypeAlias = tuple[tuple[str, int], ...]

Copy = tuple[Value, Value, Dim]  # a part, the join that it is copied into, its place


@dataclass(slots=True)
class StageCode:
    """A stage's native code: entry address, slots of its table, tilings, packed weights by slot name."""

    address: int
    slots: Slots
    tilings: dict[int, Tiling]
    weights: dict[str, Array]


@dataclass(slots=True)
class SegmentCode:
    """What a plan needs of a compiled segment; the same for all sizes."""

    schedule: Schedule
    memory: MemoryPlan
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    stages: list[StageCode]
    copy: int  # address of rg_copy


@dataclass(slots=True)
class _Words:
    """All argument tables as one vector of i64, and where addresses of inputs and outputs go in it."""

    words: list[int] = field(default_factory=list)
    patches: dict[tuple[str, int], list[tuple[int, int]]] = field(default_factory=dict)


class Plan:
    """One instance may serve one call at a time."""

    def __init__(self, code: SegmentCode, dims: Dims, threads: int, machine: Machine) -> None:
        self.key = plan_key(dims, threads)
        self.code = code
        self.dims = dims
        self.threads = threads  # at most; what the schedule uses, once it is made
        self.stages: Sequence[Stage] = code.schedule.stages
        self.arrays = Arrays(code.memory, code.inputs, code.outputs, dims, margins(self.stages))
        self.keep: list[Array] = []
        self.ends: dict[tuple[Value, int, int], Ends] = {}  # by lengths and numbers of rows and steps
        self.given_ends: list[tuple[int, Ends]] = []  # those of inputs: which one
        self.tables = _Words()
        self.relaid: dict[tuple[int, str], tuple[Array, Array]] = {}  # (stage, input) -> copy, original
        self.delivered: dict[tuple[int, str], tuple[Array, Array]] = {}  # (stage, output) -> where it belongs, buffer
        self.carries: dict[tuple[int, str], tuple[Array, Array]] = {}
        self.copied: set[Copy] = set()
        self.moves = frozenset(i for i in code.schedule.items if isinstance(i, Op))
        self.starts = [self._stage_words(k) for k in range(len(self.stages))]
        whole = frozenset(k for k, g in enumerate(code.memory.gangs) if self._has_inner_copies(g.stages))
        made = Planner(code.memory.gangs, self, machine, threads, whole).plan()
        made.rows[0].extend(self._output_copies())
        self.threads = made.threads
        self.finish(made.rows)
        self.counters = list(made.counters.values())

    def finish(self, rows: list[list[Record]]) -> None:
        """Fix the tables' addresses and write them into the records (whose args are word offsets until now)."""
        self.words = np.array(self.tables.words, np.int64)
        base = int(self.words.ctypes.data)
        fixed = [[(fn, base + 8 * args, *rest) if fn else (fn, args, *rest) for fn, args, *rest in thread]
                 for thread in rows]
        self.job = Job([records(thread) for thread in fixed])
        self.patches = list(self.tables.patches.items())
        self.writable: memoryview = self.words.data  # writes single words in a third of the time that numpy takes
        self.shapes = [resolve(v.shape, self.dims) for v in self.code.outputs]
        self.fresh: Sequence[Array | None] = [None] * len(self.shapes)  # what a call is given, unless it says otherwise

    # --- argument tables ------------------------------------------------------------------------------------------

    def put(self, at: int, array: Array) -> None:
        """Write the address of ``array`` at word ``at``, or remember it for every call."""
        where = self.arrays.locate(array)
        if where.base is None:
            self.tables.words[at] = where.offset
        else:
            self.tables.patches.setdefault(where.base, []).append((at, where.offset))

    def _stage_words(self, k: int) -> int:
        stage, code = self.stages[k], self.code.stages[k]
        start = len(self.tables.words)
        self.tables.words += [0] * len(code.slots)
        words = self.tables.words

        def number(name: str, value: int) -> None:
            words[start + code.slots[name]] = value

        def memory(name: str, array: Array) -> None:
            self.put(start + code.slots[name], array)

        steps = resolve((stage.steps,), self.dims)[0] if stage.steps is not None else 1
        number("t.first", steps - 1 if stage.reverse else 0)
        number("t.step", -1 if stage.reverse else 1)
        rows = int(np.prod(resolve(stage.rows, self.dims), dtype=np.int64))
        number("rows", rows)
        for name, (leaf, value) in stage.inputs.items():
            array = self._input(k, name, leaf.source, value)
            memory(name, array)
            timed = leaf.source is Source.SEQUENCE
            number(f"{name}.t", array.strides[0] // 4 if timed else 0)
            rowwise = leaf.source in (Source.SEQUENCE, Source.CAPTURE, Source.ROW)
            number(f"{name}.r", self._row_stride(array, len(stage.rows), timed) if rowwise else 0)
        for name, value in stage.outputs.items():
            array = self._output(k, name, value)
            memory(name, array)
            number(f"{name}.t", array.strides[0] // 4 if stage.is_scan else 0)
            number(f"{name}.r", self._row_stride(array, len(stage.rows), stage.is_scan))
        for carry in stage.carries:
            even, odd = self._carry(k, carry)
            memory(f"{carry.name}.0", even)
            memory(f"{carry.name}.1", odd)
            number(f"{carry.name}.r", even.strides[-2] // 4)
        for name, n in stage.partition.temporaries.items():
            array = self._own((rows, n), stage.shifts.margins.get(name, (0, 0)))
            memory(name, array)
            number(f"{name}.r", array.strides[0] // 4)
        self._row_buffers(stage, code, rows, memory, number)
        if stage.lengths is not None:
            ends = self._ends(stage.lengths, rows, steps, stage.name)
            memory("lengths", ends.lengths)
            memory("live", ends.live)
        for name, packed in code.weights.items():
            memory(name, packed)
        for name, shift in shifts_of(stage).items():
            number(name, shift)
        return start

    def _row_buffers(self, stage: Stage, code: StageCode, rows: int, memory: Callable[[str, Array], None],
                     number: Callable[[str, int], None]) -> None:
        parts = stage.partition
        if not parts.reductions and not has_row_scalars(parts):
            return
        capacity = -(-rows // ROW_PAD) * ROW_PAD + ROW_PAD
        number("row.capacity", capacity)
        for r, k in parts.reductions.items():
            tiling = code.tilings[r.args[0].n]
            pieces = self.threads if r in parts.folded else tiling.tiles * tiling.nv
            memory(f"partial{k}", self._own((pieces, capacity)))
        if has_row_scalars(parts):
            size = most_row_scalars(parts) * capacity
            memory("scalars", self._own((self.threads, size)))
            number("scalars.part", -(-size // ROW_PAD) * ROW_PAD)

    def _own(self, shape: tuple[int, ...], margin: tuple[int, int] = (0, 0)) -> Array:
        array = self.arrays.buffer(shape, margin)
        self.keep.append(array)
        return array

    def _input(self, k: int, name: str, source: Source, value: Value) -> Array:
        """The array that a stage reads: the value's own, or a copy laid out as the stage needs it."""
        array = self.arrays.get(value)
        if source is Source.SCALAR:
            return array
        if source is Source.VECTOR:
            return array if _lanes_ok(array) else self._relay(k, name, array)
        timed = source is Source.SEQUENCE
        array = self._with_lanes(k, array, timed)
        fits = row_stride(array[0] if timed and len(array) else array) is not None
        margin = self.stages[k].shifts.margins.get(name, (0, 0))
        fits = fits and (margin == (0, 0) or self.arrays.has_margin(value))
        return array if fits or array.size == 0 else self._relay(k, name, array, margin)

    def _with_lanes(self, k: int, array: Array, timed: bool) -> Array:
        """One number per row is an array of one lane."""
        return array[..., None] if array.ndim == len(self.stages[k].rows) + timed else array

    def _relay(self, k: int, name: str, array: Array, margin: tuple[int, int] = (0, 0)) -> Array:
        if array.shape[-1] == 1 and margin == (0, 0):  # numbers side by side
            copy = aligned(array.shape)
            self.keep.append(copy)
        else:
            copy = self._own(array.shape, margin)
        self.relaid[(k, name)] = (copy, array)
        return copy

    def _output(self, k: int, name: str, value: Value) -> Array:
        """The array that a stage writes: the value's own, or a buffer that is copied there chunk by chunk."""
        array = self._with_lanes(k, self.arrays.get(value), self.stages[k].is_scan)
        body = array[0] if self.stages[k].is_scan and len(array) else array
        if array.size == 0 or row_stride(body) is not None:
            return array
        buffer = self._own(array.shape)
        self.delivered[(k, name)] = (array, buffer)
        self.arrays.found[value] = buffer.reshape(self.arrays.get(value).shape)
        return buffer

    @staticmethod
    def _row_stride(array: Array, rank: int, timed: bool) -> int:
        if array.size == 0:
            return 0
        stride = row_stride(array[0] if timed else array)
        assert stride is not None
        return stride

    def _carry(self, k: int, carry: Carry) -> tuple[Array, Array]:
        shape = (*resolve(self.stages[k].rows, self.dims), carry.n)
        margin = self.stages[k].shifts.margins.get(carry.name, (0, 0))
        even = self._own(shape, margin)
        odd = even if carry.mode.value == "in place" else self._own(shape, margin)
        self.carries[(k, carry.name)] = (even, odd)
        return even, odd

    def _ends(self, value: Value, rows: int, steps: int, layer: str) -> Ends:
        """Lengths come in from outside of the segment, or are constant; what no caller has given is checked here."""
        key = (value, rows, steps)
        if key not in self.ends:
            ends = Ends(rows, steps, layer)
            if value in self.code.inputs:
                ends.unchecked = value.op is not None
                self.given_ends.append((self.code.inputs.index(value), ends))
            elif value.op is not None and isinstance(value.op.attrs, ConstAttrs):
                ends.unchecked = True
                ends.set(value.op.attrs.value.array)
            else:
                raise CompileError(f"llvm: lengths %{value.hint} are neither an input of the segment nor constant")
            self.ends[key] = ends
        return self.ends[key]

    # --- records: the planner's Runner ------------------------------------------------------------------------------

    def run(self, stage: int, begin: int, end: int, share: Share) -> Record:
        s, address = self.stages[stage], self.code.stages[stage].address
        rows = self.tables.words[self.starts[stage] + self.code.stages[stage].slots["rows"]]
        lanes = (0, 1) if share.by_rows else (share.part, share.parts)
        if s.is_scan:
            image = s.shifts.image or rows  # rows that one participant owns together
            r0, r1 = share.rows(rows // image if image else 0)
            return (address, self.starts[stage], begin, end, *lanes, r0 * image, r1 * image, share.counter)
        first, last = self._row_range(s, begin, end, rows)
        r0, r1 = share.rows(last - first)
        return (address, self.starts[stage], 0, 1, *lanes, first + r0, first + r1, share.counter)

    def _row_range(self, s: Stage, begin: int, end: int, rows: int) -> tuple[int, int]:
        """The rows of a rows stage that belong to steps [begin, end) of its gang."""
        gang = next(g for g in self.code.memory.gangs if any(self.stages[k] is s for k in g.stages))
        if gang.steps is None or len(s.rows) < 2:
            return 0, rows
        (steps,) = resolve((gang.steps,), self.dims)
        each = rows // steps if steps else 0
        return ((steps - end) * each, (steps - begin) * each) if gang.reverse else (begin * each, end * each)

    def before(self, stage: int) -> list[Record]:
        s = self.stages[stage]
        starts = [self.copy(self.carries[(stage, c.name)][0], self.arrays.get(c.init)) for c in s.carries]
        return self._join_copies(self.code.memory.copies, set(s.reads())) + starts

    def joins(self, stages: Sequence[int]) -> list[Record]:
        """Copies into joins that these stages, which may run side by side, read and none of them writes."""
        written = {v for k in stages for v in self.stages[k].writes()}
        ready = [c for c in self.code.memory.copies if not self._reaches(written, c[0])]
        return self._join_copies(ready, {v for k in stages for v in self.stages[k].reads()})

    def _join_copies(self, copies: Sequence[Copy], wanted: set[Value]) -> list[Record]:
        return [self._join_copy(c) for c in copies
                if c not in self.copied and any(self._reaches({c[1]}, v) for v in wanted)]

    def _reaches(self, sources: set[Value], v: Value) -> bool:
        """Whether ``v`` is one of the sources, or a view or join of one."""
        todo, seen = [v], set[Value]()
        while todo:
            v = todo.pop()
            if v in sources:
                return True
            if v.op is not None and v.op in self.moves and v not in seen:
                seen.add(v)
                todo.extend(v.op.operands)
        return False

    def _join_copy(self, c: Copy) -> Record:
        self.copied.add(c)
        part, join, offset = c
        op = join.op
        assert op is not None
        return self.copy(self._part(self.arrays.get(join), op, part, offset), self.arrays.get(part))

    def _part(self, container: Array, op: Op, part: Value, offset: Dim) -> Array:
        if isinstance(op.attrs, PadAttrs):
            low, sizes = resolve(op.attrs.low, self.dims), resolve(part.shape, self.dims)
            return container[tuple(slice(lo, lo + n) for lo, n in zip(low, sizes, strict=True))]
        assert isinstance(op.attrs, ConcatAttrs)
        axis = op.attrs.axis
        index = [slice(None)] * container.ndim
        start, size = resolve((offset, part.shape[axis]), self.dims)
        index[axis] = slice(start, start + size)
        return container[tuple(index)]

    def after(self, stage: int) -> list[Record]:
        s = self.stages[stage]
        steps = resolve((s.steps,), self.dims)[0] if s.steps is not None else 0
        out = []
        for carry in s.carries:
            if carry.final is not None:
                buffers = self.carries[(stage, carry.name)]
                out.append(self.copy(self.arrays.get(carry.final), buffers[steps % 2]))
        return out

    def copies(self, stage: int, begin: int, end: int) -> list[Record]:
        return self._copies(self.relaid, stage, begin, end)

    def deliveries(self, stage: int, begin: int, end: int) -> list[Record]:
        return self._copies(self.delivered, stage, begin, end)

    def _copies(self, pairs: dict[tuple[int, str], tuple[Array, Array]], stage: int, begin: int,
                end: int) -> list[Record]:
        """Copies of the parts of (target, source) pairs that belong to steps [begin, end)."""
        out = []
        s = self.stages[stage]
        gang = next(g for g in self.code.memory.gangs if stage in g.stages)
        for (k, name), (target, source) in pairs.items():
            if k != stage:
                continue
            timed = name.startswith(TIMED) if s.is_scan else len(s.rows) > 1
            if gang.steps is not None and timed:
                (steps,) = resolve((gang.steps,), self.dims)
                at = slice(steps - end, steps - begin) if gang.reverse else slice(begin, end)
                target, source = target[at], source[at]
            elif begin > 0:
                continue
            out.append(self.copy(target, source))
        return out

    def _output_copies(self) -> list[Record]:
        out = []
        out += [self._join_copy(c) for c in self.code.memory.copies if c not in self.copied]
        for v in self.code.memory.output_copies:
            out.append(self.copy(self.arrays.outputs[self.code.outputs.index(v)], self.arrays.get(v)))
        return out

    def copy(self, target: Array, source: Array) -> Record:
        shape = copy_shape(target, source)
        if shape is None:
            raise CompileError(f"llvm: cannot copy an array of shape {source.shape} in one piece")
        at = len(self.tables.words)
        self.tables.words += [0, 0, *shape]
        assert len(self.tables.words) - at == WORDS
        self.put(at, target)
        self.put(at + 1, source)
        self.keep.append(source)
        return (self.code.copy, at)

    def _has_inner_copies(self, stages: Sequence[int]) -> bool:
        """Whether a stage of the gang reads a join into which a value of the same gang must be copied."""
        written = {v for k in stages for v in self.stages[k].writes()}
        reads = {v for k in stages for v in self.stages[k].reads()}
        return any(self._reaches(written, part) and any(self._reaches({join}, v) for v in reads)
                   for part, join, _ in self.code.memory.copies)

    # --- a call -----------------------------------------------------------------------------------------------------

    def bind(self, inputs: Sequence[Array], given: Sequence[Array | None] = (),
             known: Mapping[int, int] = NOTHING) -> list[Array]:
        """Write this call's addresses; returns the outputs: those ``given``, and fresh ones. All are C-contiguous.
        ``known`` are the addresses of arrays that live on from call to call, by `id`."""
        outputs = [np.empty(s, np.float32) if g is None else g
                   for s, g in zip(self.shapes, given or self.fresh, strict=True)]
        arrays: dict[str, Sequence[Array]] = {"in": inputs, "out": outputs}
        words = self.writable
        for (kind, k), places in self.patches:
            array = arrays[kind][k]
            base = known.get(id(array)) or array.__array_interface__["data"][0]
            for position, offset in places:
                words[position] = base + offset
        for k, ends in self.given_ends:
            ends.set(inputs[k])
        for k, flags in self.arrays.flags.items():
            flags[...] = inputs[k]
        return outputs


def plan_key(dims: Dims, threads: int) -> PlanKey:
    """Plans with one key can stand in for each other."""
    return (*sorted(dims.items()), ("threads", threads))


def _lanes_ok(array: Array) -> bool:
    return array.shape[-1] == 1 or array.strides[-1] == 4
