"""Small pieces that handlers share."""

from __future__ import annotations

from rnngraph.frontends.imported import NeedsSize
from rnngraph.ir import Dim
from rnngraph.ir.dims import symbols_of
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


def known(dim: Dim, what: str) -> int:
    """A dim that must be a number; NeedsSize names the symbols where it is not one yet."""
    if isinstance(dim, str):
        raise NeedsSize(sorted(symbols_of(dim)), f"{what} is the open size {dim}")
    return dim


def over_channels(weight: Tensor, x: Tensor, axis: int = 1) -> Tensor:
    """A vector with one element per channel, shaped to broadcast against x."""
    size: Dim = weight.shape[0]
    return ops.reshape(weight, (size, *[1] * (x.rank - axis - 1)))
