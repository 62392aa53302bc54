"""The passes: one file each, file name = pass name. `PASSES` names them all; `PIPELINES` are lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from rnngraph.ir import Graph
from rnngraph.rewrite import Instrument, Pass, PassContext, PassRecord, Pipeline

PASSES: dict[str, str] = {
    "canonicalize": "canonicalize:Canonicalize",
    "fold-constants": "fold_constants:FoldConstants",
    "cse": "cse:Cse",
    "dce": "dce:Dce",
    "fuse-gate-matmuls": "fuse_gate_matmuls:FuseGateMatmuls",
    "hoist-invariant": "hoist_invariant:HoistInvariant",
    "hoist-input-projection": "hoist_input_projection:HoistInputProjection",
    "propagate-layout": "propagate_layout:PropagateLayout",
    "lower-conv": "lower_conv:LowerConv",
    "roll-steps": "roll_steps:RollSteps",
    "iterate-sequences": "iterate_sequences:IterateSequences",
    "masks-to-lengths": "masks_to_lengths:MasksToLengths",
    "raise-rnn": "raise_rnn:RaiseRnn",
    "merge-bidirectional": "merge_bidirectional:MergeBidirectional",
    "merge-stacked": "merge_stacked:MergeStacked",
    "expand-rnn": "expand_rnn:ExpandRnn",
    "inline-single-step": "inline_single_step:InlineSingleStep",
    "fold-embedding": "fold_embedding:FoldEmbedding",
    "widen-half": "widen_half:WidenHalf",
    "select-implementation": "select_implementation:SelectImplementation",
    "schedule-phases": "schedule_phases:SchedulePhases",
    "plan-memory": "plan_memory:PlanMemory",
}

PIPELINES: dict[str, str] = {
    "default": (
        "canonicalize,widen-half,fold-constants,cse,dce,roll-steps,hoist-invariant,iterate-sequences,masks-to-lengths,"
        "raise-rnn,"
        "merge-bidirectional,merge-stacked,"
        "select-implementation{fused-only=true},expand-rnn{selected-only=true},inline-single-step,propagate-layout,canonicalize,"
        "fuse-gate-matmuls,hoist-invariant,hoist-input-projection,lower-conv,fold-embedding,fold-constants,cse,dce,"
        "select-implementation,schedule-phases,plan-memory"
    ),
}


def lookup(name: str) -> type[Pass]:
    """The class of a pass; KeyError with the known names."""
    try:
        module, cls = PASSES[name].split(":")
    except KeyError:
        raise KeyError(f"unknown pass {name!r}; the passes are {', '.join(PASSES)}") from None
    loaded: type[Pass] = getattr(import_module(f"rnngraph.passes.{module}"), cls)
    return loaded


def pipeline(text: str) -> Pipeline:
    """A pipeline from a name in `PIPELINES` or from its text."""
    return Pipeline.parse(PIPELINES.get(text, text), lookup)


def run(text: str, graph: Graph, context: PassContext | None = None, *, instruments: Sequence[Instrument] = (),
        verify_each: bool = True) -> list[PassRecord]:
    """Run a pipeline (its text, or its name in `PIPELINES`) in place on ``graph``; returns one record per pass.

    >>> import rnngraph as rg
    >>> g = rg.ir.parse('graph @g(%x: f32[B,4]) { %a = neg %x : f32[B,4]  return x = %x }')
    >>> [str(r.name) for r in rg.passes.run("cse,dce", g) if r.changed]
    ['dce']
    """
    return pipeline(text).run(graph, context or PassContext(), instruments=instruments, verify_each=verify_each)
