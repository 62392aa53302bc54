"""A whole scan as one kernel: every block owns lanes of every phase, and keeps their weights in shared memory.

    loop(args)

A step goes phase by phase, `ROWS` rows at a time: first the sums of the block's lanes (`products`), then what follows
them, as in `phase`. Where a phase reads across lanes what other blocks have written, the whole grid waits
(`Stage.waits`), else only the block.
"""

from __future__ import annotations

from rnngraph.backends.cupy.codegen.expressions import Expression
from rnngraph.backends.cupy.codegen.phase import PhaseSource
from rnngraph.backends.cupy.codegen.products import ROWS, Products, Resident
from rnngraph.backends.cupy.codegen.streamed import Streamed
from rnngraph.phases.instances import Instance, Leaf, Source
from rnngraph.phases.stages import Stage

THREADS = 256
LOOP = "loop"  # the kernel's name
PRODUCTS: dict[str, type[Products]] = {"cupy.loop": Resident, "cupy.loop.streamed": Streamed}  # by implementation


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
        return Expression(self.products.sum(self.index, i), "float")

    def loop_text(self, products: Products) -> str:
        """The phase for the block's lanes, by `ROWS` rows."""
        self.products = products
        owned, n = products.lanes[self.index], self.phase.n
        self._rows()
        epilogue = [*self.lines, *self._lanes()]
        sums = products.multiply(self.index, self.read)
        lines = [f"const int lane0 = min({n}, (int)blockIdx.x * {owned}), lane1 = min({n}, lane0 + {owned});",
                 f"for (int row0 = 0; row0 < a.rows; row0 += {ROWS}) {{",
                 f"    const int rows = min({ROWS}, a.rows - row0);",
                 *(f"    {line}" for line in sums),
                 "    for (int at = threadIdx.x; at < rows * (lane1 - lane0); at += blockDim.x) {",
                 "        const int row = row0 + at / (lane1 - lane0), lane = lane0 + at % (lane1 - lane0);",
                 "        const long long outer = row / a.inner, within = row % a.inner;",
                 "        (void)outer; (void)within;",
                 *(f"        {line}" for line in epilogue), "    }",
                 *(["    __syncthreads();"] if sums else []), "}"]
        return "".join(f"        {line}\n" for line in lines)


def loop_text(stage: Stage, products: Products) -> str:
    """The kernel."""
    back = "a.steps - 1 - step" if stage.reverse else "step"
    earlier = "min(t + 1, a.steps - 1)" if stage.reverse else "max(t - 1, 0)"
    lines = [*products.prologue(), "rg_u32 turn = 0;", "(void)turn;", "for (int step = 0; step < a.steps; step++) {",
             f"    const int t = {back}, before = {earlier};", "    (void)t; (void)before;"]
    text = "RG_KERNEL loop(Args a, rg_u32* arrivals) {\n" + "".join(f"    {line}\n" for line in lines)
    for p in range(len(stage.partition.phases)):
        wait = "rg_grid_sync(arrivals, ++turn);" if stage.waits[p] else "__syncthreads();"
        first = f"        if (step > 0) {wait}\n" if p == 0 else f"        {wait}\n"
        text += f"{first}        {{\n{LoopPhase(stage, p).loop_text(products)}        }}\n"
    return text + "    }\n}\n"


def arranged(stage: Stage, impl: str, sms: int, shared: int) -> Products | None:
    """The products of a loop on a GPU whose blocks have ``shared`` bytes, at most one block on a multiprocessor; None
    when they do not fit."""
    for blocks in PRODUCTS[impl].grids(stage, sms):
        products = PRODUCTS[impl](stage, blocks)
        if products.bytes <= shared:
            return products
    return None


__all__ = ["LOOP", "PRODUCTS", "THREADS", "arranged", "loop_text", "misfit"]
