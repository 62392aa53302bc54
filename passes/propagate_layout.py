"""propagate-layout: a scan whose steps transpose their inputs and states is given them transposed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from rnngraph.ir import SCAN, Block, Builder, Graph, Op, Scan, Shape, Value, make_op
from rnngraph.ir.clone import clone_op
from rnngraph.ir.ops import TRANSPOSE, YIELD, TransposeAttrs, YieldAttrs
from rnngraph.rewrite import Pass, PassContext

Perm = tuple[int, ...]


@dataclass(frozen=True)
class PropagateLayout(Pass):
    """Images with their channels first, as MXNet and PyTorch have them, become channels last in the whole loop.

    Where a body transposes an argument, all arguments, captures and outputs of that shape are transposed in front of
    the scan and behind it, and back within. canonicalize then lets the transposes of the body meet and cancel.
    """

    name: ClassVar[str] = "propagate-layout"

    def run(self, graph: Graph, context: PassContext) -> None:
        for op in graph.block.body:
            if op.name == "scan" and (perms := find(op)):
                apply(op, perms)
                shapes = ", ".join(f"[{','.join(map(str, s))}]" for s in perms)
                context.applied(op.layer, f"values {shapes} of a step enter and leave the scan transposed")


def find(scan: Op) -> dict[Shape, Perm]:
    """By shape, how the body transposes its arguments; nothing for a shape that it transposes in two ways."""
    found: dict[Shape, Perm | None] = {}
    for arg in Scan(scan).body.args:
        for user in arg.users():
            if isinstance(user.attrs, TransposeAttrs) and user.attrs.perm[0] == 0:
                perm = user.attrs.perm
                found[arg.shape] = perm if found.get(arg.shape, perm) == perm else None
    return {shape: perm for shape, perm in found.items() if perm is not None}


def inverse(perm: Perm) -> Perm:
    return tuple(perm.index(i) for i in range(len(perm)))


def apply(scan: Op, perms: dict[Shape, Perm]) -> None:
    """Replace the scan by one that takes and gives transposed values."""
    _Mover(scan, perms).run()


@dataclass(slots=True)
class _Mover:
    scan: Op
    perms: dict[Shape, Perm]
    body: Block = field(default_factory=Block)
    new: dict[Value, Value] = field(default_factory=dict)

    def run(self) -> None:
        s, top = Scan(self.scan), Builder.at(self.scan)
        b = Builder(self.body, layer=self.scan.layer)
        inits = [self.outer(top, a, v) for a, v in zip(s.carry_args, s.inits, strict=True)]
        sequences = [self.outer(top, a, v, 1) for a, v in zip(s.x_args, s.xs, strict=True)]
        args = [self.body.add_arg(v.type, a.hint) for a, v in zip(s.carry_args, inits, strict=True)]
        args += [self.body.add_arg(v.type.with_shape(v.shape[1:]), a.hint)
                 for a, v in zip(s.x_args, sequences, strict=True)]
        for old, arg in zip(s.body.args, args, strict=True):
            self.new[old] = self.back(b, old, arg)
        for v in s.body.captures():
            if v.shape in self.perms:
                self.new[v] = self.back(b, v, self.outer(top, v, v))
        for op in s.body.body:
            if op.opdef is not YIELD:
                self.body.append(clone_op(op, self.new))
        self.finish(top, b, (*inits, *sequences))

    def finish(self, top: Builder, b: Builder, operands: tuple[Value, ...]) -> None:
        s = Scan(self.scan)
        end = s.body.terminator
        out = [self.leaving(v) for v in end.operands]
        results = [b.transpose(self.new.get(v, v), p) if p else self.new.get(v, v)
                   for v, p in zip(end.operands, out, strict=True)]
        self.body.append(make_op(YIELD, results, YieldAttrs(len(s.carry_args)), layer=end.layer))
        operands = (*operands, *(() if s.lengths is None else (s.lengths,)))
        new = top.insert(make_op(SCAN, operands, s.attrs, (self.body,), self.scan.layer))
        for k, (old, result, p) in enumerate(zip(self.scan.results, new.results, out, strict=True)):
            result.hint = old.hint
            lead = int(k >= len(s.carry_args))
            old.replace_by(top.transpose(result, lifted(inverse(p), lead)) if p else result)
        self.scan.erase()

    def outer(self, top: Builder, inner: Value, value: Value, lead: int = 0) -> Value:
        """What enters the scan for ``inner``."""
        perm = self.perms.get(inner.shape)
        return top.transpose(value, lifted(perm, lead)) if perm else value

    def back(self, b: Builder, old: Value, new: Value) -> Value:
        """As the body knows it."""
        perm = self.perms.get(old.shape)
        return b.transpose(new, inverse(perm)) if perm else new

    def leaving(self, v: Value) -> Perm | None:
        """How a value leaves: as arguments of its shape enter, or as the transpose that made it was given it."""
        if v.shape in self.perms:
            return self.perms[v.shape]
        made = v.op is not None and v.op.opdef is TRANSPOSE and v.op.parent is Scan(self.scan).body
        if made and v.op is not None and isinstance(v.op.attrs, TransposeAttrs) and v.op.attrs.perm[0] == 0:
            if v not in Scan(self.scan).next_carries:
                return inverse(v.op.attrs.perm)
        return None


def lifted(perm: Perm, lead: int) -> Perm:
    """A permutation of a step's axes as one of the sequence's."""
    return (*range(lead), *(lead + p for p in perm))


__all__ = ["PropagateLayout", "apply", "find"]
