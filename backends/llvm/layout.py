"""Register tiles and weight packing: decided from a stage's phases and the vector width alone.

A lane tile is NV vectors of every part of a group. Packed weights are [tile][k][part][NV][W], zero-padded lanes,
one buffer per (phase, group, piece): the microkernel streams them front to back.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.ir import Array
from rnngraph.ir.opdef import round_bf16
from rnngraph.phases.partition import MAX_PARTS, Group, Partition, Phase
from rnngraph.phases.static import static_array

ROW_BLOCK = 64  # rows that share one pass over a weight tile; their sums stay in L1
PANEL = 16 * 1024  # bytes of weights that stay in L1 while a row block passes
ALIGN = 64
ALONE = 1.1  # time of a vector that is accumulated alone, relative to one beside others: empty lanes may cost less
HUGE_PAGE = 2 << 20
WEIGHT_BYTES = {"f32": 4, "bf16": 2}
FLOAT = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class Tiling:
    """How one lane domain is cut: ``nv`` vectors of ``width`` lanes a tile, ``tiles`` tiles, masked when ragged."""

    n: int
    nv: int
    width: int

    @property
    def vectors(self) -> int:
        return -(-self.n // self.width)

    @property
    def tiles(self) -> int:
        return -(-self.vectors // self.nv)


def tilings(partition: Partition, width: int) -> dict[int, Tiling]:
    """The tiling of every lane extent. It depends on the extent alone, so that a thread owns the same lanes of a
    domain in every phase."""
    parts: dict[int, int] = {}
    for p in partition.phases:
        parts[p.n] = max([parts.get(p.n, 1), *(len(g.parts) for g in p.groups)])
    out = {}
    for n, most in parts.items():
        fits = [Tiling(n, nv, width) for nv in (4, 2, 3, 1) if nv * most <= MAX_PARTS or nv == 1]
        out[n] = min(fits, key=lambda t: t.tiles * t.nv * (ALONE if t.nv * most == 1 else 1.0))
    return out


def k_block(target: CpuTarget, vectors: int, k: int, kept: str = "f32") -> int:
    """How much of k is accumulated per pass, so that the weight panel stays in L1."""
    block = PANEL // (vectors * target.width * WEIGHT_BYTES[kept])
    return k if k <= block + block // 2 else block


def pack(group: Group, piece: int, tiling: Tiling, kept: str = "f32") -> Array:
    """The weights of one piece of a group as [tile][k][part][nv][W], 64-byte aligned; in bf16 with the vectors of a k
    interleaved by two, as the microkernels read them."""
    q = group.pieces[piece]
    nv, w, tiles = tiling.nv, tiling.width, tiling.tiles
    out = aligned((tiles, q.k, len(group.parts), nv * w))
    for index, part in enumerate(group.parts):
        right = part.pieces[piece]
        matrix = static_array(right.right)[right.k_pos : right.k_pos + q.k, part.off : part.off + part.n]
        padded = np.zeros((q.k, tiles * nv * w), np.float32)
        padded[:, : part.n] = matrix
        out[:, :, index, :] = padded.reshape(q.k, tiles, nv * w).transpose(1, 0, 2)
    return out if kept == "f32" else _halves(out.reshape(tiles, q.k, len(group.parts) * nv, w))


def _halves(weights: Array) -> Array:
    """[tile][k][vector][W] in bf16, to the nearest: vectors 2j and 2j + 1 lane by lane; one that is left, as it is."""
    bits = (round_bf16(weights).view(np.uint32) >> 16).astype(np.uint16)
    out = aligned(bits.shape, dtype=np.dtype(np.uint16))
    even = bits.shape[2] // 2 * 2
    pairs = bits[:, :, :even].reshape(*bits.shape[:2], even // 2, 2, bits.shape[3])
    out[:, :, :even] = pairs.swapaxes(3, 4).reshape(*bits.shape[:2], even, bits.shape[3])
    out[:, :, even:] = bits[:, :, even:]
    return out


def aligned(shape: tuple[int, ...], *, slack: int = 16, dtype: np.dtype[Any] = FLOAT) -> Array:
    """A zeroed array that starts on a cache line and may be read ``slack`` floats beyond its end. Large ones
    ask for huge pages: streaming weights beyond the second-level cache is up to a third faster with them."""
    used = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    size = used + slack * 4
    if size >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        region = mmap.mmap(-1, size + HUGE_PAGE)
        region.madvise(mmap.MADV_HUGEPAGE)
        raw, unit = np.frombuffer(region, np.uint8), HUGE_PAGE
    else:
        raw, unit = np.zeros(size + ALIGN, np.uint8), ALIGN
    start = -raw.__array_interface__["data"][0] % unit
    return raw[start : start + used].view(dtype).reshape(shape)


def group_offsets(p: Phase, tiling: Tiling) -> tuple[list[int], int]:
    """Where each group's sums stand in the accumulator tile (in floats), and the tile's size."""
    offsets, at = [], 0
    for g in p.groups:
        offsets.append(at)
        at += ROW_BLOCK * len(g.parts) * tiling.nv * tiling.width
    return offsets, max(at, 1)
