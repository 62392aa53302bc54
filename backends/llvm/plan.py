"""A segment ready to run for given sizes: buffers, argument tables, and a table of records per thread.

Per call only the addresses of inputs and outputs are written into the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, TypeAlias

import numpy as np

from rnngraph.backends.llvm.args import TIMED, has_row_scalars, most_row_scalars, shifts_of
from rnngraph.backends.llvm.arrays import Arrays, margins
from rnngraph.backends.llvm.code import SegmentCode, StageCode
from rnngraph.backends.llvm.cost import Machine
from rnngraph.backends.llvm.ends import Ends
from rnngraph.backends.llvm.layout import aligned
from rnngraph.backends.llvm.moves import Moves
from rnngraph.backends.llvm.nest_tables import NestTables
from rnngraph.backends.llvm.pool import Job, records
from rnngraph.backends.llvm.rows import Split, lanes_fit, split_rows, strides_in, whole
from rnngraph.backends.llvm.tasks import Planner, Record, Share
from rnngraph.backends.llvm.words import Words
from rnngraph.ir import BOOL, F32, Array, Dims, Value, resolve
from rnngraph.ir.ops import ConstAttrs
from rnngraph.ir.scan import check_lengths
from rnngraph.ir.types import Sizes
from rnngraph.phases.instances import Source
from rnngraph.phases.stages import Carry, Stage

ROW_PAD = 16
NOTHING: Mapping[int, int] = {}
PlanKey: TypeAlias = tuple[tuple[str, int], ...]



class Plan:
    """One instance may serve one call at a time."""

    def __init__(self, code: SegmentCode, dims: Dims, threads: int, machine: Machine) -> None:
        self.key = plan_key(dims, threads)
        self.code = code
        self.dims = dict(dims)
        self.threads = threads  # at most; what the schedule uses, once it is made
        self.stages: Sequence[Stage] = code.schedule.stages
        self.arrays = Arrays(code.memory, code.inputs, code.outputs, dims, margins(self.stages))
        self.ends: dict[tuple[Value, int, int], Ends] = {}  # by lengths and numbers of rows and steps
        self.made: list[Ends] = []  # those that native code makes
        self.given_ends: list[tuple[int, Ends]] = []  # those of inputs: which one
        self.tables = Words(self.arrays)
        self.keep: list[Array] = []  # own buffers
        self.splits: dict[int, Split] = {}  # of the rows of stages
        self.relaid: dict[tuple[int, str], tuple[Array, Array]] = {}  # (stage, input) -> copy, original
        self.delivered: dict[tuple[int, str], tuple[Array, Array]] = {}  # (stage, output) -> where it belongs, buffer
        self.carries: dict[tuple[int, str], tuple[Array, Array]] = {}
        self.starts: list[int] = []
        for item in code.schedule.items:
            if isinstance(item, Stage):
                self.starts.append(self._stage_words(len(self.starts)))
            else:
                for v in item.results:
                    self.arrays.get(v)
        self.nests = NestTables(self.arrays, self.tables, code.nests)
        self.moves = Moves(code.schedule, code.memory, self.arrays, self.tables, code.copies, self.nests)
        uncut = frozenset(k for k, g in enumerate(code.memory.gangs) if self.moves.inner(g.stages))
        made = Planner(code.memory.gangs, self, machine, threads, uncut).plan()
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
        self.dtypes = [F32.numpy if v.type.dtype is BOOL else v.type.dtype.numpy for v in self.code.outputs]
        self.hot: Any = None  # what repeated calls need (hot.py)
        self.fresh: Sequence[Array | None] = [None] * len(self.shapes)  # what a call is given, unless it says otherwise

    # --- argument tables ------------------------------------------------------------------------------------------

    def _stage_words(self, k: int) -> int:
        stage, code = self.stages[k], self.code.stages[k]
        start = self.tables.table([0] * len(code.slots))
        words = self.tables.words

        def number(name: str, value: int) -> None:
            words[start + code.slots[name]] = value

        def memory(name: str, array: Array) -> None:
            self.tables.put(start + code.slots[name], array)

        steps = resolve((stage.steps,), self.dims)[0] if stage.steps is not None else 1
        number("t.first", steps - 1 if stage.reverse else 0)
        number("t.step", -1 if stage.reverse else 1)
        rows = prod(resolve(stage.rows, self.dims))
        split = self.splits[k] = self._split(k)
        number("rows", split.counts[2])
        if not stage.is_scan:
            number("t.inner", split.counts[1])

        def strides(name: str, array: Array, timed: bool) -> None:
            outer, middle, inner = self._strides(k, array[0] if timed and len(array) else array)
            number(f"{name}.t", array.strides[0] // 4 if timed else middle)
            number(f"{name}.r", inner)
            if not stage.is_scan:
                number(f"{name}.u", outer)

        for name, (leaf, value) in stage.inputs.items():
            array = self._input(k, name, leaf.source, value)
            memory(name, array)
            if leaf.source in (Source.SEQUENCE, Source.CAPTURE, Source.ROW):
                strides(name, array, leaf.source is Source.SEQUENCE)
        for name, value in stage.outputs.items():
            array = self._output(k, name, value)
            memory(name, array)
            strides(name, array, stage.is_scan)
        for carry in stage.carries:
            even, odd = self._carry(k, carry)
            memory(f"{carry.name}.0", even)
            memory(f"{carry.name}.1", odd)
            number(f"{carry.name}.r", even.strides[-2] // 4)
        for name, n in stage.partition.temporaries.items():
            array = self._own((rows, n), stage.shifts.margins.get(name, (0, 0)))
            memory(name, array)
            number(f"{name}.r", array.strides[0] // 4)
            if not stage.is_scan:
                number(f"{name}.t", array.strides[0] // 4 * split.counts[2])
        self._row_buffers(stage, code, split.counts[2], memory, number)
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
            return array if lanes_fit(array) else self._relay(k, name, array)
        timed = source is Source.SEQUENCE
        array = self._with_lanes(k, array, timed)
        fits = strides_in(array[0] if timed and len(array) else array, self.splits[k]) is not None
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
        if array.size == 0 or strides_in(body, self.splits[k]) is not None:
            return array
        buffer = self._own(array.shape)
        self.delivered[(k, name)] = (array, buffer)
        self.arrays.found[value] = buffer.reshape(self.arrays.get(value).shape)
        return buffer

    def _split(self, k: int) -> Split:
        """How the rows of a stage lie in memory: those of a scan's step one stride apart, and those of images that are
        read beside their own."""
        stage = self.stages[k]
        sizes = resolve(stage.rows, self.dims)
        if stage.is_scan or len(sizes) < 2 or stage.shifts.margins:
            return whole(sizes)
        values = [v for leaf, v in stage.inputs.values() if leaf.source in (Source.CAPTURE, Source.ROW)]
        arrays = [self._with_lanes(k, self.arrays.get(v), False) for v in (*values, *stage.outputs.values())]
        return split_rows(sizes, [a for a in arrays if a.size and lanes_fit(a)],
                          matmul=any(p.groups for p in stage.partition.phases))

    def _strides(self, k: int, array: Array) -> tuple[int, int, int]:
        if array.size == 0:
            return 0, 0, 0
        strides = strides_in(array, self.splits[k])
        assert strides is not None
        return strides

    def _carry(self, k: int, carry: Carry) -> tuple[Array, Array]:
        shape = (*resolve(self.stages[k].rows, self.dims), carry.n)
        margin = self.stages[k].shifts.margins.get(carry.name, (0, 0))
        even = self._own(shape, margin)
        odd = even if carry.mode.value == "in place" else self._own(shape, margin)
        self.carries[(k, carry.name)] = (even, odd)
        return even, odd

    def _ends(self, value: Value, rows: int, steps: int, layer: str) -> Ends:
        """Lengths come in from outside, are constant, or are computed here; what no caller has given is checked."""
        key = (value, rows, steps)
        if key not in self.ends:
            ends = Ends(rows, steps, layer)
            if value in self.code.inputs:
                ends.unchecked = value.op is not None
                self.given_ends.append((self.code.inputs.index(value), ends))
            elif value.op is not None and isinstance(value.op.attrs, ConstAttrs):
                ends.unchecked = True
                ends.set(value.op.attrs.value.array)
            self.ends[key] = ends
        return self.ends[key]

    # --- records: the planner's Runner ------------------------------------------------------------------------------

    def run(self, stage: int, begin: int, end: int, share: Share) -> Record:
        s, address = self.stages[stage], self.code.stages[stage].address
        split = self.splits[stage]
        rows = split.steps * split.counts[2]
        lanes = (0, 1) if share.by_rows else (share.part, share.parts)
        if s.is_scan:
            image = s.shifts.image or rows  # rows that one participant owns together
            r0, r1 = share.rows(rows // image if image else 0)
            return (address, self.starts[stage], begin, end, *lanes, r0 * image, r1 * image, share.counter)
        first, last = self._row_range(s, begin, end, rows)
        if split.steps == 1:
            r0, r1 = share.rows(last - first)
            return (address, self.starts[stage], 0, 1, *lanes, first + r0, first + r1, share.counter)
        inner = split.counts[2]
        t0, t1 = first // inner, last // inner
        if s.partition.reductions or has_row_scalars(s.partition):  # threads share buffers, with a place for each row
            r0, r1 = share.rows(inner)
        else:
            (u0, u1), (r0, r1) = share.rows(t1 - t0), (0, inner)
            t0, t1 = t0 + u0, t0 + u1
        return (address, self.starts[stage], t0, t1, *lanes, r0, r1, share.counter)

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
        starts = [self.moves.copy(self.carries[(stage, c.name)][0], self.arrays.get(c.init)) for c in s.carries]
        return self.moves.before(stage) + starts

    def joins(self, stages: Sequence[int]) -> list[Record]:
        return self.moves.joins(stages) + self._computed_ends(stages)

    def _computed_ends(self, stages: Sequence[int]) -> list[Record]:
        """The ends of loops whose lengths this segment has computed by now."""
        out: list[Record] = []
        for value in dict.fromkeys(v for k in stages if (v := self.stages[k].lengths) is not None):
            if value.op is None or value in self.code.inputs or isinstance(value.op.attrs, ConstAttrs):
                continue
            source = self.arrays.get(value)
            for (of, rows, steps), ends in self.ends.items():
                if of is value and ends not in self.made:
                    self.made.append(ends)
                    number = self.nests.checks(partial(self._wrong_lengths, value, source, ends))
                    count = max(len(source), 1)
                    numbers = [source.strides[0] // source.itemsize, rows // count, count, steps]
                    at = self.tables.table([0, *numbers, 0, 0, int(self.nests.bad.ctypes.data), number])
                    for k, array in ((0, source), (5, ends.lengths), (6, ends.live)):
                        self.tables.put(at + k, array)
                    out.append((self.code.ends[value.type.dtype.name], at))
        return out

    def _wrong_lengths(self, value: Value, source: Array, ends: Ends, wrong: int) -> None:
        own = self.arrays.locate(source).base is None  # not an output, whose memory the caller has
        check_lengths(source.view(value.type.dtype.numpy) if own else np.array([wrong]), ends.steps, ends.layer)

    def after(self, stage: int) -> list[Record]:
        s = self.stages[stage]
        steps = resolve((s.steps,), self.dims)[0] if s.steps is not None else 0
        out = []
        for carry in s.carries:
            if carry.final is not None:
                buffers = self.carries[(stage, carry.name)]
                out.append(self.moves.copy(self.arrays.get(carry.final), buffers[steps % 2]))
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
            vector = name.endswith(f":{Source.VECTOR.value}")  # the same for all rows
            timed = name.startswith(TIMED) if s.is_scan else len(s.rows) > 1 and not vector
            if gang.steps is not None and timed:
                (steps,) = resolve((gang.steps,), self.dims)
                at = slice(steps - end, steps - begin) if gang.reverse else slice(begin, end)
                target, source = target[at], source[at]
            elif begin > 0:
                continue
            out.append(self.moves.copy(target, source))
        return out

    def _output_copies(self) -> list[Record]:
        outputs = [(self.arrays.outputs[self.code.outputs.index(v)], v) for v in self.code.memory.output_copies]
        return self.moves.rest() + [self.moves.copy(target, self.arrays.get(v)) for target, v in outputs]

    # --- a call -----------------------------------------------------------------------------------------------------

    def bind(self, inputs: Sequence[Array], given: Sequence[Array | None] = (),
             known: Mapping[int, int] = NOTHING) -> list[Array]:
        """Write this call's addresses; returns the outputs: those ``given``, and fresh ones. All are C-contiguous.
        ``known`` are the addresses of arrays that live on from call to call, by `id`."""
        outputs = [np.empty(s, dtype) if g is None else g
                   for s, dtype, g in zip(self.shapes, self.dtypes, given or self.fresh, strict=True)]
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
    known = dims.key if type(dims) is Sizes else sorted(dims.items())
    return (*known, ("threads", threads))
