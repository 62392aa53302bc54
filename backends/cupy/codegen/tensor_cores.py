"""The products of a persistent loop on tensor cores: bf16 weights and left sides, f32 sums.

A product of a block is tiles of 16 sums (lanes of one part or of several, one behind the other) by 8 rows, which a warp
adds up over steps of 32 k: two mma.m16n8k16. Weights are rounded and laid out on the host in the order in which threads
hold them, and stay in registers, as far as there are, else in shared memory. Left sides are rounded when they are
fetched. The warps share the tiles and the steps; whoever reads a sum adds what the warps have found.

Order of k: of a step's 32, thread t of the 4 that share a row has 8t to 8t + 7, as one load of 16 bytes: for mma h of
the step the numbers 4h to 4h + 3 of these. The sum does not depend on it, and weights and left sides agree on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnngraph.backends.cupy.codegen.arguments import weights_field
from rnngraph.backends.cupy.codegen.products import WARPS, Read, columns, left_of, reads
from rnngraph.ir import Array
from rnngraph.ir.opdef import round_bf16
from rnngraph.phases.instances import Instance
from rnngraph.phases.partition import Group
from rnngraph.phases.stages import Stage

TILE, STEP = 16, 32  # sums of a tile, k of a step
REGISTERS = 144  # of a thread that may hold weights; the rest is for sums and addresses
SUMS = 64  # registers of a thread for sums, beyond which a product's two mma share theirs
ROOMY = 96 << 10  # shared memory that any GPU with tensor cores for bf16 has: up to there more rows stand together


def bf16_bits(array: Array) -> Array:
    """The 16 bits of each number, rounded to the nearest bfloat16."""
    return (round_bf16(np.ascontiguousarray(array, np.float32)).view(np.uint32) >> 16).astype(np.uint16)


def parts_of(total: int, each: int) -> int:
    """How many pieces of ``each`` hold ``total``."""
    return -(-total // each)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a block's warps share the product of one group.

    across, along  warps that share the tiles, and the steps of k
    tiles, steps   of each warp
    kept           steps whose weights a warp holds in registers
    """

    across: int
    along: int
    tiles: int
    steps: int
    kept: int = 0

    @property
    def each(self) -> int:
        """Registers of a thread for the weights of a step."""
        return 8 * self.tiles

    @property
    def sums(self) -> int:
        """Sums of the block, with those that only fill tiles."""
        return self.across * self.tiles * TILE

    @property
    def k(self) -> int:
        """With zeros at the end."""
        return self.along * self.steps * STEP

    @property
    def stride(self) -> int:
        """Bytes from a row of the left side to the next: an odd multiple of 64, so that 8 threads' loads of 16 bytes
        from two rows are in different banks."""
        return 2 * self.k + (64 if self.k % 64 == 0 else 0)

    @property
    def bytes(self) -> int:
        """Of shared memory for weights."""
        return (self.steps - self.kept) * self.tiles * self.across * self.along * 1024


def shape_of(sums: int, k: int, registers: int) -> Shape:
    """The fewest mma of a warp behind one another, then the fewest loads of left sides, then the fewest partial sums;
    at most ``registers`` hold weights."""
    tiles, steps = parts_of(sums, TILE), parts_of(k, STEP)
    found = []
    for across in range(1, min(WARPS, tiles) + 1):
        each, mine = parts_of(tiles, across), parts_of(steps, min(WARPS // across, steps))
        along = parts_of(steps, mine)
        found.append((each * mine, across * mine * along, along, Shape(across, along, each, mine)))
    best = min(found, key=lambda f: f[:3])[-1]
    return Shape(best.across, best.along, best.tiles, best.steps, min(best.steps, registers // best.each))


class TensorCores:
    """Where things are in a block's shared memory, in bytes, for a grid of ``blocks``.

    weights  of (phase, group), what is not in registers: [step][tile][mma][warp][thread][4 x 32 bits]
    left     [rows][k] bf16 of the widest product
    sums     of (phase, group): [warps along k][rows / 8][sums][8] f32
    """

    def __init__(self, stage: Stage, blocks: int) -> None:
        self.blocks = blocks
        self.phases = phases = stage.partition.phases
        self.lanes = [parts_of(p.n, blocks) for p in phases]
        self.shapes: dict[tuple[int, int], Shape] = {}
        self.weights: dict[tuple[int, int], int] = {}
        self.left, free = 0, REGISTERS
        for p, phase in enumerate(phases):
            for g, group in enumerate(phase.groups):
                shape = shape_of(len(group.parts) * self.lanes[p], group.k, free)
                self.shapes[p, g], self.weights[p, g] = shape, self.left
                self.left += shape.bytes
                free -= shape.kept * shape.each
        for self.rows in (32, 16, 8):
            if self._place() <= ROOMY:
                break

    def _place(self) -> int:
        """Where left sides and sums are, for so many rows; all bytes."""
        self.sums_at = self.left + self.rows * max((s.stride for s in self.shapes.values()), default=0)
        self.first: dict[tuple[int, int], int] = {}
        ends = [0]
        for p, phase in enumerate(self.phases):
            at = 0
            for g in range(len(phase.groups)):
                self.first[p, g] = at
                at += self.shapes[p, g].along * self.slab(p, g)
            ends.append(at)
        self.bytes = self.sums_at + 4 * max(ends)
        return self.bytes

    def slab(self, p: int, g: int) -> int:
        """Floats that a warp along k adds to the sums of a group."""
        return self.rows * self.shapes[p, g].sums

    @staticmethod
    def grids(stage: Stage, sms: int) -> Sequence[int]:
        """As few blocks as have a lane for every warp, for a barrier of few is faster; else as many as share evenly."""
        widest = max(p.n for p in stage.partition.phases)
        few = max(1, min(sms, widest // WARPS))
        return tuple(parts_of(widest, parts_of(widest, blocks)) for blocks in (few, sms))

    # --- weights ----------------------------------------------------------------------------------------------------

    def pack(self, group: Group) -> Array:
        """[block][tile][step][mma][thread][4] of 32 bits, two bf16 each."""
        (p, g), = ((p, g) for p, phase in enumerate(self.phases) for g, x in enumerate(phase.groups) if x is group)
        shape, lanes, parts = self.shapes[p, g], self.lanes[p], len(group.parts)
        given = np.concatenate([np.stack(columns(group, q)) for q in range(len(group.pieces))], 1)  # [parts, k, n]
        n = given.shape[2]
        wide = np.zeros((parts, shape.k, self.blocks * lanes), np.uint16)
        wide[:, : group.k, :n] = bf16_bits(given)
        sums = np.zeros((self.blocks, shape.sums, shape.k), np.uint16)
        sums[:, : parts * lanes] = wide.reshape(parts, shape.k, self.blocks, lanes).transpose(2, 0, 3, 1).reshape(
            self.blocks, parts * lanes, shape.k)
        #                    block        tile  high row  step  t  mma  high k  pair
        cut = sums.reshape(self.blocks, -1, 2, 8, shape.k // STEP, 4, 2, 2, 2)
        return np.ascontiguousarray(cut.transpose(0, 1, 4, 6, 3, 5, 7, 2, 8)).view(np.uint32)

    def prologue(self) -> list[str]:
        lines = ["RG_SHARED(unsigned char, shared);", f"unsigned char* left = shared + {self.left};",
                 f"float* sums = reinterpret_cast<float*>(shared + {self.sums_at});", "(void)left; (void)sums;",
                 "const int warp = threadIdx.x / 32, thread = threadIdx.x % 32;"]
        for (p, g), s in self.shapes.items():
            keep, name = s.kept * s.tiles * 2, f"{p}_{g}"
            into = [f"        if (j < {s.kept}) kept{name}[(j * {s.tiles} + i) * 2 + h] = x;"] if s.kept else []
            if s.kept < s.steps:
                index = f"{self._resident(s, 'j')} + thread"
                into += [f"        if (j >= {s.kept}) resident{name}[{index}] = x;"]
                lines.append(f"uint4* resident{name} = reinterpret_cast<uint4*>(shared + {self.weights[p, g]});")
            lines += [
                *([f"uint4 kept{name}[{keep}];"] if keep else []),
                f"if (warp < {s.across * s.along}) {{",
                f"    const uint4* from = reinterpret_cast<const uint4*>(a.{weights_field(p, g)}) + thread;",
                "#pragma unroll", f"    for (int at = 0; at < {s.steps * s.tiles * 2}; at++) {{",
                f"        const int j = at / {s.tiles * 2}, i = at / 2 % {s.tiles}, h = at % 2;",
                f"        const int tile = ((int)blockIdx.x * {s.tiles} + i) * {s.across} + warp % {s.across};",
                f"        const int step = warp / {s.across} + j * {s.along};",
                f"        const uint4 x = from[((tile * {s.along * s.steps} + step) * 2 + h) * 32];",
                *into, "    }", "}"]
        return [*lines, "__syncthreads();"]

    def _resident(self, s: Shape, j: str) -> str:
        """Where the weights of step ``j`` of tile i and mma h of this warp start in shared memory, for its threads."""
        return f"((((({j}) - {s.kept}) * {s.tiles} + i) * 2 + h) * {s.across * s.along} + warp) * 32"

    # --- a step -----------------------------------------------------------------------------------------------------

    def sum(self, p: int, i: Instance) -> str:
        g = next(g for g, group in enumerate(self.phases[p].groups) if i in group.parts)
        s, part = self.shapes[p, g], self.phases[p].groups[g].parts.index(i)
        at = (f"{self.first[p, g]} + ((row - row0) / 8 * {s.sums} + {part * self.lanes[p]} + (lane - lane0)) * 8 + "
              "(row - row0) % 8")
        return f"rg_total<{s.along}>(sums + {at}, {self.slab(p, g)})"

    def multiply(self, p: int, read: Read) -> list[str]:
        lines, before = list[str](), None
        for g, group in enumerate(self.phases[p].groups):
            s = self.shapes[p, g]
            if before != (left_of(group), s.stride):  # else that left side is still there
                lines += [*(["__syncthreads();"] if g else []), *fetch(group, s, read)]
            before = left_of(group), s.stride
            lines += [f"if (warp < {s.across * s.along}) {{", *self._products(p, g), "}"]
        return [*lines, "__syncthreads();"] if lines else []

    def _products(self, p: int, g: int) -> list[str]:
        """For as many rows as there are, in eights."""
        *fewer, most = [n for n in (1, 2, 4) if 8 * n <= self.rows]
        lines = list[str]()
        for tall in fewer:
            lines += [f"if (rows <= {8 * tall}) {{", *self._product(p, g, tall), "} else {"]
        return [*lines, *self._product(p, g, most), *["}"] * len(fewer)]

    def _product(self, p: int, g: int, tall: int) -> list[str]:
        """Of ``tall`` times 8 rows; what stands behind the last row is multiplied too, and never read."""
        s = self.shapes[p, g]
        chains = 2 if s.tiles * tall * 8 <= SUMS else 1
        lines = [f"    const unsigned char* from = left + warp / {s.across} * {2 * STEP} + thread % 4 * 16 + "
                 f"thread / 4 * {s.stride};", f"    float sum[{s.tiles}][{tall}][{chains}][4] = {{}};"]
        for start, end, kept in ((0, s.kept, True), (s.kept, s.steps, False)):
            if start == end:
                continue
            w = (f"kept{p}_{g}[(j * {s.tiles} + i) * 2 + h]" if kept else
                 f"resident{p}_{g}[{self._resident(s, 'j')} + thread]")
            lines += ["#pragma unroll", f"    for (int j = {start}; j < {end}; j++) {{", f"        uint4 x[{tall}];",
                      "#pragma unroll", f"        for (int n = 0; n < {tall}; n++)",
                      f"            x[n] = *reinterpret_cast<const uint4*>(from + j * {s.along * 2 * STEP} + "
                      f"n * {8 * s.stride});",
                      "#pragma unroll", f"        for (int at = 0; at < {2 * s.tiles}; at++) {{",
                      "            const int h = at % 2, i = at / 2;", f"            const uint4 w = {w};",
                      "#pragma unroll", f"            for (int n = 0; n < {tall}; n++)",
                      f"                rg_multiply(sum[i][n][h % {chains}], w, h ? x[n].z : x[n].x, "
                      "h ? x[n].w : x[n].y);", "        }", "    }"]
        lines += [f"    float* out = sums + {self.first[p, g]} + warp / {s.across} * {self.slab(p, g)} + "
                  f"(warp % {s.across} * {TILE} + thread / 4) * 8 + thread % 4 * 2;",
                  "#pragma unroll", f"    for (int at = 0; at < {2 * s.tiles * tall}; at++) {{",
                  f"        const int half = at % 2, i = at / 2 % {s.tiles}, n = at / {2 * s.tiles};",
                  f"        const float* x = sum[i][n][0] + 2 * half, *y = sum[i][n][{chains - 1}] + 2 * half;",
                  f"        const float2 both = {{x[0]{' + y[0]' * (chains - 1)}, x[1]{' + y[1]' * (chains - 1)}}};",
                  "        (void)y;",
                  f"        float* place = out + (n * {s.sums} + i * {TILE * s.across} + half * 8) * 8;",
                  "        *reinterpret_cast<float2*>(place) = both;",
                  "    }"]
        return lines


def fetch(group: Group, s: Shape, read: Read) -> list[str]:
    """Bring the left sides of ``rows`` rows into shared memory as bf16, with zeros behind the last k."""
    lines = ["#pragma unroll 4", f"for (int at = threadIdx.x; at < rows * {s.k // 2}; at += blockDim.x) {{",
             f"    const int row = row0 + at / {s.k // 2};",
             "    const long long outer = row / a.inner, within = row % a.inner;",
             "    (void)outer; (void)within;", "    float both[2];",
             "#pragma unroll", "    for (int e = 0; e < 2; e++) {",
             f"        const int lane = at % {s.k // 2} * 2 + e;", "        float x = 0.0f;"]
    return [*lines, *(f"        {line}" for line in reads(group, read)), "        both[e] = x;", "    }",
            f"    *reinterpret_cast<rg_u32*>(left + (row - row0) * {s.stride} + at % {s.k // 2} * 4) = "
            "rg_pack_bf16(both[0], both[1]);",
            "}", "__syncthreads();"]


__all__ = ["TensorCores", "bf16_bits"]
