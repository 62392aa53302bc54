"""One block as roll-steps reads it: places of ops, what is fixed, and keys by which ops of two copies are alike."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from rnngraph.ir import Block, Op, Value
from rnngraph.ir.ops import SliceAttrs


class Mismatch(Exception):
    """Copies that are not alike; never leaves the pass.

    near   they nearly are, and a remark should say so
    final  no other reading of the copies can help
    """

    def __init__(self, reason: str, *, near: bool = True, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.near = near
        self.final = final


class Region:
    """The ops of ``block`` with their places. ``fixed`` values depend on no argument of the block."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.ops = block.body
        self.place = {op: i for i, op in enumerate(self.ops)}
        self.reads = [[v for v in op.operands] + [v for b in op.blocks for v in b.captures()] for op in self.ops]
        self.before = [[self.place[v.op] for v in reads if v.op in self.place] for reads in self.reads]
        fixed: set[Value] = set()
        for op, reads in zip(self.ops, self.reads, strict=True):
            if all(v in fixed or v.block is not block for v in reads):
                fixed.update(op.results)
        self._fixed = fixed

    def is_fixed(self, value: Value) -> bool:
        return value in self._fixed or value.block is not self.block

    def is_alike(self, a: Op, b: Op) -> bool:
        """Whether two ops differ in their operands at most."""
        return (a.opdef is b.opdef and a.attrs == b.attrs and not a.blocks and not b.blocks
                and len(a.operands) == len(b.operands)
                and all(x.type == y.type for x, y in zip(a.results, b.results, strict=True)))

    def key(self, op: Op) -> Hashable:
        """Equal for an op and its copies; a slice may start elsewhere."""
        attrs = replace(op.attrs, start=0) if isinstance(op.attrs, SliceAttrs) else op.attrs
        operands = [id(v) if self.is_fixed(v) else v.type for v in op.operands]
        return op.name, attrs, tuple(operands), op.results[0].type


def is_commutative(op: Op) -> bool:
    return "commutative" in op.opdef.tags
