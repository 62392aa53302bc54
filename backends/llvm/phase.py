"""Emission of one phase as a function: microkernels accumulate into a tile in L1, then one generic loop over (row,
vector) evaluates everything that consumes the sums and stores the results. Every cell goes through this file.

    phase(args, step, t, before, part, parts, row0, row1)

``part`` of ``parts`` owns a range of lane tiles, [row0, row1) is its range of rows; ``before`` is the time of the
previous step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rnngraph.backends.llvm.args import Slots, runs, shift_slot, weight_slot
from rnngraph.backends.llvm.layout import ALIGN, ROW_BLOCK, WEIGHT_BYTES, Tiling, group_offsets, k_block
from rnngraph.backends.llvm.multiply import call_pair, call_rows, most_rows
from rnngraph.backends.llvm.place import Place, Step
from rnngraph.backends.llvm.reductions import fold, partial
from rnngraph.backends.llvm.row_scalars import RowScalars
from rnngraph.backends.llvm.vector import F32, I64, PTR, VOID, Builder, Emit, Function, IRValue
from rnngraph.backends.llvm.vmath import lowered, number, stored, typed
from rnngraph.phases.hazards import CarryMode
from rnngraph.phases.instances import Instance, Kind, Leaf, Source, walk
from rnngraph.phases.partition import Phase, Store, evaluated, is_loaded
from rnngraph.phases.stages import Stage


class PhaseEmitter:
    """Emits phase ``index`` of a stage."""

    def __init__(self, e: Emit, stage: Stage, index: int, slots: Slots, tilings: dict[int, Tiling]) -> None:
        self.e = e
        self.stage = stage
        self.index = index
        self.phase: Phase = stage.partition.phases[index]
        self.slots = slots
        self.tiling = tilings[self.phase.n]
        self.partition = stage.partition
        self.bases: dict[tuple[str, bool], tuple[IRValue, IRValue]] = {}
        self.modes = {c.name: c.mode for c in stage.carries}
        self.order = evaluated(self.partition.spilled, self.phase)
        self.folded = self.partition.folded

    def emit(self) -> Function:
        fn, b = self.e.function(f"phase{self.index}", VOID, [PTR] + [I64] * (7 + bool(self.stage.until)),
                                  inline="never", internal=True)
        at = Step(*fn.args)
        self.at = at
        self.prepare(b)
        if self.phase.row_scalars:
            RowScalars(self).emit(b)
        if self.phase.fold:
            fold(self, b)
        else:
            self.tiles(b)
        b.ret_void()
        return fn

    # --- argument table -----------------------------------------------------------------------------------------

    def slot(self, b: Builder, name: str) -> IRValue:
        return self.e.load(b, self.e.at(b, self.at.args, self.slots[name], I64), I64, align=8, invariant=True)

    def pointer(self, b: Builder, name: str) -> IRValue:
        return b.inttoptr(self.slot(b, name), PTR)

    def prepare(self, b: Builder) -> None:
        """All base addresses of this step, once, at the function's entry."""
        self.rows = self.slot(b, "rows")
        self.odd = b.and_(self.at.step, self.e.num(1))
        if not self.stage.is_scan:  # the turn of the outer loop, as places along its two axes
            inner = self.slot(b, "t.inner")
            self.high, self.low = b.udiv(self.at.t, inner), b.urem(self.at.t, inner)
        offsets, size = group_offsets(self.phase, self.tiling)
        self.offsets, self.tile_floats = offsets, size
        self.kept = self.stage.precision
        if self.phase.groups:
            self.acc = b.alloca(F32, 2 * size)
            self.acc.align = ALIGN
        for leaf in self.leaves():
            self.base(b, leaf)
        for s in self.phase.stores:
            self.destination(b, s.dest)
        self.lengths = self.pointer(b, "lengths") if self.stage.lengths is not None else None
        self.live = self.at.row1  # the first row that has ended at this step, like all behind it
        if self.lengths is not None:
            live = self.e.load(b, self.e.at(b, self.pointer(b, "live"), self.at.t, I64), I64, align=8)
            live = self.e.least(b, live, self.at.row1)
            self.live = b.select(b.icmp_signed(">", live, self.at.row0), live, self.at.row0)
        if self.stage.until:
            self.live = self.e.least(b, self.at.live, self.live)
        self.weights = {(g, q): self.pointer(b, weight_slot(self.index, g, q))
                        for g, group in enumerate(self.phase.groups) for q in range(len(group.pieces))}
        if self.partition.reductions or self.phase.row_scalars:
            self.capacity = self.slot(b, "row.capacity")
        self.partials = {k: self.pointer(b, f"partial{k}") for k in self.partition.reductions.values()}
        if self.folded:
            mine = b.mul(self.at.part, self.capacity)
            self.partials |= {k: self.e.at(b, self.partials[k], mine)
                              for r, k in self.partition.reductions.items() if r in self.folded}
        if self.phase.row_scalars:
            base = self.pointer(b, "scalars")
            self.scalars = self.e.at(b, base, b.mul(self.at.part, self.slot(b, "scalars.part")))

    def leaves(self) -> list[Leaf]:
        roots = [s.instance for s in self.phase.stores]
        roots += [*self.phase.reduces, *self.phase.row_scalars]
        found: dict[Leaf, None] = {}
        for i in walk(roots):
            if i in self.partition.spilled:
                found[Leaf(Source.TEMPORARY, self.partition.spilled[i])] = None
            for load in (i, *(q.load for q in i.pieces)):
                if load.leaf is not None:
                    found[load.leaf] = None
        for s in self.phase.stores:
            if self.ends and s.dest.startswith("c"):
                found[Leaf(Source.CARRY, s.dest)] = None
        if self.stage.until:
            found[Leaf(Source.CARRY, self.stage.until)] = None
        return list(found)

    def base(self, b: Builder, leaf: Leaf) -> tuple[IRValue, IRValue]:
        """Address of row 0 of a leaf at this step, and its row stride in floats."""
        key = (leaf.name, False)
        if key not in self.bases:
            name = leaf.name
            if leaf.source is Source.CARRY:
                self.bases[key] = (self.carry(b, name, 0), self.slot(b, f"{name}.r"))
            elif leaf.source is Source.TEMPORARY:
                self.bases[key] = (self.temporary(b, name), self.slot(b, f"{name}.r"))
            else:
                address = self.pointer(b, name)
                if not self.stage.is_scan and leaf.source in (Source.CAPTURE, Source.ROW):
                    address = self.outer(b, name, address)
                if leaf.source is Source.SEQUENCE:
                    address = self.e.at(b, address, b.mul(self.at.t, self.slot(b, f"{name}.t")))
                self.bases[key] = (address, self.slot(b, f"{name}.r"))
        return self.bases[key]

    def carry(self, b: Builder, name: str, ahead: int) -> IRValue:
        """The buffer of a carry: this step's value (ahead 0) or the next one's (1)."""
        if self.modes[name] is CarryMode.IN_PLACE:
            return self.pointer(b, f"{name}.0")
        even, odd = self.pointer(b, f"{name}.{ahead}"), self.pointer(b, f"{name}.{1 - ahead}")
        return b.select(b.icmp_signed("==", self.odd, self.e.num(0)), even, odd)

    def destination(self, b: Builder, dest: str) -> tuple[IRValue, IRValue]:
        """Address of row 0 of a store's buffer at this step, and its row stride."""
        key = (dest, True)
        if key not in self.bases:
            if dest in self.modes:
                address = self.carry(b, dest, 1)
            elif dest in self.partition.temporaries:
                address = self.temporary(b, dest)
            elif not self.stage.is_scan:
                address = self.outer(b, dest, self.pointer(b, dest))
            else:
                stride = self.slot(b, f"{dest}.t")
                base = self.pointer(b, dest)
                address = self.e.at(b, base, b.mul(self.at.t, stride))
                if self.repeats:
                    before = self.e.at(b, base, b.mul(self.at.before, stride))
                    self.bases[(f"{dest}.before", True)] = (before, stride)
            self.bases[key] = (address, self.slot(b, f"{dest}.r"))
        return self.bases[key]

    def temporary(self, b: Builder, name: str) -> IRValue:
        address = self.pointer(b, name)
        return address if self.stage.is_scan else self.e.at(b, address, b.mul(self.at.t, self.slot(b, f"{name}.t")))

    def outer(self, b: Builder, name: str, address: IRValue) -> IRValue:
        """Where the rows of this turn of the outer loop begin, in memory that is not the stage's own."""
        further = b.add(b.mul(self.high, self.slot(b, f"{name}.u")), b.mul(self.low, self.slot(b, f"{name}.t")))
        return self.e.at(b, address, further)

    @property
    def repeats(self) -> bool:
        """Whether padded outputs repeat the row's previous output."""
        return self.ends and self.stage.pad == "repeat"

    @property
    def ends(self) -> bool:
        """Whether rows may end before the last step: past their length, or because they are done."""
        return self.stage.lengths is not None or bool(self.stage.until)

    # --- loops ----------------------------------------------------------------------------------------------------

    def tiles(self, b: Builder) -> None:
        e, at = self.e, self.at
        count = e.num(self.tiling.tiles)
        first = b.udiv(b.mul(count, at.part), at.parts)
        last = b.udiv(b.mul(count, b.add(at.part, e.num(1))), at.parts)
        self.single = b.icmp_signed("==", b.sub(self.live, at.row0), e.num(1))
        together = b.select(self.single, e.num(2), e.num(1)) if self.phase.groups else e.num(1)
        with e.for_range(b, first, last, together, name="tiles") as loop:
            left = b.sub(last, loop.index)
            tiles = e.least(b, left, together)
            mirrored = b.sub(b.add(first, left), tiles)
            tile = b.select(b.icmp_signed("==", self.odd, e.num(1)), mirrored, loop.index)
            with e.for_range(b, at.row0, self.live, ROW_BLOCK, name="rows") as block:
                rows = e.least(b, b.sub(self.live, block.index), e.num(ROW_BLOCK))
                for g in range(len(self.phase.groups)):
                    self.accumulate(b, g, tile, tiles, block.index, rows)
                self.epilogue(b, tile, tiles, block.index, rows, self.vector)
            if self.ends:
                self.epilogue(b, tile, tiles, self.live, b.sub(at.row1, self.live), self.ended)

    def accumulate(self, b: Builder, g: int, tile: IRValue, tiles: IRValue, row: IRValue, rows: IRValue) -> None:
        """sums[g] = left @ packed weights, for one tile (or two, with a single row)."""
        e = self.e
        for first, count in runs(self.phase.groups[g].pieces):
            if count == 1:
                self.piece(b, g, first, None, tile, tiles, row, rows)
                continue
            with e.for_range(b, 0, count, name="taps") as tap:
                self.piece(b, g, first, tap.index, tile, tiles, row, rows)

    def piece(self, b: Builder, g: int, q: int, tap: IRValue | None, tile: IRValue, tiles: IRValue, row: IRValue,
              rows: IRValue) -> None:
        """Add piece q of group g, or the piece ``tap`` places behind it: one that differs in its rows alone."""
        e, group = self.e, self.phase.groups[g]
        piece, vectors = group.pieces[q], len(group.parts) * self.tiling.nv
        acc = e.at(b, self.acc, self.offsets[g])
        most = most_rows(e.target, vectors)
        assert piece.load.leaf is not None
        base, stride = self.base(b, piece.load.leaf)
        panels, shift = self.weights[g, q], e.num(piece.load.shift)
        again: IRValue = e.num(int(q > 0))
        if tap is not None:
            panels = b.inttoptr(self.table(b, weight_slot(self.index, g, q), tap), PTR)
            shift = self.table(b, shift_slot(self.index, g, q), tap)
            again = again if q else b.zext(b.icmp_signed(">", tap, e.num(0)), I64)
        left = e.at(b, e.at(b, base, b.mul(b.add(row, shift), stride)), piece.load.off)
        floats = vectors * e.W * WEIGHT_BYTES[self.kept] // 4  # of memory that one k takes
        panel = piece.k * floats
        weights = e.at(b, panels, b.mul(tile, e.num(panel)))
        block = k_block(e.target, vectors, piece.k, self.kept)
        if block == piece.k:
            self.multiply(b, vectors, acc, left, stride, weights, panel, e.num(piece.k), again, tiles, rows, panel)
            return
        few = b.icmp_signed("<=", rows, e.num(most))
        step = b.select(few, e.num(piece.k), e.num(block))
        with e.for_range(b, 0, piece.k, step, name="k") as loop:
            length = e.least(b, b.sub(e.num(piece.k), loop.index), step)
            beta = b.or_(again, b.zext(b.icmp_signed(">", loop.index, e.num(0)), I64))
            self.multiply(b, vectors, acc, e.at(b, left, loop.index), stride,
                          e.at(b, weights, b.mul(loop.index, e.num(floats))), panel, length, beta,
                          tiles, rows, block * floats)

    def table(self, b: Builder, name: str, further: IRValue) -> IRValue:
        """The number ``further`` places behind a slot of the argument table."""
        place = self.e.at(b, self.at.args, self.slots[name], I64)
        return self.e.load(b, self.e.at(b, place, further, I64), I64, align=8, invariant=True)

    def multiply(self, b: Builder, vectors: int, acc: IRValue, left: IRValue, stride: IRValue, weights: IRValue,
                 panel: int, k: IRValue, beta: IRValue, tiles: IRValue, rows: IRValue, ahead: int) -> None:
        """One pass over ``k`` rows of a panel; ``ahead`` floats further the next pass begins."""
        e = self.e
        pair = b.icmp_signed("==", tiles, e.num(2))
        two, one, after = (b.append_basic_block(name) for name in ("pair", "tile", "multiplied"))
        b.cbranch(pair, two, one)
        b.position_at_end(two)
        call_pair(e, b, vectors, acc, e.at(b, acc, self.tile_floats), left, weights, e.at(b, weights, panel), k, beta,
                  self.kept)
        b.branch(after)
        b.position_at_end(one)
        call_rows(e, b, vectors, acc, left, stride, weights, k, beta, rows, ahead, self.kept)
        b.branch(after)
        b.position_at_end(after)

    def epilogue(self, b: Builder, tile: IRValue, tiles: IRValue, row: IRValue, rows: IRValue,
                 each_vector: Callable[[Builder, Place], None]) -> None:
        """``each_vector`` for all vectors of the tiles in these rows."""
        e, nv, n = self.e, self.tiling.nv, self.phase.n
        with e.for_range(b, 0, tiles, name="tile") as each:
            first = b.mul(b.add(tile, each.index), e.num(nv))
            count = e.num(nv)
            if self.tiling.vectors % nv:  # the last tile sticks out
                count = e.least(b, b.sub(e.num(self.tiling.vectors), first), count)
            with e.for_range(b, 0, rows, name="row") as r, e.for_range(b, 0, count, name="vector") as v:
                vector = b.add(first, v.index)
                lane = b.mul(vector, e.num(e.W))
                sums = []
                for g, group in enumerate(self.phase.groups):
                    width = len(group.parts) * nv * e.W
                    at = b.add(b.mul(each.index, e.num(self.tile_floats)), b.mul(r.index, e.num(width)))
                    sums.append(e.at(b, e.at(b, self.acc, self.offsets[g]), at))
                mask = e.tail_mask(b, lane, n) if n % e.W else None
                each_vector(b, Place(b.add(row, r.index), lane, vector, mask, sums, v.index))

    # --- evaluation -----------------------------------------------------------------------------------------------

    def vector(self, b: Builder, place: Place) -> None:
        """Evaluate every root of one (row, vector), then store them all: an update in place may not be seen early."""
        memo: dict[Instance, IRValue] = {}
        for i in self.order:  # operands first, so that evaluation never goes deep
            self.eval(b, i, place, memo, root=i.level >= self.phase.level)
        e = self.e
        values = [stored(e, b, self.eval(b, s.instance, place, memo, root=True)) for s in self.phase.stores]
        reduced = [self.eval(b, r.args[0], place, memo, root=True) for r in self.phase.reduces]
        active = None
        if self.lengths is not None:
            length = e.load(b, e.at(b, self.lengths, place.row, I64), I64, align=8)
            active = b.icmp_signed("<", self.at.t, length)
        if self.stage.until:
            base, stride = self.base(b, Leaf(Source.CARRY, self.stage.until))
            done = e.load(b, e.at(b, base, b.mul(place.row, stride)), F32)
            running = b.fcmp_ordered("==", done, F32(0.0))
            active = running if active is None else b.and_(active, running)
        values = [v if active is None else self.keep(b, s, v, active, place)
                  for s, v in zip(self.phase.stores, values, strict=True)]
        self.write(b, list(zip(self.phase.stores, values, strict=True)), place)
        for r, value in zip(self.phase.reduces, reduced, strict=True):
            partial(self, b, r, value, place)

    def ended(self, b: Builder, place: Place) -> None:
        """One vector of a row that has ended: its carries go over to the next step, its outputs are padding."""
        values = []
        for s in self.phase.stores:
            if s.dest in self.modes and self.modes[s.dest] is not CarryMode.IN_PLACE:
                values.append((s, self.read(b, Leaf(Source.CARRY, s.dest), s.pos, place)))
            elif s.dest not in self.modes and s.dest not in self.partition.temporaries:
                values.append((s, self.padding(b, s, place)))
        self.write(b, values, place)

    def eval(self, b: Builder, i: Instance, place: Place, memo: dict[Instance, IRValue], *, root: bool) -> IRValue:
        if i not in memo:
            spilled = self.partition.spilled.get(i)
            if spilled is not None and not root and is_loaded(self.partition.spilled, self.phase, i):
                memo[i] = typed(self.e, b, i, self.read(b, Leaf(Source.TEMPORARY, spilled), 0, place))
            else:
                memo[i] = self.compute(b, i, place, memo)
        return memo[i]

    def compute(self, b: Builder, i: Instance, place: Place, memo: dict[Instance, IRValue]) -> IRValue:
        e = self.e
        if i.kind is Kind.SPLAT:
            return number(e, b, i)
        if i.kind is Kind.LOAD:
            assert i.leaf is not None
            return typed(e, b, i, self.read(b, i.leaf, i.off, place, i.shift))
        if i.kind is Kind.ROW_SPLAT:
            k = self.phase.row_scalars.index(i.args[0])
            address = e.at(b, self.scalars, b.add(b.mul(self.capacity, e.num(k)), place.row))
            return typed(e, b, i, e.splat(b, e.load(b, address, F32)))
        if i.kind is Kind.MATMUL:
            for g, group in enumerate(self.phase.groups):
                if i in group.parts:
                    at = b.add(place.inner, e.num(group.parts.index(i) * self.tiling.nv))
                    return e.load(b, e.at(b, place.sums[g], b.mul(at, e.num(e.W))), align=e.W * 4)
            raise AssertionError("a matmul that no group of its phase computes")
        args = [self.eval(b, a, place, memo, root=False) for a in i.args]
        return lowered(e, b, i, args)

    def read(self, b: Builder, leaf: Leaf, off: int, place: Place, shift: int = 0) -> IRValue:
        """A vector of memory, at the place's row or ``shift`` rows further."""
        e = self.e
        base, stride = self.base(b, leaf)
        if leaf.source is Source.SCALAR:
            return e.splat(b, e.load(b, base, F32))
        address = e.at(b, base, b.add(place.lane, e.num(off)))
        if leaf.source is not Source.VECTOR:
            address = e.at(b, address, b.mul(b.add(place.row, e.num(shift)) if shift else place.row, stride))
        padded = leaf.source in (Source.CARRY, Source.TEMPORARY)
        return e.load(b, address, mask=None if padded else place.mask)

    def keep(self, b: Builder, s: Store, value: IRValue, active: IRValue, place: Place) -> IRValue:
        """Past a row's length a carry keeps its value, an output is zero or repeats."""
        if s.dest in self.modes:
            return b.select(active, value, self.read(b, Leaf(Source.CARRY, s.dest), s.pos, place))
        if s.dest in self.partition.temporaries:
            return value
        return b.select(active, value, self.padding(b, s, place))

    def padding(self, b: Builder, s: Store, place: Place) -> IRValue:
        """What an output holds past a row's length."""
        e = self.e
        other = e.const(0.0)
        if self.repeats:
            before, _ = self.bases[(f"{s.dest}.before", True)]
            first = b.icmp_signed("==", self.at.step, e.num(0))
            base = b.select(first, self.bases[(s.dest, True)][0], before)
            address = e.at(b, base, b.add(b.mul(place.row, self.bases[(s.dest, True)][1]),
                                          b.add(place.lane, e.num(s.pos))))
            other = b.select(first, other, e.load(b, address, mask=place.mask))
        return other

    def write(self, b: Builder, values: Sequence[tuple[Store, IRValue]], place: Place) -> None:
        e, n = self.e, self.phase.n
        targets = []
        for s, value in values:
            base, stride = self.destination(b, s.dest)
            lane = b.add(place.lane, e.num(s.pos))
            targets.append((value, e.at(b, base, b.add(b.mul(place.row, stride), lane))))
        if not n % e.W:
            for value, address in targets:
                e.store(b, value, address)
        elif targets:
            with b.if_else(b.icmp_signed("<=", place.lane, e.num(n - e.W))) as branches:
                for branch, count in zip(branches, (e.W, n % e.W), strict=True):
                    with branch:
                        for value, address in targets:
                            e.store_first(b, value, address, count)
