"""Takes out of a scan what a step only makes of its new h (and of x): an output layer is applied to the sequence."""

from __future__ import annotations

from dataclasses import replace

from rnngraph.ir import Attrs, Block, Builder, Op, Scan, Value, make_op, ops
from rnngraph.ir.clone import clone_op
from rnngraph.ir.scan import SCAN, ScanAttrs
from rnngraph.rewrite.scan_edit import add_y, keep

WHOLE = frozenset({"matmul", "softmax", "reshape", "transpose", "broadcast", "slice", "concat", "cast"})


def split_outputs(op: Op, h: int) -> bool:
    """Let ``op`` give the new state of carry ``h`` instead of what is computed from it; False where that reads more."""
    scan = Scan(op)
    new = scan.next_carries[h]
    wanted = [i for i, (v, y) in enumerate(zip(scan.emitted, scan.ys, strict=True)) if v is not new and y.uses]
    cone = _cone(scan, new, [scan.emitted[i] for i in wanted])
    if not wanted or cone is None:
        return False
    b = _behind(op)
    states = next((y for v, y in zip(scan.emitted, scan.ys, strict=True) if v is new), None)
    sequences = {new: states if states is not None else add_y(op, "h", new)}
    sequences.update(zip(scan.x_args, scan.xs, strict=True))
    emitted = {i: scan.emitted[i] for i in wanted}
    if scan.lengths is None and all(_applies_whole(o) for o in cone):
        found = _whole(b, scan, cone, sequences, emitted)
    else:
        found = _each_step(b, scan, cone, sequences, emitted)
    for i, value in found.items():
        scan.ys[i].replace_by(value)
    scan = Scan(op)
    keep(op, range(len(scan.attrs.carries)), range(len(scan.attrs.xs)), [i for i, y in enumerate(scan.ys) if y.uses])
    return True


def _cone(scan: Scan, new: Value, values: list[Value]) -> list[Op] | None:
    """The body's ops between ``new`` and ``values``, in order; None when they read a state."""
    needed, stack = set[Op](), list(values)
    carries = set(scan.carry_args)
    while stack:
        value = stack.pop()
        if value is new or value.block is not scan.body:
            continue
        if value in carries or (value.op is not None and value.op.blocks):
            return None
        if value.op is not None and value.op not in needed:
            needed.add(value.op)
            stack.extend(value.op.operands)
    return [op for op in scan.body.ops if op in needed]


def _behind(op: Op) -> Builder:
    assert op.parent is not None
    at = op.parent.ops.index(op) + 1
    return Builder(op.parent, op.parent.ops[at], op.layer)


# --- on the whole sequence -----------------------------------------------------------------------------------------


def _applies_whole(op: Op) -> bool:
    """Whether the op means the same on a sequence, its axes one further."""
    if op.opdef is ops.MATMUL:
        return op.operands[1].type.rank == 2 and op.operands[1].block is not op.parent
    if op.name in WHOLE or not op.operands:
        return True
    return len(op.results) == 1 and ("elementwise" in op.opdef.tags or isinstance(op.attrs, ops.ReduceAttrs))


def _whole(b: Builder, scan: Scan, cone: list[Op], sequences: dict[Value, Value],
           emitted: dict[int, Value]) -> dict[int, Value]:
    image, steps = dict(sequences), scan.attrs.steps

    def wide(v: Value) -> Value:
        """``v`` at every step; what is from outside repeats."""
        if v not in image:
            image[v] = b.broadcast(v, (steps, *v.shape), tuple(range(1, v.type.rank + 1)))
        return image[v]

    for op in cone:
        if not op.operands:
            image[op.result] = wide(b.insert(clone_op(op, {})).result)
            continue
        operands = [wide(op.operands[0]), op.operands[1]] if op.opdef is ops.MATMUL else [wide(v) for v in op.operands]
        image[op.result] = b.op(op.opdef, *operands, attrs=_one_further(op, scan))
    return {i: wide(v) for i, v in emitted.items()}


def _one_further(op: Op, scan: Scan) -> Attrs:
    a, steps = op.attrs, scan.attrs.steps
    match a:
        case ops.AxisAttrs() | ops.SliceAttrs() | ops.ConcatAttrs():
            return replace(a, axis=a.axis + 1)
        case ops.ReduceAttrs():
            return ops.ReduceAttrs(tuple(axis + 1 for axis in a.axes))
        case ops.BroadcastAttrs():
            return ops.BroadcastAttrs((steps, *a.shape), (0, *(axis + 1 for axis in a.axes)))
        case ops.ReshapeAttrs():
            return ops.ReshapeAttrs((steps, *a.shape))
        case ops.TransposeAttrs():
            return ops.TransposeAttrs((0, *(axis + 1 for axis in a.perm)))
    return a


# --- step by step --------------------------------------------------------------------------------------------------


def _each_step(b: Builder, scan: Scan, cone: list[Op], sequences: dict[Value, Value],
               emitted: dict[int, Value]) -> dict[int, Value]:
    """A scan without states: rows that have ended are padded as before."""
    read = {v for op in cone for v in op.operands} | set(emitted.values())
    xs = {v: s for v, s in sequences.items() if v in read}
    body, a = Block(), scan.attrs
    image = {v: body.add_arg(v.type, v.hint) for v in xs}
    for op in cone:
        body.append(clone_op(op, image))
    end = make_op(ops.YIELD, [image.get(v, v) for v in emitted.values()], ops.YieldAttrs(0), layer=scan.op.layer)
    body.append(end)
    names = tuple(f"x{i}" if i else "x" for i in range(len(xs)))
    attrs = ScanAttrs((), names, tuple(a.ys[i] for i in emitted), a.steps, a.reverse, a.lengths, a.pad)
    lengths = [scan.lengths] if scan.lengths is not None else []
    made = b.insert(make_op(SCAN, (*xs.values(), *lengths), attrs, (body,), scan.op.layer))
    return dict(zip(emitted, made.results, strict=True))

