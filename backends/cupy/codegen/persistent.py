"""A whole scan as one kernel: every block owns lanes of every phase, and keeps their weights in shared memory.

    loop(args)

A step goes phase by phase, `Products.rows` rows at a time: first the sums of the block's lanes (`products`), then what
follows them, as in `phase`. Where a phase reads across lanes what other blocks have written, the whole grid waits
(`Stage.waits`), else only the block. When all rows are done (`Stage.until`) all blocks leave in the same step.
"""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.backends.cupy.codegen.expressions import Expression
from rnngraph.backends.cupy.codegen.phase import PhaseSource, combined, divided, identity, reducer
from rnngraph.backends.cupy.codegen.products import Products
from rnngraph.backends.cupy.codegen.resident import Resident
from rnngraph.backends.cupy.codegen.streamed import Streamed
from rnngraph.backends.cupy.codegen.tensor_cores import TensorCores
from rnngraph.phases.hazards import CarryMode, reduced
from rnngraph.phases.instances import Instance, Leaf, Source
from rnngraph.phases.stages import Stage

THREADS = 256
LOOP = "loop"  # the kernel's name
PRODUCTS: dict[str, type[Products]] = {  # by implementation
    "cupy.loop": Resident, "cupy.loop.streamed": Streamed, "cupy.loop.bf16": TensorCores}


def misfit(stage: Stage) -> str:
    """Why a stage is no such loop; empty when it is one."""
    if not stage.is_scan:
        return "it is no loop"
    if stage.shifts.margins:
        return "it reads states at other rows than its own"
    return ""


class LoopPhase(PhaseSource):
    """A phase within the loop. A reduction over lanes that stand in memory (`Phase.fold`) every block makes for itself;
    of any other it leaves the part of its lanes in memory, and those who need it add the parts of all blocks, always
    in the same order."""

    def __init__(self, stage: Stage, index: int, products: Products) -> None:
        super().__init__(stage, index)
        self.products = products
        number = {k: r for r, k in self.partition.reductions.items()}
        self.awaited = [number[k] for k in reduced(self.partition, self.phase)]

    def read(self, leaf: Leaf, lane: str, shift: int = 0) -> str:
        place = self.place(leaf, lane, shift)
        return self.changing(place) if leaf.source in (Source.CARRY, Source.TEMPORARY) else place

    def changing(self, place: str) -> str:
        return f"rg_load_fresh(&{place})"  # another block may have written it in this launch

    def sum(self, i: Instance) -> Expression:
        return Expression(self.products.sum(self.index, i), "float")

    def reduced(self, i: Instance) -> str:
        if i in self.awaited:
            return f"reduced[{self.awaited.index(i) * self.products.rows} + (row - row0)]"
        return self.changing(f"a.reduced{self.partition.reductions[i]}[blockIdx.x * (long long)a.rows + row]")

    def text(self) -> str:
        """The phase for the block's lanes, by `Products.rows` rows where their sums stand in shared memory."""
        self._rows()
        rows, lanes = list(self.lines), self._lanes()
        sums = self.products.multiply(self.index, self.read)
        shared = bool(sums or self.awaited)
        together = self.products.rows if shared else "a.rows"
        lines = [*self._owned(), f"for (int row0 = 0; row0 < a.rows; row0 += {together}) {{",
                 f"    const int rows = min({together}, a.rows - row0);",
                 *(f"    {line}" for line in (*self._parts(), *sums)),
                 *(f"    {line}" for line in (self._reducing(rows, lanes) if self.phase.reduces else
                                              self._flat([*rows, *lanes]))),
                 *(["    __syncthreads();"] if shared else []), "}"]
        return "".join(f"        {line}\n" for line in lines)

    def tail(self) -> str:
        """The block's lanes when every row is done: this step's states are the last ones, outputs are as behind an end.
        Empty when the phase leaves nothing of either."""
        lines: list[str] = []
        for s in self.phase.stores:
            if self.modes.get(s.dest) is CarryMode.DOUBLE:
                lines.append(f"if ((a.steps - step) % 2) {self.target(s)} = {self.before(s)};")
            elif s.dest in self.stage.outputs:
                last = f"step == 0 ? 0.0f : {self.target(s, 'before')}" if self.stage.pad == "repeat" else "0.0f"
                time = "a.steps - 1 - later" if self.stage.reverse else "later"
                lines += [f"for (int later = step; later < a.steps; later++) {self.target(s, f'({time})')} = {last};"]
        if not lines:
            return ""
        lines = [*self._owned(), "const int row0 = 0, rows = a.rows;", *self._flat(lines)]
        return "".join(f"            {line}\n" for line in ("{", *lines, "}"))

    def _owned(self) -> list[str]:
        """Which lanes are the block's."""
        n, owned = self.phase.n, self.products.lanes[self.index]
        if self.phase.fold:
            return [f"const int lane0 = 0, lane1 = {n};"]
        return [f"const int lane0 = min({n}, (int)blockIdx.x * {owned}), lane1 = min({n}, lane0 + {owned});"]

    def _flat(self, body: Sequence[str]) -> list[str]:
        """A thread for every row and lane."""
        return ["for (int at = threadIdx.x; at < rows * (lane1 - lane0); at += blockDim.x) {",
                "    const int row = row0 + at / (lane1 - lane0), lane = lane0 + at % (lane1 - lane0);", *_PLACE,
                *(f"    {line}" for line in body), "}"]

    def _reducing(self, rows: Sequence[str], lanes: Sequence[str]) -> list[str]:
        """A warp for every row."""
        lines = ["for (int row = row0 + threadIdx.x / 32; row < row0 + rows; row += blockDim.x / 32) {", *_PLACE,
                 *(f"    {line}" for line in (*rows, *self._starts())),
                 "    for (int lane = lane0 + threadIdx.x % 32; lane < lane1; lane += 32) {",
                 *(f"        {line}" for line in lanes), "    }"]
        for k, r in enumerate(self.phase.reduces):
            place = f"a.reduced{self.partition.reductions[r]}[blockIdx.x * (long long)a.rows + row]"
            mean = divided(r) if self.phase.fold else ""
            lines += [f"    sum{k} = rg_warp_{reducer(r)}(sum{k});",
                      f"    if (threadIdx.x % 32 == 0) {place} = sum{k}{mean};"]
        return [*lines, "}"]

    def _parts(self) -> list[str]:
        """Add the parts of the blocks, as `reduced`."""
        lines: list[str] = []
        for at, r in enumerate(self.awaited):
            blocks = self.owners(r)
            part = self.changing(f"a.reduced{self.partition.reductions[r]}[b * (long long)a.rows + row]")
            lines += ["for (int row = row0 + threadIdx.x / 32; row < row0 + rows; row += blockDim.x / 32) {",
                      f"    float x = {identity(r)};",
                      f"    for (int b = threadIdx.x % 32; b < {blocks}; b += 32) x = {combined(r, 'x', part)};",
                      f"    x = rg_warp_{reducer(r)}(x);",
                      f"    if (threadIdx.x % 32 == 0) reduced[{at * self.products.rows} + (row - row0)] = "
                      f"x{divided(r)};", "}"]
        return [*lines, "__syncthreads();"] if lines else []

    def owners(self, r: Instance) -> int:
        """How many blocks have lanes of what a reduction adds."""
        (p,) = (p for p, phase in enumerate(self.partition.phases) if r in phase.reduces)
        return -(-self.partition.phases[p].n // self.products.lanes[p])


_PLACE = ["    const long long outer = row / a.inner, within = row % a.inner;", "    (void)outer; (void)within;"]


def loop_text(stage: Stage, products: Products) -> str:
    """The kernel."""
    phases = [LoopPhase(stage, p, products) for p in range(len(stage.partition.phases))]
    return f"RG_KERNEL loop(Args a, rg_u32* arrivals) {{\n    rg_u32 turn = 0;\n{steps_text(phases)}}}\n"


def steps_text(phases: Sequence[LoopPhase]) -> str:
    """All steps of a stage, within a function that has ``a``, ``arrivals`` and ``turn``."""
    stage, products = phases[0].stage, phases[0].products
    back = "a.steps - 1 - step" if stage.reverse else "step"
    earlier = "min(t + 1, a.steps - 1)" if stage.reverse else "max(t - 1, 0)"
    lines = [f"RG_SHARED(float, all); float* reduced = all + {_behind(products) // 4};", "(void)reduced;",
             *products.prologue(), "(void)turn;", "for (int step = 0; step < a.steps; step++) {",
             f"    const int t = {back}, before = {earlier};", "    (void)t; (void)before;"]
    text = "".join(f"    {line}\n" for line in lines)
    for p, phase in enumerate(phases):
        waits = stage.waits[p] or (p == 0 and bool(stage.until))  # what is done must be seen by all
        wait = "rg_grid_sync(arrivals, ++turn);" if waits else "__syncthreads();"
        text += f"        if (step > 0) {wait}\n" if p == 0 else f"        {wait}\n"
        text += _leave(phases) if p == 0 and stage.until else ""
        text += f"        {{\n{phase.text()}        }}\n"
    return text + "    }\n"


def _leave(phases: Sequence[LoopPhase]) -> str:
    """The end of the loop when every row is done. All blocks see the same, so none waits for one that has left."""
    first = phases[0]
    done = first.changing(f"{first.carry(first.stage.until, 0)}[row]")
    ended = " && t < a.lengths[row]" if first.stage.lengths is not None and not first.stage.reverse else ""
    return (f"        int open = 0;\n        for (int row = threadIdx.x; row < a.rows; row += blockDim.x) "
            f"open |= {done} == 0.0f{ended};\n        if (!__syncthreads_or(open)) {{\n"
            f"{''.join(p.tail() for p in phases)}            break;\n        }}\n")


def _behind(products: Products) -> int:
    """Where the block's memory goes on behind that of the products."""
    return -(-products.bytes // 16) * 16


def loop_bytes(stage: Stage, products: Products) -> int:
    """Shared memory of a block."""
    parts = max((len(reduced(stage.partition, p)) for p in stage.partition.phases), default=0)
    return _behind(products) + 4 * products.rows * parts


def arranged(stage: Stage, impl: str, sms: int, shared: int) -> Products | None:
    """The products of a loop on a GPU whose blocks have ``shared`` bytes, at most one block on a multiprocessor; None
    when they do not fit."""
    for blocks in PRODUCTS[impl].grids(stage, sms):
        products = PRODUCTS[impl](stage, blocks)
        if loop_bytes(stage, products) <= shared:
            return products
    return None


__all__ = ["LOOP", "PRODUCTS", "THREADS", "LoopPhase", "arranged", "loop_bytes", "loop_text", "misfit", "steps_text"]
