"""Small pieces that handlers share."""

from __future__ import annotations

from rnngraph.ir import Dim
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


def channels_last(x: Tensor, spatial: int) -> Tensor:
    """[..., C, *S] -> [..., *S, C]"""
    lead = x.rank - spatial - 1
    return ops.transpose(x, [*range(lead), *range(lead + 1, x.rank), lead])


def channels_first(x: Tensor, spatial: int) -> Tensor:
    """[..., *S, C] -> [..., C, *S]"""
    lead = x.rank - spatial - 1
    return ops.transpose(x, [*range(lead), x.rank - 1, *range(lead, x.rank - 1)])


def over_channels(weight: Tensor, x: Tensor, axis: int = 1) -> Tensor:
    """A vector with one element per channel, shaped to broadcast against x."""
    size: Dim = weight.shape[0]
    return ops.reshape(weight, (size, *[1] * (x.rank - axis - 1)))
