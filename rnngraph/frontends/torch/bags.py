"""EmbeddingBag in operators whose sizes may stay open: PyTorch's own operator fixes them when it is exported."""

from __future__ import annotations

import torch

from rnngraph.errors import ImportModelError


def embedding_bag(input: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor | None = None,
                  max_norm: float | None = None, norm_type: float = 2.0, scale_grad_by_freq: bool = False,
                  mode: str = "mean", sparse: bool = False, per_sample_weights: torch.Tensor | None = None,
                  include_last_offset: bool = False, padding_idx: int | None = None) -> torch.Tensor:
    """The same as torch.nn.functional.embedding_bag, whose arguments these are; an empty bag is zero.

    A bag is a row of ``input`` [bags, size], or ``input[offsets[i]:offsets[i + 1]]``: then the rows of each are picked
    from all by a mask [bags, entries].
    """
    if max_norm is not None:
        raise ImportModelError("embedding_bag with max_norm= changes its weight when it is called: renormalise the "
                               "weight first, and leave max_norm out")
    rows = torch.nn.functional.embedding(input, weight)
    counts = torch.ones_like(input, dtype=torch.bool) if padding_idx is None else input != padding_idx % weight.shape[0]
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if offsets is not None:
        rows, counts = rows.unsqueeze(0), counts.unsqueeze(0) & _within(offsets, input, include_last_offset)
    chosen = counts.unsqueeze(-1)
    if mode == "max":
        return torch.where(counts.any(1, keepdim=True), torch.where(chosen, rows, -torch.inf).amax(1), 0.0)
    total = torch.where(chosen, rows, 0.0).sum(1)
    return total if mode == "sum" else total / counts.sum(1, keepdim=True).clamp(min=1).to(total.dtype)


def _within(offsets: torch.Tensor, input: torch.Tensor, include_last_offset: bool) -> torch.Tensor:
    """bool[bags, entries]: which entries are a bag's."""
    places = torch.arange(input.shape[0], device=input.device).unsqueeze(0)
    last = offsets[1:] if include_last_offset else torch.cat([offsets[1:], places.new_full((1,), input.shape[0])])
    first = offsets[:-1] if include_last_offset else offsets
    return (places >= first.unsqueeze(1)) & (places < last.unsqueeze(1))
