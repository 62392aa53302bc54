"""batches_by_length: which sequences to run together, so that little is padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from rnngraph.errors import InputError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def batches_by_length(lengths: Sequence[int] | Array, batch_size: int, *, max_steps: int | None = None,
                      drop_last: bool = False, seed: int | None = None) -> list[Array]:
    """Indices of sequences by batch, sequences of similar length together; each index stands in one batch.

    lengths     of the sequences: integers >= 0
    batch_size  at most so many in a batch
    max_steps   at most so many steps in a batch, padding included: its longest length times its sequences
    drop_last   leave out batches that have fewer than batch_size sequences (not allowed with max_steps)
    seed        shuffle the batches, and sequences of the same length among each other; None (default): in the order of
                length, then of index

    InputError for no lengths, arguments out of range, or a sequence that alone has more than max_steps.

    Example:
        >>> [b.tolist() for b in batches_by_length([5, 1, 4, 2, 5], 2)]
        [[1, 3], [2, 0], [4]]
    """
    sizes = np.asarray(lengths)
    if sizes.ndim != 1 or not len(sizes) or sizes.dtype.kind not in "iu" or sizes.min() < 0:
        raise InputError(f"batches_by_length: expected lengths, integers >= 0, got {sizes.dtype}{list(sizes.shape)}"
                         f"{'' if not sizes.size or sizes.dtype.kind not in 'iuf' else f' from {sizes.min()} on'}")
    for name, value in (("batch_size", batch_size), ("max_steps", 1 if max_steps is None else max_steps)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise InputError(f"batches_by_length: {name} must be an integer >= 1, got {value!r}")
    if max_steps is not None and drop_last:
        raise InputError("batches_by_length: with max_steps batches have different sizes, so drop_last says nothing")
    if max_steps is not None and sizes.max() > max_steps:
        raise InputError(f"batches_by_length: sequence {int(sizes.argmax())} has {int(sizes.max())} steps, more than "
                         f"max_steps={max_steps}")
    rng = None if seed is None else np.random.default_rng(seed)
    first = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))
    order = first[np.argsort(sizes[first], kind="stable")]
    batches = _cut(order, sizes, batch_size, max_steps)
    if drop_last:
        batches = [batch for batch in batches if len(batch) == batch_size]
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def _cut(order: Array, sizes: Array, batch_size: int, max_steps: int | None) -> list[Array]:
    """The order in pieces; lengths rise, so that the last sequence of a piece is its longest."""
    if max_steps is None:
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    batches, start = [], 0
    for end in range(1, len(order) + 1):
        full = end - start == batch_size
        if end == len(order) or full or int(sizes[order[end]]) * (end + 1 - start) > max_steps:
            batches.append(order[start:end])
            start = end
    return batches
