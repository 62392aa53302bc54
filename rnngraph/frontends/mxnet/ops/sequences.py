"""SequenceMask, SequenceLast, SequenceReverse: time in axis 0 and rows in axis 1, or the other way round."""

from __future__ import annotations

from rnngraph.errors import ImportModelError
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


def _axis(node: Node, x: Tensor) -> int:
    axis = node.attrs.integer("axis", 0)
    if axis not in (0, 1) or x.rank < 2:
        raise ImportModelError(f"{node}: expected time in axis 0 or 1 of at least two, got axis {axis} of {x.type}")
    return axis


def _lengths(node: Node, given: Tensor | None) -> Tensor | None:
    if not node.attrs.flag("use_sequence_length"):
        return None
    if given is None or given.rank != 1:
        raise ImportModelError(f"{node}: use_sequence_length needs lengths, one for each row")
    return given


@handler("SequenceMask")
def sequence_mask(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    """``value`` past each row's length."""
    axis, lengths = _axis(node, x), _lengths(node, given)
    if lengths is None:
        return x
    inside = inside_lengths(x, lengths, axis)
    return ops.where(inside, x, node.attrs.number("value", 0.0))


def inside_lengths(x: Tensor, lengths: Tensor, axis: int) -> Tensor:
    """bool[time, batch, 1, ...] or [batch, time, 1, ...]: the steps within the lengths."""
    rest = [1] * (x.rank - 2)
    times = ops.arange(x.shape[axis], "f32")
    t = ops.reshape(times, (x.shape[0], 1, *rest) if axis == 0 else (1, x.shape[1], *rest))
    n = ops.reshape(ops.cast(lengths, "f32"), (1, x.shape[1], *rest) if axis == 0 else (x.shape[0], 1, *rest))
    return t < n


@handler("SequenceLast")
def sequence_last(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    """The last step of each row."""
    axis, lengths = _axis(node, x), _lengths(node, given)
    if lengths is None:
        return x[-1] if axis == 0 else x[:, -1]
    rows = ops.transpose(x, (1, 0, *range(2, x.rank))) if axis == 0 else x
    last = ops.reshape(ops.cast(lengths, "i64") - 1, (rows.shape[0], 1))
    return ops.gather_nd(rows, last, batch_dims=1)


@handler("SequenceReverse")
def sequence_reverse(node: Node, x: Tensor, given: Tensor | None = None) -> Tensor:
    """Each row from its last step to its first; what is past its length stays."""
    axis, lengths = _axis(node, x), _lengths(node, given)
    if lengths is None:
        return ops.reverse(x, axis)
    return ops.reverse_sequence(x, ops.cast(lengths, "i64"), time_axis=axis, batch_axis=1 - axis)
