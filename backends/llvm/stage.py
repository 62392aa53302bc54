"""A stage as one LLVM module: its phase functions and the loop over time that calls them.

    stage(args, step0, step1, part, parts, row0, row1, counter)

runs steps [step0, step1) for this participant's lanes and rows; participants that share lanes meet at ``counter``
between the phases that need it. Rows behind the last one that is not done (`Stage.until`) are not run; when all are
done, what remains of the loop only pads the outputs, and without outputs it is over. The module's text depends on the
stage's structure alone (addresses, strides and weights come through ``args``), so equal layers share one compiled
object.
"""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.backends.llvm.args import Slots
from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.layout import tilings
from rnngraph.backends.llvm.phase import PhaseEmitter
from rnngraph.backends.llvm.vector import F32, I1, I64, PTR, VOID, Builder, Emit, IRValue
from rnngraph.phases.stages import Stage

ENTRY = "stage"


def live_rows(e: Emit, b: Builder, carry: Sequence[IRValue], step: IRValue, row0: IRValue, row1: IRValue) -> IRValue:
    """The end of the rows [row0, ...) behind which all are done: ``carry`` (both buffers, row stride) is not zero."""
    even, odd, stride = carry
    base = b.inttoptr(b.select(b.trunc(step, I1), odd, even), PTR)
    with e.for_range(b, row0, row1, carried=[row0], name="live") as rows:
        done = e.load(b, e.at(b, base, b.mul(rows.index, stride)), F32)
        running = b.fcmp_ordered("==", done, F32(0.0))
        rows.next = [b.select(running, b.add(rows.index, e.num(1)), rows.carried[0])]
    return rows.carried[0]


def emit_stage(stage: Stage, target: CpuTarget) -> str:
    """The LLVM IR of a stage for a target."""
    e = Emit(target)
    slots = Slots(stage)
    cut = tilings(stage.partition, target.width)
    phases = [PhaseEmitter(e, stage, k, slots, cut).emit() for k in range(len(stage.partition.phases))]
    barrier = e.declare("rg_barrier", VOID, [PTR, I64])
    fn, b = e.function(ENTRY, VOID, [PTR] + [I64] * 7)
    args, step0, step1, part, parts, row0, row1, counter = fn.args

    def slot(name: str) -> IRValue:
        return e.load(b, e.at(b, args, slots[name], I64), I64, align=8)

    first, direction = slot("t.first"), slot("t.step")
    shared = b.icmp_signed(">", parts, e.num(1))
    meeting = b.inttoptr(counter, PTR)

    def wait() -> None:
        with e.if_then(b, shared, "wait"):
            b.call(barrier, [meeting, parts])

    def step(index: IRValue, *more: IRValue) -> None:
        t = b.add(first, b.mul(index, direction))
        before = b.sub(t, direction)
        for k, phase in enumerate(phases):
            if stage.waits[k]:
                wait()
            b.call(phase, [args, index, t, before, part, parts, row0, row1, *more])

    if not stage.until:
        with e.for_range(b, step0, step1, name="steps") as loop:
            step(loop.index)
    else:
        carry = [slot(f"{stage.until}.{name}") for name in ("0", "1", "r")]
        over = b.alloca(I1)
        b.store(e.num(0, I1), over)
        with e.for_range(b, step0, step1, name="steps") as loop, e.if_then(b, b.not_(b.load(over, typ=I1)), "run"):
            wait()  # who is done, the step before has written
            live = live_rows(e, b, carry, loop.index, row0, row1)
            step(loop.index, live)
            if not stage.outputs:  # after this step both buffers of every carry hold its end
                b.store(b.icmp_signed("==", live, row0), over)
    b.ret_void()
    return e.text()
