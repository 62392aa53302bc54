"""A whole scan as one kernel: every block owns lanes of every phase, and keeps their weights in shared memory.

    loop(args)

A step goes phase by phase. A block brings the left sides of its products into shared memory, `ROWS` rows at a time;
a warp takes a lane, its threads share the sum over k. What follows the products is as in `phase`. Where a phase reads
across lanes what other blocks have written, the whole grid waits (`Stage.waits`), else only the block.
"""

from __future__ import annotations

from rnngraph.backends.cupy.codegen.arguments import weights_field
from rnngraph.backends.cupy.codegen.expressions import Expression
from rnngraph.backends.cupy.codegen.phase import PhaseSource
from rnngraph.phases.instances import Instance, Leaf, Source
from rnngraph.phases.partition import Group
from rnngraph.phases.stages import Stage

ROWS = 8  # whose left sides stand in shared memory together
THREADS = 256
LOOP = "loop"  # the kernel's name


class Layout:
    """Where things are in a block's shared memory, in floats, for a grid of ``blocks``.

    weights  of (phase, group): [lane][part][k], lanes of the block
    left     [ROWS][k] of the widest product
    sums     [part of all groups][ROWS][lane]
    """

    def __init__(self, stage: Stage, blocks: int) -> None:
        phases = stage.partition.phases
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


def misfit(stage: Stage) -> str:
    """Why a stage is no such loop; empty when it is one."""
    if not stage.is_scan:
        return "it is no loop"
    if stage.until:
        return "its rows may be done before its last step"
    if any(p.reduces for p in stage.partition.phases):
        return "it reduces over lanes, of which every block has some"
    if not any(p.groups for p in stage.partition.phases):
        return "it has no product whose weights could stay"
    return ""


class LoopPhase(PhaseSource):
    """A phase within the loop."""

    def read(self, leaf: Leaf, lane: str) -> str:
        place = self.place(leaf, lane)
        if leaf.source in (Source.CARRY, Source.TEMPORARY):  # another block may have written it in this launch
            return f"rg_load_fresh(&{place})"
        return place

    def sum(self, i: Instance) -> Expression:
        first = 0
        for group in self.phase.groups:
            if i in group.parts:
                part = first + group.parts.index(i)
                return Expression(f"sums[({part} * {ROWS} + (row - row0)) * {self.owned} + (lane - lane0)]", "float")
            first += len(group.parts)
        raise AssertionError("a matmul that no group of its phase computes")

    def loop_text(self, layout: Layout) -> str:
        """The phase for the block's lanes, by `ROWS` rows."""
        self.owned = layout.lanes[self.index]
        n = self.phase.n
        self._rows()
        epilogue = [*self.lines, *self._lanes()]
        lines = [f"const int lane0 = min({n}, (int)blockIdx.x * {self.owned}), lane1 = min({n}, lane0 + {self.owned});",
                 f"for (int row0 = 0; row0 < a.rows; row0 += {ROWS}) {{",
                 f"    const int rows = min({ROWS}, a.rows - row0);"]
        first = 0
        for g, group in enumerate(self.phase.groups):
            lines += self.product(g, group, layout, first)
            first += len(group.parts)
        if self.phase.groups:
            lines.append("    __syncthreads();")
        lines += ["    for (int at = threadIdx.x; at < rows * (lane1 - lane0); at += blockDim.x) {",
                  "        const int row = row0 + at / (lane1 - lane0), lane = lane0 + at % (lane1 - lane0);",
                  "        const long long outer = row / a.inner, within = row % a.inner;",
                  "        (void)outer; (void)within;",
                  *(f"        {line}" for line in epilogue), "    }"]
        if self.phase.groups:
            lines.append("    __syncthreads();")
        lines.append("}")
        return "".join(f"        {line}\n" for line in lines)

    def product(self, g: int, group: Group, layout: Layout, first: int) -> list[str]:
        """sums = left @ weights for these rows and the block's lanes."""
        k, parts = group.k, len(group.parts)
        lines = [f"    for (int at = threadIdx.x; at < rows * {k}; at += blockDim.x) {{",
                 f"        const int row = row0 + at / {k};",
                 "        const long long outer = row / a.inner, within = row % a.inner;",
                 "        (void)outer; (void)within;", f"        int lane = at % {k};", "        float x;"]
        at, pieces = 0, len(group.pieces)
        for q, piece in enumerate(group.pieces):
            assert piece.load.leaf is not None
            inside = f"if (lane < {at + piece.k}) " if q < pieces - 1 else ""
            otherwise = "else " if q else ""
            value = self.read(piece.load.leaf, f"(lane - {at} + {piece.load.off})")
            lines.append(f"        {otherwise}{inside}x = {value};")
            at += piece.k
        lines += ["        left[at] = x;", "    }", "    __syncthreads();",
                  "    for (int lane = lane0 + threadIdx.x / 32; lane < lane1; lane += blockDim.x / 32) {",
                  f"        const float* w = shared + {layout.weights[self.index, g]} + (lane - lane0) * {parts * k};",
                  f"        float sum[{parts}][{ROWS}] = {{}};",
                  f"        for (int k = threadIdx.x % 32; k < {k}; k += 32) {{"]
        lines += [f"            const float w{p} = w[{p * k} + k];" for p in range(parts)]
        lines += ["#pragma unroll", f"            for (int r = 0; r < {ROWS}; r++) {{",
                  f"                const float x = r < rows ? left[r * {k} + k] : 0.0f;"]
        lines += [f"                sum[{p}][r] += w{p} * x;" for p in range(parts)]
        lines += ["            }", "        }", "#pragma unroll", f"        for (int p = 0; p < {parts}; p++)",
                  "#pragma unroll", f"            for (int r = 0; r < {ROWS}; r++) {{",
                  "                float x = sum[p][r];",
                  "                for (int by = 16; by > 0; by >>= 1) x += __shfl_xor_sync(0xFFFFFFFFu, x, by);",
                  "                if (threadIdx.x % 32 == 0)",
                  f"                    sums[(({first} + p) * {ROWS} + r) * {self.owned} + (lane - lane0)] = x;",
                  "            }", "    }", "    __syncthreads();"]
        return lines


def loop_text(stage: Stage, blocks: int) -> str:
    """The kernel for a grid of ``blocks``."""
    layout = Layout(stage, blocks)
    lines = ["RG_KERNEL loop(Args a, rg_u32* arrivals) {", "    RG_SHARED(float, shared);",
             f"    float* left = shared + {layout.left};", f"    float* sums = shared + {layout.sums};",
             "    (void)left; (void)sums;"]
    for (p, g), at in layout.weights.items():
        phase = stage.partition.phases[p]
        each = len(phase.groups[g].parts) * phase.groups[g].k
        lines += [f"    for (int lane0 = min({phase.n}, (int)blockIdx.x * {layout.lanes[p]}), i = threadIdx.x;",
                  f"         i < min({phase.n} - lane0, {layout.lanes[p]}) * {each}; i += blockDim.x)",
                  f"        shared[{at} + i] = a.{weights_field(p, g)}[lane0 * {each}LL + i];"]
    lines += ["    __syncthreads();", "    rg_u32 turn = 0;", "    (void)turn;",
              "    for (int step = 0; step < a.steps; step++) {"]
    back = "a.steps - 1 - step" if stage.reverse else "step"
    earlier = "min(t + 1, a.steps - 1)" if stage.reverse else "max(t - 1, 0)"
    lines += [f"        const int t = {back}, before = {earlier};", "        (void)t; (void)before;"]
    text = "\n".join(lines) + "\n"
    for p in range(len(stage.partition.phases)):
        wait = "rg_grid_sync(arrivals, ++turn);" if stage.waits[p] else "__syncthreads();"
        first = f"        if (step > 0) {wait}\n" if p == 0 else f"        {wait}\n"
        text += f"{first}        {{\n{LoopPhase(stage, p).loop_text(layout)}        }}\n"
    return text + "    }\n}\n"


def blocks_for(stage: Stage, sms: int, shared: int) -> int:
    """How many blocks, at most one on a multiprocessor, hold the loop in ``shared`` bytes each; 0 when they cannot. As
    few as have a lane for every warp, for a barrier of few is faster."""
    widest = max(p.n for p in stage.partition.phases)
    least = max(1, min(sms, widest // (THREADS // 32)))
    for blocks in (least, sms):
        if Layout(stage, blocks).bytes <= shared:
            return blocks
    return 0


__all__ = ["LOOP", "ROWS", "THREADS", "Layout", "blocks_for", "loop_text", "misfit"]
