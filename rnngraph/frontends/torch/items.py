"""What the walk over an exported graph knows of a value that is not simply a tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from rnngraph.errors import ImportModelError
from rnngraph.ir import TensorType, Value
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor, wrap


@dataclass(frozen=True, slots=True)
class Permutation:
    """The order that sorts ``lengths`` (descending or not), or its inverse: a vector of indices."""

    lengths: Value
    descending: bool
    inverted: bool = False

    def inverse(self) -> Permutation:
        return replace(self, inverted=not self.inverted)


@dataclass(frozen=True, eq=False, slots=True)
class Permuted:
    """``tensor`` with its slices along ``axis`` in the order ``by``."""

    tensor: Tensor
    axis: int
    by: Permutation


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """The data of a packed sequence, kept padded: ``rows`` [batch, time, ...], of which each row's first count.

    lengths  int[batch], in the order of the rows; None where the call of the compiled model says them
    by       the order in which the rows stand in PyTorch's data, as far as somebody can see it
    zero     whether the rows are zero behind their counts
    """

    rows: Tensor
    lengths: Tensor | None
    by: Permutation | None = None
    zero: bool = False

    def goes_with(self, other: Packed) -> bool:
        """Whether both are packed alike."""
        if self.lengths is None or other.lengths is None:
            return self.lengths is other.lengths
        return self.lengths.value() is other.lengths.value() and self.by is other.by


@dataclass(frozen=True, eq=False, slots=True)
class BatchSizes:
    """The batch sizes of a packed sequence; only packing itself reads them."""

    of: Packed


class ModuleZeros(Tensor):
    """Zeros that a module makes: as the initial state of a recurrent module, a call may replace them."""

    def __init__(self, tensor: Tensor, path: str) -> None:
        self.tensor = tensor
        self.path = path

    @property
    def type(self) -> TensorType:
        return self.tensor.type

    def value(self) -> Value:
        return self.tensor.value()


class Unsupported:
    """Stands for the results of a node without a handler, so that the walk can find the others."""


Item: TypeAlias = "Tensor | Permutation | Permuted | Packed | BatchSizes | Unsupported | Any"


def tensor_of(item: Item) -> Tensor:
    """The item as a tensor; ImportModelError where it stands for the inside of a packed sequence."""
    if isinstance(item, Tensor):
        return item
    if isinstance(item, Permuted):
        return ops.take(item.tensor, order_of(item.by), item.axis)
    if isinstance(item, Permutation):
        return order_of(item)
    if isinstance(item, Packed | BatchSizes):
        raise ImportModelError("the data of a PackedSequence is used as a tensor; rnngraph keeps it padded: use "
                               "pad_packed_sequence, or operators that work on each step by itself")
    raise ImportModelError(f"expected a tensor, got {item!r}")


def order_of(by: Permutation) -> Tensor:
    """The indices of a permutation."""
    size = by.lengths.shape[0]
    _, found = ops.top_k(wrap(by.lengths), size, 0, largest=by.descending)
    return ops.top_k(found, size, 0, largest=False)[1] if by.inverted else found
