"""fold-constants: what is known at compile time is computed at compile time, by the reference itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from rnngraph.errors import InputError
from rnngraph.ir import Array, Builder, Graph, Interpreter, Literal, Op, Value
from rnngraph.ir.ops import BROADCAST, CONST, ConstAttrs
from rnngraph.rewrite import Miss, Pass, PassContext


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Ops whose operands are constants become constants, in bodies too.

    Results above ``max-elements``, and results with symbolic dims, stay. A broadcast stays a broadcast: it costs
    nothing where it is used, while the array would cost memory.
    """

    name: ClassVar[str] = "fold-constants"
    max_elements: int = 2**24

    def run(self, graph: Graph, context: PassContext) -> None:
        known: dict[Value, Array] = {}
        count = 0
        for op in list(graph.walk()):
            if op.opdef is CONST:
                assert isinstance(op.attrs, ConstAttrs)
                known[op.result] = op.attrs.value.array
                continue
            if not self.foldable(op, known):
                continue
            try:
                arrays = evaluate_op(op, [known[v] for v in op.operands])
            except InputError as e:
                context.missed(Miss(f"{op.name} is not evaluated at compile time: {e}"), op.layer)
                continue
            if op.opdef is BROADCAST:  # as an operand of others it is known, as an op it stays
                known[op.result] = arrays[0]
                continue
            _replace(op, arrays, known)
            count += 1
        if count:
            context.applied("", f"{count} op{'s' if count > 1 else ''} evaluated at compile time")

    def foldable(self, op: Op, known: dict[Value, Array]) -> bool:
        if not op.operands or op.blocks or not op.opdef.pure or op.opdef.terminator:
            return False
        return all(v in known for v in op.operands) and all(self.fits(r) for r in op.results)

    def fits(self, value: Value) -> bool:
        sizes = [d for d in value.shape if isinstance(d, int)]
        return len(sizes) == value.type.rank and prod(sizes) <= self.max_elements


def evaluate_op(op: Op, arrays: Sequence[Array]) -> Sequence[Array]:
    """The results of an op whose types have no symbols, by its own reference."""
    with np.errstate(all="ignore"):  # NaN and inf are values here, not accidents
        return op.opdef.evaluate(Interpreter({}), op, arrays)


def _replace(op: Op, arrays: Sequence[Array], known: dict[Value, Array]) -> None:
    b = Builder.at(op)
    sources = op.operands
    for result, array in zip(op.results, arrays, strict=True):
        literal = Literal(array, result.type.dtype)
        if literal.splat is not None and literal.array.size > 1:
            scalar = b.const(literal.array.reshape(-1)[0], result.type.dtype)
            new = b.broadcast(scalar, result.shape, ())
        else:
            new = b.op(CONST, attrs=ConstAttrs(literal))
        known[new] = literal.array
        result.replace_by(new)
    op.erase()
    for source in dict.fromkeys(sources):
        _erase_unused(source)


def _erase_unused(value: Value) -> None:
    """Constants, and broadcasts of them, that only the folded op used."""
    op = value.op
    if op is not None and op.parent is not None and not value.uses:
        sources = op.operands
        op.erase()
        for source in sources:
            _erase_unused(source)


__all__ = ["FoldConstants", "evaluate_op"]
