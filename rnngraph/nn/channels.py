"""Channels first and channels last, one turned into the other."""

from __future__ import annotations

from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


def channels_last(x: Tensor, spatial: int | None = None) -> Tensor:
    """[..., channels, *spatial] as [..., *spatial, channels]; without ``spatial`` one dim stands before channels."""
    lead = 1 if spatial is None else x.rank - spatial - 1
    return ops.transpose(x, (*range(lead), *range(lead + 1, x.rank), lead))


def channels_first(x: Tensor, spatial: int | None = None) -> Tensor:
    """[..., *spatial, channels] as [..., channels, *spatial]; without ``spatial`` one dim stands before them."""
    lead = 1 if spatial is None else x.rank - spatial - 1
    return ops.transpose(x, (*range(lead), x.rank - 1, *range(lead, x.rank - 1)))
