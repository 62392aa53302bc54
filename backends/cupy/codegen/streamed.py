"""Products whose weights stay in memory: every step reads them anew, from L2 where they fit it.

Each block owns lanes, as many blocks as there are multiprocessors. A warp takes a lane, all parts of the group at once,
and reads the weights 16 bytes a thread; where a block has fewer lanes than warps, several warps share a lane's sum.
The left sides stand in shared memory, `ROWS` rows at a time: for each of them the weights are read once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rnngraph.backends.cupy.codegen.arguments import weights_field
from rnngraph.backends.cupy.codegen.products import ROWS, WARPS, Left, Read, columns, left_of
from rnngraph.ir import Array
from rnngraph.phases.instances import Instance
from rnngraph.phases.partition import Group, Phase
from rnngraph.phases.stages import Stage

WIDE = 4  # floats that a thread reads at once


class Streamed:
    """Where things are in a block's shared memory, in floats, for a grid of ``blocks``.

    left     of each left side of a phase: [ROWS][pitch]
    sums     [share of a lane's sum][part of all groups][ROWS][lane]
    """

    def __init__(self, stage: Stage, blocks: int) -> None:
        self.blocks = blocks
        self.rows = ROWS
        self.phases = stage.partition.phases
        self.lanes = [-(-p.n // blocks) for p in self.phases]
        self.left = [_places(p) for p in self.phases]
        self.sums = max((sum(ROWS * pitch_of(g) for g in first_of(p).values()) for p in self.phases), default=0)
        room = max((sum(len(g.parts) * self.shares(k, g) for g in p.groups) * ROWS * self.lanes[k]
                    for k, p in enumerate(self.phases)), default=0)
        self.bytes = 4 * (self.sums + room)

    @staticmethod
    def grids(stage: Stage, sms: int) -> Sequence[int]:
        """As many blocks as have a lane of the widest phase, evenly: each multiprocessor brings bandwidth."""
        widest = max(p.n for p in stage.partition.phases)
        return (-(-widest // -(-widest // sms)),)

    def shares(self, p: int, group: Group) -> int:
        """How many warps share a lane's sum: no more than are free, and have 16 bytes for each thread."""
        shares = 1
        while 2 * shares * self.lanes[p] <= WARPS and pitch_of(group) >= 2 * shares * 32 * WIDE:
            shares *= 2
        return shares

    def pack(self, group: Group) -> Array:
        """[lane][part][k], k filled up with zeros to whole reads."""
        pieces = [np.stack(columns(group, q)) for q in range(len(group.pieces))]  # [parts, k, lanes]
        joined = np.concatenate(pieces, 1).transpose(2, 0, 1)
        return np.ascontiguousarray(np.pad(joined, ((0, 0), (0, 0), (0, pitch_of(group) - group.k))))

    def prologue(self) -> list[str]:
        return ["RG_SHARED(float, left);", f"float* sums = left + {self.sums};", "(void)left; (void)sums;"]

    def sum(self, p: int, i: Instance) -> str:
        group = next(g for g in self.phases[p].groups if i in g.parts)
        part, parts = group.parts.index(i), len(group.parts)
        return "(" + " + ".join(
            f"sums[{self._sums(p, group)} + (({share * parts + part} * {ROWS} + (row - row0)) * {self.lanes[p]} + "
            "(lane - lane0))]" for share in range(self.shares(p, group))) + ")"

    def _sums(self, p: int, group: Group) -> int:
        """Where those of a group begin."""
        before = self.phases[p].groups[: self.phases[p].groups.index(group)]
        return sum(len(g.parts) * self.shares(p, g) for g in before) * ROWS * self.lanes[p]

    def multiply(self, p: int, read: Read) -> list[str]:
        """One row alone has code of its own: that is what streams are."""
        phase = self.phases[p]
        if not phase.groups:
            return []
        lines = [line for left, group in first_of(phase).items()
                 for line in self._fetch(self.left[p][left], group, read)]
        lines += ["__syncthreads();"]
        for rows, head in ((1, "if (rows == 1) {"), (ROWS, "} else {")):
            lines += [head, *(f"    {line}" for g, group in enumerate(phase.groups)
                              for line in self._product(p, g, group, rows))]
        return [*lines, "}", "__syncthreads();"]

    def _fetch(self, at: int, group: Group, read: Read) -> list[str]:
        """Bring the left sides of ``rows`` rows into shared memory; zeros stand behind them, and in other rows."""
        pitch = pitch_of(group)
        lines = [f"for (int at = threadIdx.x; at < (rows == 1 ? 1 : {ROWS}) * {pitch}; at += blockDim.x) {{",
                 f"    const int row = row0 + at / {pitch}, lane = at % {pitch};", "    float x = 0.0f;",
                 f"    if (row - row0 < rows && lane < {group.k}) {{",
                 "        const long long outer = row / a.inner, within = row % a.inner;",
                 "        (void)outer; (void)within;"]
        first = 0
        for q, piece in enumerate(group.pieces):
            assert piece.load.leaf is not None
            place = read(piece.load.leaf, f"(lane - {first} + {piece.load.off})")
            inside = f"if (lane < {first + piece.k}) " if q < len(group.pieces) - 1 else ""
            lines.append(f"        {'else ' if q else ''}{inside}x = {place};")
            first += piece.k
        return [*lines, "    }", f"    left[{at} + at] = x;", "}"]

    def _product(self, p: int, g: int, group: Group, rows: int) -> list[str]:
        """The block's sums of a group, for ``rows`` rows."""
        parts, pitch, shares = len(group.parts), pitch_of(group), self.shares(p, group)
        values = 1 << (parts * rows - 1).bit_length()  # of a lane, filled up for `rg_warp_sums`
        each = 32 // values
        return [
            f"for (int unit = threadIdx.x / 32; unit < (lane1 - lane0) * {shares}; unit += {WARPS}) {{",
            f"    const int lane = lane0 + unit / {shares}, share = unit % {shares};",
            f"    const float* w = a.{weights_field(p, g)} + lane * {parts * pitch}LL;",
            f"    float sum[{values}] = {{}};", "#pragma unroll 2" if rows > 1 else "#pragma unroll 4",
            f"    for (int k = (share * 32 + threadIdx.x % 32) * {WIDE}; k < {pitch}; k += {shares * 32 * WIDE}) {{",
            *(f"        const float4 w{part} = rg_load4(w + {part * pitch} + k);" for part in range(parts)),
            "#pragma unroll", f"        for (int r = 0; r < {rows}; r++) {{",
            f"            const float4 x = *reinterpret_cast<const float4*>(left + {self.left[p][left_of(group)]} + "
            f"r * {pitch} + k);",
            *(f"            sum[{part * rows} + r] += w{part}.x * x.x + w{part}.y * x.y + w{part}.z * x.z + "
              f"w{part}.w * x.w;" for part in range(parts)),
            "        }", "    }", f"    const float total = rg_warp_sums<{values}>(sum);",
            f"    const int value = threadIdx.x % 32 / {each};",
            f"    if (threadIdx.x % {each} == 0 && value < {parts * rows})",
            f"        sums[{self._sums(p, group)} + ((share * {parts} + value / {rows}) * {ROWS} + value % {rows}) * "
            f"{self.lanes[p]} + (lane - lane0)] = total;", "}"]


def first_of(phase: Phase) -> dict[Left, Group]:
    """A group of each left side."""
    return {left_of(g): g for g in reversed(phase.groups)}


def pitch_of(group: Group) -> int:
    """Floats from row to row of a left side, and from part to part of the weights."""
    return -(-group.k // WIDE) * WIDE


def _places(phase: Phase) -> dict[Left, int]:
    """Where each left side is in shared memory."""
    at, places = 0, dict[Left, int]()
    for left, group in first_of(phase).items():
        places[left] = at
        at += ROWS * pitch_of(group)
    return places


__all__ = ["Streamed"]
