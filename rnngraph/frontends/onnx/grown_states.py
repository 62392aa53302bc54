"""States of a loop that each step makes longer by a Concat, and reads for nothing else: outputs of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rnngraph.frontends.onnx.scan_body import Body
from rnngraph.ir import dims
from rnngraph.ir.ops import ConcatAttrs
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor, wrap


@dataclass(frozen=True, slots=True)
class Grown:
    """A state to which each step adds ``piece`` along ``axis``, behind what is there or in front of it."""

    piece: Tensor
    axis: int
    behind: bool

    def joined(self, initial: Tensor, pieces: Tensor) -> Tensor:
        """What the state is at last, ``pieces`` being those of all steps."""
        if not self.behind:
            pieces = ops.reverse(pieces, 0)
        axis, rank = self.axis, pieces.rank
        order = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
        moved = ops.transpose(pieces, order)
        steps, each = moved.shape[axis], moved.shape[axis + 1]
        whole = ops.reshape(moved, (*moved.shape[:axis], dims.mul(steps, each), *moved.shape[axis + 2 :]))
        if initial.shape[axis] == 0:
            return whole
        return ops.concat([initial, whole] if self.behind else [whole, initial], axis)


def grown_states(body: Body, new: Sequence[Tensor]) -> dict[int, Grown]:
    """The states of that kind, by number; ``new`` is what the step makes of all."""
    return {i: found for i, (old, after) in enumerate(zip(body.states, new, strict=True))
            if old.type != after.type and (found := _grown(body, old, after)) is not None}


def _grown(body: Body, old: Tensor, after: Tensor) -> Grown | None:
    state, value = old.value(), after.value()
    op = value.op
    if op is None or op.parent is not body.block or not isinstance(op.attrs, ConcatAttrs) or value.uses:
        return None
    places = [i for i, v in enumerate(op.operands) if v is state]
    if len(state.uses) != 1 or len(op.operands) < 2 or places not in ([0], [len(op.operands) - 1]):
        return None
    others = [wrap(v) for v in op.operands if v is not state]
    piece = ops.concat(others, op.attrs.axis) if len(others) > 1 else others[0]
    return Grown(piece, op.attrs.axis, places == [0])
