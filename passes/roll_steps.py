"""roll-steps: copies of one step, each reading the state of the copy before it, become a ``scan``.

Unrolled recurrences arrive from exporters (a Python loop over cells in PyTorch, MXNet's ``unroll``, Keras'
``unroll=True``). `unrolled.chains` finds an op that repeats along a path of dependence; `unrolled.frames` numbers what
hangs on it and finds the like of each value in the next copy; `unrolled.template` checks that all copies are one step;
`unrolled.build` writes the scan. A first copy that was simplified because its state is zero joins the others again
(`unrolled.first_copy`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import Block, Graph
from rnngraph.passes.canonicalize import Canonicalize
from rnngraph.passes.cse import Cse
from rnngraph.passes.dce import Dce
from rnngraph.passes.recognize.pairs import blocks
from rnngraph.passes.unrolled.build import Rolled
from rnngraph.passes.unrolled.chains import PRODUCTS, Chain, chains
from rnngraph.passes.unrolled.first_copy import FirstCopy, find_first_copy
from rnngraph.passes.unrolled.frames import Frames
from rnngraph.passes.unrolled.region import Mismatch, Region
from rnngraph.passes.unrolled.template import Template
from rnngraph.passes.unrolled.two_copies import two_copies
from rnngraph.rewrite import Miss, Pass, PassContext

LEAST_FOR_A_REMARK = 3  # copies; two like ops in a row are no sign of a recurrence


@dataclass(frozen=True)
class RollSteps(Pass):
    """Rolls every unrolled recurrence; says for each that nearly is one in what its copies differ."""

    name: ClassVar[str] = "roll-steps"

    def run(self, graph: Graph, context: PassContext) -> None:
        if sum([_roll_all(block, context) for block in blocks(graph)]):
            for tidy in (Canonicalize(), Cse(), Dce()):
                tidy.run(graph, PassContext())


def _roll_all(block: Block, context: PassContext) -> int:
    count = 0
    while (missed := _roll_one(block, context)) is None:
        count += 1
    if missed and block.parent is None:
        context.missed(missed[0])
    return count


def _roll_one(block: Block, context: PassContext) -> list[Miss] | None:
    """Rolls the first chain that is a recurrence; else what was missed."""
    region, missed = Region(block), list[Miss]()
    for chain in chains(region):
        found = _template(region, chain)
        if isinstance(found, Template):
            _replace(found, find_first_copy(found), chain.anchors[-1].layer, context)
            return None
        repeats = chain.anchors[0].name in PRODUCTS or len(chain.anchors[0].operands) == 1
        if found.near and repeats and len(chain) >= LEAST_FOR_A_REMARK:
            missed.append(Miss(f"{len(chain)} times {chain.anchors[0].name} follows itself, but {found.reason}",
                               chain.anchors[0].layer))
    for template in two_copies(region):
        first = find_first_copy(template)
        if first is not None:
            end = template.frames.root()[0].op
            _replace(template, first, end.layer if end is not None else "", context)
            return None
    return missed


def _template(region: Region, chain: Chain) -> Template | Mismatch:
    """The step of all anchors, or of all but the first, whose copy may have been simplified."""
    reasons = list[Mismatch]()
    for tried in (chain, chain.without_first()):
        try:
            if len(tried) < 2:
                break
            frames = Frames(region, tried)
        except Mismatch as mismatch:
            reasons.append(mismatch)
            continue
        for heads in (True, False):
            try:
                return Template(frames, heads=heads)
            except Mismatch as mismatch:
                reasons.append(mismatch)
    return next((r for r in reasons if r.near), reasons[0])


def _replace(template: Template, first: FirstCopy | None, layer: str, context: PassContext) -> None:
    Rolled(template, first, layer).build()
    states = len(template.states)
    also = ", the first simplified because its states are zero" if first is not None else ""
    context.applied(layer, f"{template.count + (first is not None)} copies of one step with {states} "
                           f"state{'s' if states > 1 else ''}{also}: now a scan")
