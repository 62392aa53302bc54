"""chunks: long sequences cut into batches of chunks that follow each other, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rnngraph.errors import InputError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One batch of chunks.

    x        [batch, steps, ...], zero behind a row's length
    lengths  i32[batch]: how many steps each row has; 0 in a row without a sequence
    keys     i64[batch]: which sequence the row holds, -1 for none
    starts   bool[batch]: rows in which a sequence begins, so that their state must be reset
    ends     bool[batch]: rows in which a sequence ends
    """

    x: Array
    lengths: Array
    keys: Array
    starts: Array
    ends: Array


def chunks(sequences: Sequence[Array], batch: int, steps: int) -> Iterator[Chunk]:
    """Cut sequences [time, ...] of any lengths into chunks of ``steps``, ``batch`` rows side by side.

    A row goes through its sequence chunk by chunk, then takes the next sequence that no row has begun, so the rows stay
    busy whatever the lengths are. A state that a model carries from chunk to chunk belongs to the same row: see
    `rnngraph.runtime.session.Session.over`, which does all of it. After
    `tf.contrib.training.batch_sequences_with_states`. Raises InputError for sizes below 1, and for sequences that
    differ in dtype or in the shape of a step.

    Example:
        >>> import numpy as np
        >>> for c in chunks([np.ones((5, 1)), np.ones((2, 1)), np.ones((1, 1))], batch=2, steps=3):
        ...     print(c.keys, c.lengths, c.starts.astype(int), c.ends.astype(int))
        [0 1] [3 2] [1 1] [0 1]
        [0 2] [2 1] [0 1] [1 1]
    """
    for name, size in (("batch", batch), ("steps", steps)):
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError(f"chunks: {name} must be a number >= 1, got {size!r}")
    if not isinstance(sequences, Sequence | np.ndarray):
        raise InputError(f"chunks: expected a list of sequences, got {type(sequences).__name__}")
    arrays = [np.asarray(s) for s in sequences]
    _check(arrays)
    return _chunks(arrays, batch, steps)


def _check(arrays: list[Array]) -> None:
    for k, a in enumerate(arrays):
        if a.ndim < 1:
            raise InputError(f"chunks: sequence {k} must be [time, ...], got a number")
        if (a.shape[1:], a.dtype) != (arrays[0].shape[1:], arrays[0].dtype):
            raise InputError(f"chunks: sequence {k} has steps {a.dtype} {list(a.shape[1:])}, the first one "
                             f"{arrays[0].dtype} {list(arrays[0].shape[1:])}")


def _chunks(arrays: list[Array], batch: int, steps: int) -> Iterator[Chunk]:
    waiting = iter(range(len(arrays)))
    rows: list[tuple[int, int]] = [(next(waiting, -1), 0) for _ in range(batch)]  # the sequence, and where in it
    while any(k >= 0 for k, _ in rows):
        x = np.zeros((batch, steps, *arrays[0].shape[1:]), arrays[0].dtype)
        lengths = np.zeros(batch, np.int32)
        keys = np.array([k for k, _ in rows], np.int64)
        starts = np.array([k >= 0 and at == 0 for k, at in rows])
        ends = np.zeros(batch, bool)
        for b, (k, at) in enumerate(rows):
            if k < 0:
                continue
            piece = arrays[k][at : at + steps]
            x[b, : len(piece)], lengths[b] = piece, len(piece)
            ends[b] = at + steps >= len(arrays[k])
            rows[b] = (next(waiting, -1), 0) if ends[b] else (k, at + steps)
        yield Chunk(x, lengths, keys, starts, ends)


__all__ = ["Chunk", "chunks"]
