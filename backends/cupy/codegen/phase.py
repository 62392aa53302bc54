"""One phase as a kernel: what follows the products, for every row and lane.

    phase(args, t, before, step)

``t`` is the step's time, ``before`` that of the step before it, ``step`` counts them. The products of the phase's
groups stand in memory. A thread has one lane of one row; where the phase reduces over lanes, a block has one row.
"""

from __future__ import annotations

from rnngraph.backends.cupy.codegen.arguments import field_of, sums_field
from rnngraph.backends.cupy.codegen.expressions import Expression, cast, kind_of, loaded, lowered, number, stored
from rnngraph.phases.hazards import CarryMode
from rnngraph.phases.instances import Instance, Kind, Leaf, Source, postorder
from rnngraph.phases.partition import Store, evaluated, is_loaded
from rnngraph.phases.stages import Stage

THREADS = 256
IDENTITY = {"reduce_max": float("-inf"), "reduce_min": float("inf")}
COMBINE = {"reduce_max": "rg_most", "reduce_min": "rg_least"}

REDUCE = """
RG_DEVICE float rg_warp_{name}(float x) {{
    for (int by = 16; by > 0; by >>= 1) x = {both};
    return x;
}}

RG_DEVICE float rg_block_{name}(float x, float* shared) {{
    x = rg_warp_{name}(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    float total = shared[0];
    for (unsigned k = 1; k < blockDim.x / 32; k++) {{
        float y = shared[k];
        total = {all};
    }}
    return total;
}}
"""


def reducers() -> str:
    """The reductions of a warp and of a block: every thread gets the result; the same bits every time."""
    sums = REDUCE.format(name="add", both="x + __shfl_xor_sync(0xFFFFFFFFu, x, by)", all="total + y")
    others = [REDUCE.format(name=f[3:], both=f"{f}(x, __shfl_xor_sync(0xFFFFFFFFu, x, by))", all=f"{f}(total, y)")
              for f in COMBINE.values()]
    return sums + "".join(others)


def identity(r: Instance) -> str:
    """What a reduction starts from."""
    return number(IDENTITY.get(r.op.name, 0.0), "float").text


def combined(r: Instance, x: str, y: str) -> str:
    """Two numbers of a reduction as one."""
    return f"{COMBINE[r.op.name]}({x}, {y})" if r.op.name in COMBINE else f"{x} + {y}"


def reducer(r: Instance) -> str:
    """Which of `reducers`, without its prefix."""
    return COMBINE[r.op.name][3:] if r.op.name in COMBINE else "add"


def divided(r: Instance) -> str:
    """What makes a sum a mean."""
    return f" / {r.args[0].n}.0f" if r.op.name == "reduce_mean" else ""


class PhaseSource:
    """Writes phase ``index`` of a stage."""

    def __init__(self, stage: Stage, index: int) -> None:
        self.stage = stage
        self.index = index
        self.partition = stage.partition
        self.phase = stage.partition.phases[index]
        self.modes = {c.name: c.mode for c in stage.carries}
        self.widths = {c.name: c.n for c in stage.carries} | dict(stage.partition.temporaries)
        self.lines: list[str] = []
        self.names: dict[Instance, Expression] = {}

    @property
    def by_rows(self) -> bool:
        """Whether a block has one row."""
        return bool(self.phase.reduces)

    def text(self) -> str:
        """The kernel."""
        self._rows()
        lanes, n = self._lanes(), self.phase.n
        if self.by_rows:
            head = ["RG_SHARED(float, shared);", "int row = blockIdx.x;"]
            body = [*self.lines, *self._starts(), f"for (int lane = threadIdx.x; lane < {n}; lane += blockDim.x) {{",
                    *lanes, "}", *self._ends()]
        else:
            head = ["long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;",
                    f"if (at >= a.rows * {n}LL) return;", f"int row = at / {n}, lane = at % {n};"]
            body = [*self.lines, *lanes]
        head += ["long long outer = row / a.inner, within = row % a.inner;"]
        text = "".join(f"    {line}\n" for line in (*head, *body))
        return f"RG_KERNEL phase{self.index}(Args a, int t, int before, int step) {{\n{text}}}\n"

    # --- row scalars ----------------------------------------------------------------------------------------------

    def _rows(self) -> None:
        """Numbers of which a row has one."""
        for i in postorder(self.phase.row_scalars, lambda i: () if i.kind is Kind.REDUCE else i.args):
            self.define(i, self._row(i))
        if self.stage.lengths is not None:
            self.lines.append("bool active = t < a.lengths[row];")
        if self.stage.until:
            old = f"{self.changing(f'{self.carry(self.stage.until, 0)}[row]')} == 0.0f"
            known = "active = active &&" if self.stage.lengths is not None else "bool active ="
            self.lines.append(f"{known} {old};")

    def _row(self, i: Instance) -> Expression:
        if i.kind is Kind.REDUCE:
            return Expression(self.reduced(i), "float")
        kind = kind_of(i.value.type.dtype)
        if i.kind is Kind.SPLAT:
            return number(i.number, kind)
        if i.kind is Kind.LOAD:
            assert i.leaf is not None
            return loaded(self.read(i.leaf, str(i.off), i.shift), kind)
        return lowered(i, [self.names[x] for x in i.args])

    def define(self, i: Instance, value: Expression, lines: list[str] | None = None) -> None:
        """Give the instance's value a name."""
        if i in self.names:
            return
        name = f"v{len(self.names)}"
        (self.lines if lines is None else lines).append(f"const {value.kind} {name} = {value.text};")
        self.names[i] = Expression(name, value.kind)

    # --- lanes ----------------------------------------------------------------------------------------------------

    def _lanes(self) -> list[str]:
        """What a lane computes: all values first, then the stores, so that no update is seen early."""
        lines: list[str] = []
        for i in evaluated(self.partition.spilled, self.phase):
            self.define(i, self._lane(i), lines)
        self.roots(lines)
        for s, value in [(s, self._kept(s)) for s in self.phase.stores]:
            lines.append(f"{self.target(s)} = {value};")
        for k, r in enumerate(self.phase.reduces):
            lines.append(f"sum{k} = {combined(r, f'sum{k}', cast(self.names[r.args[0]], 'float').text)};")
        return lines

    def roots(self, lines: list[str]) -> None:
        """Stored row scalars are not among the lanes' instances."""
        for s in self.phase.stores:
            if s.instance not in self.names:
                self.define(s.instance, self._lane(s.instance), lines)

    def _lane(self, i: Instance) -> Expression:
        kind = kind_of(i.value.type.dtype)
        spilled = self.partition.spilled.get(i)
        if spilled is not None and is_loaded(self.partition.spilled, self.phase, i):
            return loaded(self.read(Leaf(Source.TEMPORARY, spilled), "lane"), kind)
        if i.kind is Kind.SPLAT:
            return number(i.number, kind)
        if i.kind is Kind.LOAD:
            assert i.leaf is not None
            return loaded(self.read(i.leaf, f"lane + {i.off}", i.shift), kind)
        if i.kind is Kind.ROW_SPLAT:
            return cast(self.names[i.args[0]], kind)
        if i.kind is Kind.MATMUL:
            return self.sum(i)
        return lowered(i, [self.names[x] for x in i.args])

    def sum(self, i: Instance) -> Expression:
        for g, group in enumerate(self.phase.groups):
            if i in group.parts:
                width = sum(p.n for p in group.parts)
                at = sum(p.n for p in group.parts[: group.parts.index(i)])
                return Expression(f"a.{sums_field(self.index, g)}[row * {width}LL + {at} + lane]", "float")
        raise AssertionError("a matmul that no group of its phase computes")

    # --- memory ---------------------------------------------------------------------------------------------------

    def read(self, leaf: Leaf, lane: str, shift: int = 0) -> str:
        """The element of a leaf at this row or ``shift`` rows further, this step and ``lane``, as an expression."""
        return self.place(leaf, lane, shift)

    def changing(self, place: str) -> str:
        """The read of a place that the launch writes, too."""
        return place

    def reduced(self, i: Instance) -> str:
        """The result of a reduction that an earlier phase has made."""
        return f"a.reduced{self.partition.reductions[i]}[row]"

    def place(self, leaf: Leaf, lane: str, shift: int = 0) -> str:
        """Where that element is. What is read at other rows has one stride for all of them, and zeros around it."""
        name, row = field_of(leaf.name), f"(row + {shift})" if shift else "row"
        if leaf.source is Source.SCALAR:
            return f"a.{name}[0]"
        if leaf.source is Source.VECTOR:
            return f"a.{name}[{lane}]"
        if leaf.source is Source.CARRY:
            return f"{self.carry(leaf.name, 0)}[{row} * {self.widths[leaf.name]}LL + {lane}]"
        if leaf.source is Source.TEMPORARY:
            return f"a.{name}[{row} * {self.widths[leaf.name]}LL + {lane}]"
        time = f"t * a.{name}_t + " if leaf.source is Source.SEQUENCE else ""
        further = f" + {shift} * a.{name}_i" if shift else ""
        return f"a.{name}[{time}outer * a.{name}_o + within * a.{name}_i{further} + {lane}]"

    def carry(self, name: str, ahead: int) -> str:
        """The buffer of a carry: this step's value (ahead 0) or the next one's (1)."""
        if self.modes[name] is CarryMode.IN_PLACE:
            return f"a.{name}_0"
        return f"(step % 2 == {ahead} ? a.{name}_0 : a.{name}_1)"

    def target(self, s: Store, time: str = "t") -> str:
        """The element that a store writes."""
        name, lane = field_of(s.dest), f"lane + {s.pos}"
        if s.dest in self.modes:
            return f"{self.carry(s.dest, 1)}[row * {self.widths[s.dest]}LL + {lane}]"
        if s.dest in self.partition.temporaries:
            return f"a.{name}[row * {self.widths[s.dest]}LL + {lane}]"
        moved = f"{time} * a.{name}_t + " if self.stage.is_scan else ""
        return f"a.{name}[{moved}outer * a.{name}_o + within * a.{name}_i + {lane}]"

    def _kept(self, s: Store) -> str:
        """What a store writes: past a row's end a carry keeps its value, an output is zero or repeats."""
        value = stored(self.names[s.instance])
        if (self.stage.lengths is None and not self.stage.until) or s.dest in self.partition.temporaries:
            return value
        if s.dest in self.modes:
            return f"active ? {value} : {self.before(s)}"
        if self.stage.pad == "repeat":
            return f"active ? {value} : step == 0 ? 0.0f : {self.target(s, 'before')}"
        return f"active ? {value} : 0.0f"

    def before(self, s: Store) -> str:
        """The old value of what a store to a carry writes."""
        return f"{self.carry(s.dest, 0)}[row * {self.widths[s.dest]}LL + lane + {s.pos}]"

    # --- reductions -----------------------------------------------------------------------------------------------

    def _starts(self) -> list[str]:
        return [f"float sum{k} = {identity(r)};" for k, r in enumerate(self.phase.reduces)]

    def _ends(self) -> list[str]:
        lines = []
        for k, r in enumerate(self.phase.reduces):
            lines.append(f"sum{k} = rg_block_{reducer(r)}(sum{k}, shared);")
            lines.append(f"if (threadIdx.x == 0) a.reduced{self.partition.reductions[r]}[row] = sum{k}{divided(r)};")
        return lines


__all__ = ["THREADS", "PhaseSource", "combined", "divided", "identity", "reducer", "reducers"]
