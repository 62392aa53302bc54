"""A stage as one LLVM module: its phase functions and the loop over time that calls them.

    stage(args, step0, step1, part, parts, row0, row1, counter)

runs steps [step0, step1) for this participant's lanes and rows; participants that share lanes meet at ``counter``
between the phases that need it. The module's text depends on the stage's structure alone (addresses, strides and
weights come through ``args``), so equal layers share one compiled object.
"""

from __future__ import annotations

from rnngraph.backends.llvm.args import Slots
from rnngraph.backends.llvm.cpu import CpuTarget
from rnngraph.backends.llvm.layout import tilings
from rnngraph.backends.llvm.phase import PhaseEmitter
from rnngraph.backends.llvm.vector import I64, PTR, VOID, Emit
from rnngraph.phases.stages import Stage

ENTRY = "stage"


def emit_stage(stage: Stage, target: CpuTarget) -> str:
    """The LLVM IR of a stage for a target."""
    e = Emit(target)
    slots = Slots(stage)
    cut = tilings(stage.partition, target.width)
    phases = [PhaseEmitter(e, stage, k, slots, cut).emit() for k in range(len(stage.partition.phases))]
    barrier = e.declare("rg_barrier", VOID, [PTR, I64])
    fn, b = e.function(ENTRY, VOID, [PTR] + [I64] * 7)
    args, step0, step1, part, parts, row0, row1, counter = fn.args

    def slot(name: str) -> object:
        return e.load(b, e.at(b, args, slots[name], I64), I64, align=8)

    first, direction = slot("t.first"), slot("t.step")
    shared = b.icmp_signed(">", parts, e.num(1))
    meeting = b.inttoptr(counter, PTR)
    with e.for_range(b, step0, step1, name="steps") as loop:
        t = b.add(first, b.mul(loop.index, direction))
        before = b.sub(t, direction)
        for k, phase in enumerate(phases):
            if stage.waits[k]:
                with e.if_then(b, shared, "wait"):
                    b.call(barrier, [meeting, parts])
            b.call(phase, [args, loop.index, t, before, part, parts, row0, row1])
    b.ret_void()
    return e.text()
