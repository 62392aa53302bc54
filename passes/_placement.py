"""Where a model runs when that is left to the compiler: target "auto"."""

from __future__ import annotations

from rnngraph.ir import Cost, Dims, Graph, Op, numel
from rnngraph.ir.ops import CONST
from rnngraph.ir.placement import placements
from rnngraph.rewrite import PassContext


def placed(graph: Graph, context: PassContext, dims: Dims) -> tuple[str, str]:
    """The target of the ops, and for "auto" with a GPU why. All go to one side, for data that goes back and forth costs
    more than any op gains; op by op ("auto") where the model itself places layers on both."""
    if context.target != "auto" or not context.registry.device("gpu").present:
        return context.target, ""
    ops = [op for op in graph.block.body if op.opdef is not CONST and not op.impl]
    on_cpu, no_cpu = _total(ops, "cpu", context, dims)
    on_gpu, no_gpu = _total(ops, "gpu", context, dims)
    if no_gpu and any(placements(op) for op in ops):
        return "auto", "side that each layer was placed on"
    if no_gpu:
        return "cpu", f"cpu, not the gpu: {no_gpu}"
    moved = sum(numel(v.shape, dims) * v.type.dtype.itemsize for v in (*graph.inputs, *graph.outputs))
    link = context.registry.machine.link.seconds(Cost(0.0, moved), launches=2)
    there = on_gpu + link
    words = f"{duration(there)} on the gpu, of which moving inputs and outputs takes {duration(link)}"
    if no_cpu:
        return "gpu", f"gpu, not the cpu: {no_cpu}"
    which = "cpu" if on_cpu <= there else "gpu"
    return which, f"{which}: a call is estimated to take {duration(on_cpu)} on the cpu, {words}"


def _total(ops: list[Op], target: str, context: PassContext, dims: Dims) -> tuple[float, str]:
    """Seconds of the cheapest implementations; why the first op that has none cannot run there."""
    total = 0.0
    for op in ops:
        candidates = context.registry.consider(op, target, dims)
        least = min((c.seconds for c in candidates if c.seconds is not None), default=None)
        if least is None:
            reasons = dict.fromkeys(f for c in candidates for f in c.failures)
            return total, f"{op.name} of layer {op.layer!r} cannot run there ({'; '.join(reasons)})"
        total += least
    return total, ""


def duration(seconds: float) -> str:
    """As people write it."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
