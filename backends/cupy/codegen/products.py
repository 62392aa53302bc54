"""The products of a persistent loop: what a block keeps of the weights, and how its threads multiply.

`Resident` keeps the weights of the block's lanes in shared memory, in f32. A warp takes a lane, its threads share the
sum over k, `ROWS` rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from rnngraph.backends.cupy.codegen.arguments import weights_field
from rnngraph.ir import Array
from rnngraph.phases.instances import Instance, Leaf
from rnngraph.phases.partition import Group
from rnngraph.phases.stages import Stage
from rnngraph.phases.static import static_array

WARPS = 8  # of a block
ROWS = 8  # whose left sides stand in shared memory together
Read = Callable[[Leaf, str], str]  # the text that reads a leaf's lane at ``row``, ``t`` and ``step``


class Products(Protocol):
    """Of one loop, for a grid of ``blocks``: ``lanes`` of each phase, and ``bytes`` of shared memory, are a block's.
    ``rows`` are multiplied together."""

    blocks: int
    rows: int
    lanes: list[int]
    bytes: int

    def __init__(self, stage: Stage, blocks: int) -> None: ...

    @staticmethod
    def grids(stage: Stage, sms: int) -> Sequence[int]:
        """The numbers of blocks to try on a GPU of ``sms`` multiprocessors, the best first."""

    def pack(self, group: Group) -> Array:
        """A group's weights as the kernel reads them from memory."""

    def prologue(self) -> list[str]:
        """Before the first step: the block's shared memory, ``left`` and what stays in it."""

    def sum(self, p: int, i: Instance) -> str:
        """Where the product ``i`` of phase ``p`` is found, for ``row`` of the rows from ``row0`` and ``lane``."""

    def multiply(self, p: int, read: Read) -> list[str]:
        """The sums of phase ``p`` for ``rows`` rows from ``row0`` and the block's lanes from ``lane0`` to ``lane1``;
        all threads of the block see them behind it."""


class Resident:
    """Where things are in a block's shared memory, in floats, for a grid of ``blocks``.

    weights  of (phase, group): [lane][part][k], lanes of the block
    left     [ROWS][k] of the widest product
    sums     [part of all groups][ROWS][lane]
    """

    def __init__(self, stage: Stage, blocks: int) -> None:
        self.blocks = blocks
        self.rows = ROWS
        self.phases = phases = stage.partition.phases
        self.lanes = [-(-p.n // blocks) for p in phases]
        self.weights: dict[tuple[int, int], int] = {}
        at = 0
        for p, phase in enumerate(phases):
            for g, group in enumerate(phase.groups):
                self.weights[p, g] = at
                at += self.lanes[p] * len(group.parts) * group.k
        self.left = at
        at += ROWS * max((g.k for p in phases for g in p.groups), default=0)
        self.sums = at
        at += max((sum(len(g.parts) for g in p.groups) * ROWS * lanes
                   for p, lanes in zip(phases, self.lanes, strict=True)), default=0)
        self.bytes = 4 * at

    @staticmethod
    def grids(stage: Stage, sms: int) -> Sequence[int]:
        """As few blocks as have a lane for every warp, for a barrier of few is faster; else all."""
        widest = max(p.n for p in stage.partition.phases)
        return max(1, min(sms, widest // WARPS)), sms

    def pack(self, group: Group) -> Array:
        """[lane][part][k]."""
        pieces = [np.stack(columns(group, q)) for q in range(len(group.pieces))]  # [parts, k, lanes]
        return np.ascontiguousarray(np.concatenate(pieces, 1).transpose(2, 0, 1))

    def prologue(self) -> list[str]:
        lines = ["RG_SHARED(float, shared);", f"float* left = shared + {self.left};",
                 f"float* sums = shared + {self.sums};", "(void)left; (void)sums;"]
        for (p, g), at in self.weights.items():
            phase = self.phases[p]
            each = len(phase.groups[g].parts) * phase.groups[g].k
            lines += [f"for (int lane0 = min({phase.n}, (int)blockIdx.x * {self.lanes[p]}), i = threadIdx.x;",
                      f"     i < min({phase.n} - lane0, {self.lanes[p]}) * {each}; i += blockDim.x)",
                      f"    shared[{at} + i] = a.{weights_field(p, g)}[lane0 * {each}LL + i];"]
        return [*lines, "__syncthreads();"]

    def sum(self, p: int, i: Instance) -> str:
        part = [x for group in self.phases[p].groups for x in group.parts].index(i)
        return f"sums[({part} * {ROWS} + (row - row0)) * {self.lanes[p]} + (lane - lane0)]"

    def multiply(self, p: int, read: Read) -> list[str]:
        phase, first, lines = self.phases[p], 0, list[str]()
        for g, group in enumerate(phase.groups):
            lines += [*fetch(group, read), *self._product(p, g, group, first)]
            first += len(group.parts)
        return lines

    def _product(self, p: int, g: int, group: Group, first: int) -> list[str]:
        k, parts, owned = group.k, len(group.parts), self.lanes[p]
        return [
            "for (int lane = lane0 + threadIdx.x / 32; lane < lane1; lane += blockDim.x / 32) {",
            f"    const float* w = shared + {self.weights[p, g]} + (lane - lane0) * {parts * k};",
            f"    float sum[{parts}][{ROWS}] = {{}};",
            f"    for (int k = threadIdx.x % 32; k < {k}; k += 32) {{",
            *(f"        const float w{part} = w[{part * k} + k];" for part in range(parts)),
            "#pragma unroll", f"        for (int r = 0; r < {ROWS}; r++) {{",
            f"            const float x = r < rows ? left[r * {k} + k] : 0.0f;",
            *(f"            sum[{part}][r] += w{part} * x;" for part in range(parts)),
            "        }", "    }", "#pragma unroll", f"    for (int p = 0; p < {parts}; p++)",
            "#pragma unroll", f"        for (int r = 0; r < {ROWS}; r++) {{",
            "            float x = sum[p][r];",
            "            for (int by = 16; by > 0; by >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, by);",
            "            if (threadIdx.x % 32 == 0)",
            f"                sums[(({first} + p) * {ROWS} + r) * {owned} + (lane - lane0)] = x;",
            "        }", "}", "__syncthreads();"]


def fetch(group: Group, read: Read) -> list[str]:
    """Bring the left sides of ``rows`` rows into shared memory, `left`."""
    k = group.k
    lines = [f"for (int at = threadIdx.x; at < rows * {k}; at += blockDim.x) {{",
             f"    const int row = row0 + at / {k};",
             "    const long long outer = row / a.inner, within = row % a.inner;",
             "    (void)outer; (void)within;", f"    int lane = at % {k};", "    float x;"]
    at, pieces = 0, len(group.pieces)
    for q, piece in enumerate(group.pieces):
        assert piece.load.leaf is not None
        inside = f"if (lane < {at + piece.k}) " if q < pieces - 1 else ""
        otherwise = "else " if q else ""
        lines.append(f"    {otherwise}{inside}x = {read(piece.load.leaf, f'(lane - {at} + {piece.load.off})')};")
        at += piece.k
    return [*lines, "    left[at] = x;", "}", "__syncthreads();"]


def columns(group: Group, q: int) -> list[Array]:
    """What piece q of a group multiplies, for each part: [k, lanes]."""
    found = []
    for part in group.parts:
        piece = part.pieces[q]
        right = static_array(piece.right)
        found.append(right[piece.k_pos : piece.k_pos + piece.k, part.off : part.off + part.n])
    return found


__all__ = ["ROWS", "WARPS", "Products", "Read", "Resident", "columns", "fetch"]
