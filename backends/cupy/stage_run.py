"""The launches of a stage: for every step and phase the products of its groups, then the kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from math import prod

import numpy as np

from rnngraph.backends.cupy.codegen.arguments import field_of, struct_dtype, sums_field
from rnngraph.backends.cupy.codegen.phase import THREADS
from rnngraph.backends.cupy.codegen.products import columns
from rnngraph.backends.cupy.codegen.stage import NARROW
from rnngraph.backends.cupy.codegen.tensor_cores import bf16_bits
from rnngraph.backends.cupy.machine import Module
from rnngraph.backends.cupy.values import Values, host
from rnngraph.ir import Array, Value, resolve
from rnngraph.ir.scan import check_lengths
from rnngraph.phases.hazards import CarryMode
from rnngraph.phases.instances import Source
from rnngraph.phases.partition import Group
from rnngraph.phases.stages import Carry, Stage

Action = Callable[[], None]


class StageRun:
    """The launches of one stage."""

    def __init__(self, stage: Stage, module: Module, values: Values) -> None:
        self.stage = stage
        self.module = module
        self.values = values
        self.device = values.device
        self.sizes = resolve(stage.rows, values.dims)
        self.rows = prod(self.sizes)
        self.steps = resolve((stage.steps,), values.dims)[0] if stage.steps is not None else 1
        self.inner = self.sizes[-1] if self.sizes else 1
        self.args = np.zeros((), self.struct())
        self.keep: list[Array] = []
        self.before: list[Action] = []  # copies that a call does before the stage, and after it
        self.after: list[Action] = []
        self.checks: list[Action] = []  # what a call looks at on the host before the stage
        self.whole: dict[str, Array] = {}  # what is read at other rows than its own, with the zeros around it, by leaf
        self.left: dict[str, Array] = {}  # what products read, by leaf: rows and lanes, of sequences with steps first
        self.timed = {name for name, (leaf, _) in stage.inputs.items() if leaf.source is Source.SEQUENCE}
        self.bind()

    def bind(self) -> None:
        """Fill the arguments."""
        stage = self.stage
        self.number("rows", self.rows)
        self.number("steps", self.steps)
        self.number("inner", self.inner)
        for name, (leaf, value) in stage.inputs.items():
            self.input(name, leaf.source, value)
        for name, value in stage.outputs.items():
            array = self.with_lanes(self.values.make(value), stage.is_scan)
            self.memory(field_of(name), array)
            self.strides(field_of(name), array, timed=stage.is_scan, rows=True)
        for carry in stage.carries:
            self.bind_carry(carry)
        for name, n in stage.partition.temporaries.items():
            self.left[name] = self.around(name, (self.rows, n), name)
            self.memory(field_of(name), self.left[name])
        for k in stage.partition.reductions.values():
            self.memory(f"reduced{k}", self.own((self.parts(), self.rows)))
        self.bind_products()
        if stage.lengths is not None:
            self.bind_lengths(stage.lengths)

    def struct(self) -> np.dtype[np.void]:
        """Of the kernels' arguments."""
        return struct_dtype(self.stage)

    def bind_carry(self, carry: Carry) -> None:
        """Its buffers; copies bring its start there, and its end to who reads it."""
        start = self.values.get(carry.init)
        shape, kind = (self.rows, carry.n), start.dtype.type
        even = self.around(f"{carry.name}.0", shape, carry.name, kind)
        odd = even if carry.mode is CarryMode.IN_PLACE else self.around(f"{carry.name}.1", shape, carry.name, kind)
        self.memory(f"{carry.name}_0", even)
        self.memory(f"{carry.name}_1", odd)
        self.left[f"{carry.name}.0"], self.left[f"{carry.name}.1"] = even, odd
        self.before.append(self.copying(even, start))
        if carry.final is not None:
            final = self.values.make(carry.final)
            end = (even, odd)[self.steps % 2]
            self.after.append(self.copying(final, end))

    def parts(self) -> int:
        """How many results a reduction has in memory."""
        return 1

    def bind_products(self) -> None:
        """Sums and weights."""
        stage = self.stage
        self.sums = {(p, g): self.own((self.rows, sum(i.n for i in group.parts)))
                     for p, phase in enumerate(stage.partition.phases) for g, group in enumerate(phase.groups)}
        for (p, g), array in self.sums.items():
            self.memory(sums_field(p, g), array)
        self.narrow = {(p, g, k): self.own((self.rows, piece.k), np.uint16)
                       for p, phase in enumerate(stage.partition.phases) for g, group in enumerate(phase.groups)
                       for k, piece in enumerate(group.pieces) if stage.precision == "bf16"}
        self.weights = {(p, g): self.packed(group) for p, phase in enumerate(stage.partition.phases)
                        for g, group in enumerate(phase.groups)}

    def input(self, name: str, source: Source, value: Value) -> None:
        """An operand in memory: as it lies when its rows have two strides, else as a copy."""
        array, field = self.values.get(value), field_of(name)
        timed = source is Source.SEQUENCE
        if source not in (Source.SCALAR, Source.VECTOR):
            array = self.with_lanes(array, timed)
            multiplied = any(p.load.leaf is not None and p.load.leaf.name == name
                             for phase in self.stage.partition.phases for g in phase.groups for p in g.pieces)
            gaps = _strides(array, timed) is None or (multiplied and not _regular(array, timed))
            if gaps or name in self.stage.shifts.margins:
                copy = self.around(name, array.shape, name, array.dtype.type)
                self.before.append(self.copying(copy, array))
                array = copy
            self.strides(field, array, timed=timed, rows=True)
            if multiplied:
                self.left[name] = array.reshape((*array.shape[:timed], self.rows, array.shape[-1]))
                assert self.device.address(self.left[name]) == self.device.address(array)
        elif source is Source.VECTOR and array.strides[-1] != array.itemsize:
            array = self.copied(array)
        self.memory(field, array)

    def copied(self, array: Array) -> Array:
        """A copy without gaps, which every call brings up to date."""
        copy = self.own(array.shape, array.dtype.type)
        self.before.append(self.copying(copy, array))
        return copy

    def with_lanes(self, array: Array, timed: bool) -> Array:
        """One number per row is an array of one lane."""
        return array[..., None] if array.ndim == len(self.sizes) + timed else array

    def own(self, shape: tuple[int, ...], dtype: type = np.float32) -> Array:
        """Memory that is written before it is read."""
        array: Array = self.device.xp.empty(shape, dtype)
        self.keep.append(array)
        return array

    def around(self, name: str, shape: tuple[int, ...], buffer: str, dtype: type = np.float32) -> Array:
        """Memory of rows without gaps; with rows of zeros around it, which nobody writes, where other rows than its own
        are read of ``buffer``."""
        if buffer not in self.stage.shifts.margins:
            return self.own(shape, dtype)
        low, high = self.stage.shifts.margins[buffer]
        rows = prod(shape[:-1])
        self.whole[name] = self.device.xp.zeros((low + rows + high, shape[-1]), dtype)
        self.keep.append(self.whole[name])
        return self.whole[name][low : low + rows].reshape(shape)

    def number(self, name: str, value: int) -> None:
        self.args[name] = value

    def memory(self, name: str, array: Array) -> None:
        self.keep.append(array)
        self.args[name] = self.device.address(array)

    def strides(self, name: str, array: Array, *, timed: bool, rows: bool) -> None:
        found = _strides(array, timed)
        assert found is not None
        time, outer, inner = found
        if timed:
            self.args[f"{name}_t"] = time
        if rows:
            self.args[f"{name}_o"], self.args[f"{name}_i"] = outer, inner

    def packed(self, group: Group) -> list[Array]:
        """The weights of each piece: [k, parts * lanes]."""
        return [self.values.constants.get((id(group), q), partial(self.joined, group, q))
                for q in range(len(group.pieces))]

    def joined(self, group: Group, q: int) -> Array:
        """Those of piece ``q``, as the host has them."""
        weights: Array = np.concatenate(columns(group, q), 1)
        return bf16_bits(weights) if self.stage.precision == "bf16" else weights

    def bind_lengths(self, lengths: Value) -> None:
        """One per row: the rows of an image share that of their batch entry."""
        given, own = self.values.get(lengths), self.own((self.rows,), np.int32)
        self.memory("lengths", own)
        each = own.reshape(len(given), self.rows // max(len(given), 1))
        self.before.append(partial(self.device.copy, each, given[:, None]))
        if lengths.op is not None:
            self.checks.append(partial(self.check_lengths, given))

    def check_lengths(self, given: Array) -> None:
        """InputError for lengths that the graph has computed: they are looked at on the host."""
        check_lengths(host(self.device, given), self.steps, self.stage.name)

    def copying(self, target: Array, source: Array) -> Action:
        """What copies ``source`` into ``target``, an array of our own with as many elements."""
        return partial(self.device.copy, target.reshape(source.shape), source)

    # --- a call -----------------------------------------------------------------------------------------------------

    @property
    def launches(self) -> int:
        """About how many a call has."""
        phases = self.stage.partition.phases
        return len(self.before) + len(self.after) + (
            self.steps * (len(self.narrow) + sum(1 + len(p.groups) for p in phases)))

    def run(self) -> None:
        """All steps."""
        for action in self.before:
            action()
        times = range(self.steps)[::-1] if self.stage.reverse else range(self.steps)
        before = times[0] if self.steps else 0
        for step, t in enumerate(times):
            for p in range(len(self.stage.partition.phases)):
                self.phase(p, t, before, step)
            before = t
        for action in self.after:
            action()

    def phase(self, p: int, t: int, before: int, step: int) -> None:
        phase = self.stage.partition.phases[p]
        for g, group in enumerate(phase.groups):
            for k, (piece, weights) in enumerate(zip(group.pieces, self.weights[p, g], strict=True)):
                left = self.operand(piece.load.leaf.name if piece.load.leaf else "", t, step, piece.load.shift)
                left = left[:, piece.load.off : piece.load.off + piece.k]
                if self.stage.precision == "bf16":
                    left = self.narrowed(left, self.narrow[p, g, k])
                self.device.product(left, weights, self.sums[p, g], add=k > 0, precision=self.stage.precision)
        if phase.reduces:
            grid, shared = self.rows, 4 * (THREADS // 32)
        else:
            grid, shared = -(-self.rows * phase.n // THREADS), 0
        self.module.launch(f"phase{p}", (grid, 1, 1), (THREADS, 1, 1),
                           [self.args, np.int32(t), np.int32(before), np.int32(step)], shared)

    def narrowed(self, left: Array, to: Array) -> Array:
        """A left side in bf16."""
        if to.size:
            self.module.launch(NARROW, (-(-to.size // THREADS), 1, 1), (THREADS, 1, 1), [
                np.int64(self.device.address(left)), np.int64(self.device.address(to)), np.int32(to.shape[0]),
                np.int32(to.shape[1]), np.int64(left.strides[0] // left.itemsize)])
        return to

    def operand(self, name: str, t: int, step: int, shift: int = 0) -> Array:
        """What a product reads at a step: rows and lanes."""
        modes = {c.name: c.mode for c in self.stage.carries}
        held = f"{name}.{0 if modes[name] is CarryMode.IN_PLACE else step % 2}" if name in modes else name
        array, timed = self.left[held], name in self.timed
        if shift:
            first = self.stage.shifts.margins[name][0] + shift + (t * self.rows if timed else 0)
            return self.whole[held][first : first + self.rows]
        return (array[t] if timed else array).reshape(self.rows, array.shape[-1])


def _regular(array: Array, timed: bool) -> bool:
    """Whether all rows are one stride apart and do not overlap, so that they are a matrix as they lie."""
    rows = [(n, s) for n, s in zip(array.shape[timed:-1], array.strides[timed:-1], strict=True) if n != 1]
    return (all(s == n * below for (_, s), (n, below) in pairwise(rows))
            and (not rows or rows[-1][1] >= array.shape[-1] * array.itemsize))


def _strides(array: Array, timed: bool) -> tuple[int, int, int] | None:
    """The strides in floats of time, of all row axes but the last as one, and of the last; None where the outer axes
    are no one stride apart, or lanes are not side by side."""
    lane = array.itemsize
    if not array.size:
        return 0, 0, 0
    if array.shape[-1] != 1 and array.strides[-1] != lane:
        return None
    rows = list(zip(array.shape[timed:-1], array.strides[timed:-1], strict=True))
    time = array.strides[0] // lane if timed else 0
    if not rows:
        return time, 0, 0
    *outer, (_, inner) = rows
    kept = [(n, s) for n, s in outer if n != 1]
    if any(s != n * below for (_, s), (n, below) in pairwise(kept)):
        return None
    return time, (kept[-1][1] if kept else 0) // lane, inner // lane


__all__ = ["Action", "StageRun"]
