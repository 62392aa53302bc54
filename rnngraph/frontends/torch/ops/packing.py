"""Packing and unpacking: sequences stay padded, and their lengths go with them."""

from __future__ import annotations

import warnings
from typing import Any

from rnngraph.errors import ImportModelError
from rnngraph.frontends.torch.items import BatchSizes, Packed, Permutation, Permuted, tensor_of
from rnngraph.frontends.torch.ops.numbers import scalar
from rnngraph.frontends.torch.program import Node
from rnngraph.frontends.torch.registry import handler
from rnngraph.ir import I64, Dim
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


@handler("aten._pack_padded_sequence", "rnngraph.pack", raw=True)
def pack(node: Node, input: Any, lengths: Any, batch_first: bool) -> list[Any]:
    axis, by = 0 if batch_first else 1, None
    if isinstance(input, Permuted) and isinstance(lengths, Permuted) and input.axis == axis and input.by == lengths.by:
        input, lengths, by = input.tensor, lengths.tensor, input.by
    rows = tensor_of(input) if batch_first else _turned(tensor_of(input))
    packed = Packed(rows, tensor_of(lengths), by)
    return [packed, BatchSizes(packed)]


@handler("rnngraph.pack_input")
def pack_input(node: Node, input: Tensor) -> list[Any]:
    """The input of a module that takes a PackedSequence: the call says the lengths."""
    packed = Packed(input, None)
    return [packed, BatchSizes(packed)]


@handler("aten._pad_packed_sequence", "rnngraph.unpack", raw=True)
def unpack(node: Node, data: Any, batch_sizes: Any, batch_first: bool, padding_value: Any, total_length: Any,
           batch: Any = None, whole: bool = False) -> list[Any]:
    if not isinstance(data, Packed):
        raise ImportModelError("expected the data of a PackedSequence that pack_padded_sequence made")
    rows = padded(data, float(padding_value))
    steps = rows.shape[1]
    if total_length not in (steps, -1):
        raise ImportModelError(f"pad_packed_sequence(total_length={total_length}): expected the time {steps} of the "
                               "sequence that was packed")
    if not whole and data.lengths is not None:
        _expect_longest(data.lengths, steps)
    y: Any = rows if batch_first else _turned(rows)
    lengths: Any = counts(data)
    if data.by is not None:
        y, lengths = Permuted(y, 0 if batch_first else 1, data.by), Permuted(lengths, 0, data.by)
    return [y, lengths]


def _expect_longest(lengths: Tensor, steps: Dim) -> None:
    """PyTorch cuts the time at the longest row: where that is not the last step, the call is refused."""
    value, graph = lengths.value(), active().graph
    while value.op is not None and value.op.name == "cast":
        value = value.op.operands[0]
    if value.op is None and value.block is graph.block:
        graph.longest[value.hint] = steps
    else:
        warnings.warn(f"{active().path or 'the module'}: pad_packed_sequence is taken to give all {steps} steps; "
                      "PyTorch gives those of the longest row alone. Pass total_length= to say so", stacklevel=2)


def counts(packed: Packed) -> Tensor:
    """The number of steps of each row; all of them where the call gives none."""
    if packed.lengths is not None:
        return packed.lengths
    given = active().lengths_for(packed.rows.shape[1], packed.rows.shape[0])
    if given is not None:
        return ops.cast(wrap(given), "i64")
    return ops.expand(scalar(packed.rows.shape[1], I64), packed.rows.shape[:1])


def padded(packed: Packed, value: float = 0.0) -> Tensor:
    """The rows with ``value`` behind their counts."""
    rows, lengths = packed.rows, packed.lengths
    if packed.zero and value == 0.0:
        return rows
    if lengths is None:
        given = active().lengths_for(rows.shape[1], rows.shape[0])
        if given is None:
            return rows
        lengths = wrap(given)
    there = ops.sequence_mask(lengths, rows.shape[1])
    there = ops.reshape(there, (*there.shape, *[1] * (rows.rank - 2)))
    return ops.where(there, rows, value)


def _turned(x: Tensor) -> Tensor:
    return ops.transpose(x, (1, 0, *range(2, x.rank)))


# --- the order of rows ---------------------------------------------------------------------------------------------


def reordered(x: Any, axis: int, by: Permutation) -> Any:
    """x with its slices along ``axis`` in the order ``by``, which may be undone again."""
    if isinstance(x, Permuted) and x.axis == axis and x.by == by.inverse():
        return x.tensor
    return Permuted(tensor_of(x), axis, by)
