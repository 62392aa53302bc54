"""The products of a persistent loop in f32 whose weights stay on chip: in registers as far as there are, else in
shared memory.

A unit is the sums of a lane, of all parts of a group, over a share of k; a block's warps have as many units each, and
share lanes where that makes them even. A thread has 4 k side by side of every 128. Left sides stand in shared memory;
code of its own for 1, 4 and `ROWS` rows multiplies no more than there are. Whoever reads a sum adds its shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.backends.cupy.codegen.arguments import weights_field
from rnngraph.backends.cupy.codegen.products import ROWS, WARPS, Read, columns, left_of, reads
from rnngraph.ir import Array
from rnngraph.phases.instances import Instance
from rnngraph.phases.partition import Group
from rnngraph.phases.stages import Stage

WIDE = 4 * 32  # k that a warp has at once
REGISTERS = 128  # of a thread that may hold weights; the rest is for sums and addresses
FEW = (1, 4)  # rows, fewer than `ROWS`, that have code of their own


@dataclass(frozen=True, slots=True)
class Units:
    """How a block's warps share the product of one group.

    parts, lanes  of the block
    shares        of a lane's sum
    each          units of a warp
    steps         of `WIDE` k, of a unit
    kept          steps, of all units of a warp, whose weights are in registers
    """

    parts: int
    lanes: int
    shares: int
    each: int
    steps: int
    kept: int

    @property
    def pitch(self) -> int:
        """k, with zeros at the end: floats from row to row of the left side."""
        return self.shares * self.steps * WIDE

    @property
    def bytes(self) -> int:
        """Of shared memory for weights."""
        return 4 * (self.each * self.steps - self.kept) * WARPS * self.parts * WIDE


def units_of(parts: int, lanes: int, k: int, registers: int) -> Units:
    """The fewest steps of a warp, then the fewest shares; at most ``registers`` of a thread hold weights."""
    found = []
    for shares in range(1, min(WARPS, -(-k // WIDE)) + 1):
        each, steps = -(-lanes * shares // WARPS), -(-k // (shares * WIDE))
        found.append((each * steps, shares, each, steps))
    total, shares, each, steps = min(found)
    return Units(parts, lanes, shares, each, steps, min(total, registers // (4 * parts)))


class Resident:
    """Where things are in a block's shared memory, in bytes, for a grid of ``blocks``.

    weights  of (phase, group), what is not in registers: [step of a warp's units][warp][part][thread][4]
    left     [ROWS][pitch] of the widest product
    sums     of (phase, group): [share][part][lane][ROWS]
    """

    def __init__(self, stage: Stage, blocks: int) -> None:
        self.blocks = blocks
        self.rows = ROWS
        self.phases = phases = stage.partition.phases
        self.lanes = [-(-p.n // blocks) for p in phases]
        self.units: dict[tuple[int, int], Units] = {}
        self.weights: dict[tuple[int, int], int] = {}
        self.first: dict[tuple[int, int], int] = {}
        self.left, free, ends = 0, REGISTERS, [0]
        for p, phase in enumerate(phases):
            sums = 0
            for g, group in enumerate(phase.groups):
                u = units_of(len(group.parts), self.lanes[p], group.k, free)
                self.units[p, g], self.weights[p, g], self.first[p, g] = u, self.left, sums
                self.left += u.bytes
                free -= 4 * u.parts * u.kept
                sums += u.shares * u.parts * u.lanes * ROWS
            ends.append(sums)
        self.sums = self.left + 4 * ROWS * max((u.pitch for u in self.units.values()), default=0)
        self.bytes = self.sums + 4 * max(ends)

    @staticmethod
    def grids(stage: Stage, sms: int) -> Sequence[int]:
        """As few blocks as have a lane for every warp, for a barrier of few is faster; else as many as share evenly."""
        widest = max(p.n for p in stage.partition.phases)
        few = max(1, min(sms, widest // WARPS))
        return tuple(-(-widest // -(-widest // blocks)) for blocks in (few, sms))

    # --- weights ----------------------------------------------------------------------------------------------------

    def pack(self, group: Group) -> Array:
        """[block][unit of a warp][step][warp][part][thread][4]."""
        (u,) = (u for (p, g), u in self.units.items() if self.phases[p].groups[g] is group)
        given = np.concatenate([np.stack(columns(group, q)) for q in range(len(group.pieces))], 1)  # [parts, k, n]
        wide = np.zeros((u.parts, u.pitch, self.blocks * u.lanes), np.float32)
        wide[:, : group.k, : given.shape[2]] = given
        cut = wide.reshape(u.parts, u.steps, u.shares, 32, 4, self.blocks, u.lanes).transpose(5, 6, 2, 1, 0, 3, 4)
        whole = np.zeros((self.blocks, u.each * WARPS, u.steps, u.parts, 32, 4), np.float32)
        whole[:, : u.lanes * u.shares] = cut.reshape(self.blocks, u.lanes * u.shares, u.steps, u.parts, 32, 4)
        return np.ascontiguousarray(whole.reshape(self.blocks, u.each, WARPS, *whole.shape[2:]).swapaxes(2, 3))

    def prologue(self) -> list[str]:
        """A thread reads no weights but those that it has brought."""
        lines = ["RG_SHARED(unsigned char, shared);", f"float* left = reinterpret_cast<float*>(shared + {self.left});",
                 f"float* sums = reinterpret_cast<float*>(shared + {self.sums});",
                 "const int warp = threadIdx.x / 32, thread = threadIdx.x % 32;",
                 "(void)left; (void)sums; (void)warp; (void)thread;"]
        for (p, g), u in self.units.items():
            name, total, field = f"{p}_{g}", u.each * u.steps, weights_field(p, g)
            lines += [f"const float4* from{name} = reinterpret_cast<const float4*>(a.{field}) + "
                      f"(((long long)blockIdx.x * {total * WARPS} + warp) * {u.parts * 32}) + thread;"]
            if u.kept:
                lines += [f"float4 kept{name}[{u.kept * u.parts}];", "#pragma unroll",
                          f"for (int i = 0; i < {u.kept * u.parts}; i++) kept{name}[i] = "
                          f"from{name}[i / {u.parts} * {WARPS * u.parts * 32} + i % {u.parts} * 32];"]
            if u.kept < total:
                lines += [f"float4* resident{name} = reinterpret_cast<float4*>(shared + {self.weights[p, g]}) + "
                          f"warp * {u.parts * 32} + thread;",
                          f"for (int i = 0; i < {(total - u.kept) * u.parts}; i++) {{",
                          f"    const int at = i / {u.parts} * {WARPS * u.parts * 32} + i % {u.parts} * 32;",
                          f"    resident{name}[at] = from{name}[{u.kept * WARPS * u.parts * 32} + at];", "}"]
        return [*lines, "__syncthreads();"]

    # --- a step -----------------------------------------------------------------------------------------------------

    def sum(self, p: int, i: Instance) -> str:
        g = next(g for g, group in enumerate(self.phases[p].groups) if i in group.parts)
        u, part = self.units[p, g], self.phases[p].groups[g].parts.index(i)
        at = f"{self.first[p, g]} + ({part * u.lanes} + (lane - lane0)) * {ROWS} + (row - row0)"
        return f"rg_total<{u.shares}>(sums + {at}, {u.parts * u.lanes * ROWS})"

    def multiply(self, p: int, read: Read) -> list[str]:
        groups, lines, before = self.phases[p].groups, list[str](), None
        for g, group in enumerate(groups):
            u = self.units[p, g]
            if before != (left_of(group), u.pitch):  # else that left side is still there
                lines += [*(["__syncthreads();"] if g else []), *fetch(group, u.pitch, read)]
            before = left_of(group), u.pitch
            for rows in FEW:
                lines += [f"if (rows <= {rows}) {{", *self._product(p, g, rows), "} else {"]
            lines += [*self._product(p, g, ROWS), *["}"] * len(FEW)]
        return [*lines, "__syncthreads();"] if lines else []

    def _product(self, p: int, g: int, rows: int) -> list[str]:
        """A warp's units, one behind the other; what stands behind the last row is multiplied too, and never read."""
        u, lines = self.units[p, g], list[str]()
        values = 1 << (u.parts * rows - 1).bit_length()  # filled up for `rg_warp_sums`
        each = 32 // values
        for unit in range(u.each):
            kept = min(max(u.kept - unit * u.steps, 0), u.steps)
            inside = f"warp + {unit * WARPS} < {u.lanes * u.shares}"
            lines += [f"    if ({inside}) {{", f"        const int lane = (warp + {unit * WARPS}) / {u.shares}, "
                      f"share = (warp + {unit * WARPS}) % {u.shares};", f"        float sum[{values}] = {{}};",
                      f"        const float* from = left + share * {WIDE} + thread * 4;"]
            for start, end, w in (
                    (0, kept, f"kept{p}_{g}[({unit * u.steps} + j) * {u.parts} + %d]"),
                    (kept, u.steps,
                     f"resident{p}_{g}[(({unit * u.steps - u.kept} + j) * {WARPS * u.parts} + %d) * 32]")):
                if start < end:
                    lines += ["#pragma unroll" if start == 0 and kept else "#pragma unroll 2",
                              f"        for (int j = {start}; j < {end}; j++) {{",
                              *(f"            const float4 w{part} = {w % part};" for part in range(u.parts)),
                              "#pragma unroll", f"            for (int r = 0; r < {rows}; r++) {{",
                              "                const float4 x = *reinterpret_cast<const float4*>("
                              f"from + r * {u.pitch} + j * {u.shares * WIDE});",
                              *(f"                sum[{part * rows} + r] += w{part}.{e} * x.{e};"  # each one FMA
                                for e in "xyzw" for part in range(u.parts)),
                              "            }", "        }"]
            lines += [f"        const float total = rg_warp_sums<{values}>(sum);",
                      f"        const int value = thread / {each};",
                      f"        if (thread % {each} == 0 && value < {u.parts * rows})",
                      f"            sums[{self.first[p, g]} + ((share * {u.parts} + value / {rows}) * {u.lanes} + "
                      f"lane) * {ROWS} + value % {rows}] = total;", "    }"]
        return lines


def fetch(group: Group, pitch: int, read: Read) -> list[str]:
    """Bring the left sides of ``rows`` rows into shared memory, with zeros behind the last k."""
    lines = ["#pragma unroll 4", f"for (int at = threadIdx.x; at < rows * {pitch}; at += blockDim.x) {{",
             f"    const int row = row0 + at / {pitch}, lane = at % {pitch};",
             "    const long long outer = row / a.inner, within = row % a.inner;",
             "    (void)outer; (void)within;", "    float x = 0.0f;"]
    return [*lines, *(f"    {line}" for line in reads(group, read)), "    left[at] = x;", "}", "__syncthreads();"]


__all__ = ["Resident"]
