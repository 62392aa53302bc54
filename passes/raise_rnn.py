"""raise-rnn: a scan whose step is an LSTM, a GRU or an RNN up to algebra becomes an ``rnn`` node.

The step is read into polynomials (`recognize.step`), the cell is decided on them (`recognize.cells`), and the weights
are rebuilt outside the scan from slices, concats, sums and negations (`recognize.assemble`), which fold-constants then
folds. Gate order, bias form, joined or split weights and the sign of GRU's update gate need no cases of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rnngraph.ir import RNN, Builder, Graph, Op, RnnAttrs, Scan, Value, make_op
from rnngraph.ir.clone import clone_op
from rnngraph.ir.ops import SELECT
from rnngraph.passes.recognize import constraints
from rnngraph.passes.recognize.assemble import Assembler
from rnngraph.passes.recognize.cells import Cell, recognize
from rnngraph.passes.recognize.constraints import Refusal
from rnngraph.passes.recognize.masks import lengths_of_masks
from rnngraph.passes.recognize.split import split_outputs
from rnngraph.passes.recognize.squeeze import squeeze
from rnngraph.rewrite import Miss, Pass, PassContext

CONSTRAINTS = constraints.RAISE


@dataclass(frozen=True)
class RaiseRnn(Pass):
    """Replaces scans by rnn nodes; says for each other scan which constraint failed."""

    name: ClassVar[str] = "raise-rnn"

    def run(self, graph: Graph, context: PassContext) -> None:
        for op in list(graph.walk()):
            if isinstance(op.attrs, RnnAttrs):
                context.note(op.layer, f"an rnn node as it comes: {_shown(op.attrs)}")
            if op.name != "scan" or op.parent is None:
                continue
            if (masked := lengths_of_masks(op)) is not None:
                op = masked
                context.note(op.layer, "the mask t < lengths keeps every state: the scan has lengths instead")
            op = squeeze(op, graph) or op
            try:
                cell = _recognize(op, context)
            except Refusal as refusal:
                under = _under_mask(op) if refusal.constraint is constraints.MASK else None
                context.missed(refusal.miss if under is None else Miss(f"{under}, but {refusal.miss.reason}"), op.layer)
                continue
            _replace(op, cell)
            context.applied(op.layer, f"the scan is {_describe(cell)}: now an rnn node")


def _shown(a: RnnAttrs) -> str:
    layers = f"{a.num_layers} layer{'s' if a.num_layers > 1 else ''}"
    return f"{a.mode}, {layers}, {a.direction}"


def _recognize(op: Op, context: PassContext) -> Cell:
    """The cell; where the step computes outputs from its new h, that is done behind the scan first."""
    try:
        return recognize(Scan(op))
    except Refusal as refusal:
        h = refusal.details.get("h")
        if refusal.constraint is not constraints.EMITS or not isinstance(h, int) or not split_outputs(op, h):
            raise
    context.note(op.layer, "what a step computes from its new h for its outputs is computed behind the scan")
    return recognize(Scan(op))


def _under_mask(op: Op) -> str | None:
    """What the scan would be without its mask; None where it is no cell then either."""
    image = dict[Value, Value]()
    copy = Builder.at(op).insert(clone_op(op, image))
    scan = Scan(copy)
    unmasked = {new: new.op.operands[1] for arg, new in zip(scan.carry_args, scan.next_carries, strict=True)
                if new.op is not None and new.op.opdef is SELECT and new.op.operands[2] is arg}
    scan.body.terminator.set_operands([unmasked.get(v, v) for v in scan.body.terminator.operands])
    try:
        return _describe(recognize(Scan(copy)))
    except Refusal:
        return None
    finally:
        copy.erase()


def _describe(cell: Cell) -> str:
    if cell.mode == "gru":
        return f"a GRU (reset {'after' if cell.reset_after else 'before'} the matmul)"
    if cell.projection is not None:
        return f"an LSTM with h projected to {cell.projection.cols} features"
    return {"lstm": "an LSTM", "rnn_tanh": "an RNN (tanh)", "rnn_relu": "an RNN (relu)"}[cell.mode]


def _replace(op: Op, cell: Cell) -> None:
    scan, b = Scan(op), Builder.at(op)
    node = b.insert(_build(b, scan, cell))
    finals: list[tuple[int, Value]] = [(cell.h, node.results[1])]
    if cell.c is not None:
        finals.append((cell.c, node.results[2]))
    for index, state in finals:
        if op.results[index].uses:
            op.results[index].replace_by(b.reshape(state, scan.inits[index].shape))
    for y in scan.ys:
        y.replace_by(node.results[0])
    op.erase()


def _build(b: Builder, scan: Scan, cell: Cell) -> Op:
    make = Assembler(b, scan, cell.units)
    inputs, recurrent = [g.inputs for g in cell.gates], [g.recurrent for g in cell.gates]
    x, offsets = make.sequence(inputs)
    features = x.shape[2]
    assert isinstance(features, int)
    w = make.matrix([make.input_pieces(f, offsets) for f in inputs], features)
    (batch, width), projection = scan.inits[cell.h].shape, cell.projection
    assert isinstance(width, int)
    r = make.matrix([make.state_pieces(f) for f in recurrent], width)
    bias_w, bias_r = make.vector(inputs), make.vector(recurrent)
    project = [] if projection is None else [make.projection(projection)]
    states = [cell.h] if cell.c is None else [cell.h, cell.c]
    initial = [b.reshape(scan.inits[k], (1, batch, scan.inits[k].shape[1])) for k in states]
    lengths = [scan.lengths] if scan.lengths is not None else []
    attrs = RnnAttrs(cell.mode, cell.units, direction="reverse" if scan.attrs.reverse else "forward",
                     reset_after=cell.reset_after, lengths=bool(lengths), pad=scan.attrs.pad,
                     proj=projection.cols if projection is not None else 0)
    return make_op(RNN, (x, *initial, *lengths, w, r, bias_w, bias_r, *project), attrs, layer=scan.op.layer)
