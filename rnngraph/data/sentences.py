"""MXNet's mx.rnn.encode_sentences and mx.rnn.BucketSentenceIter (python/mxnet/rnn/io.py), on numpy arrays."""

from __future__ import annotations

import bisect
import random
import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rnngraph.errors import InputError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def encode_sentences(sentences: Sequence[Sequence[Any]], vocab: dict[Any, int] | None = None, invalid_label: int = -1,
                     invalid_key: Hashable = "\n", start_label: int = 0, unknown_token: Hashable | None = None, *,
                     stable_unknown: bool = False) -> tuple[list[list[int]], dict[Any, int]]:
    """Sentences of tokens as lists of integers, and the vocabulary; arguments, defaults and numbers are MXNet's.

    Without ``vocab`` every new token gets the next integer from ``start_label`` on, which is never invalid_label, and
    ``invalid_key`` has invalid_label. With a ``vocab`` an unknown token is an InputError, unless there is an
    ``unknown_token`` to stand for it. The vocabulary that is given is the one that is returned, with what was added.

    MXNet numbers the unknown token anew for each unknown token that it meets, from start_label on, whatever else has
    that number; so do we. ``stable_unknown`` (ours) gives it one number: its own in ``vocab``, or else the first free
    one from start_label on.

    Example:
        >>> encode_sentences([["a", "b"], ["b", "c"]])
        ([[0, 1], [1, 2]], {'\\n': -1, 'a': 0, 'b': 1, 'c': 2})
    """
    index, fresh = start_label, vocab is None
    known: dict[Any, int] = {invalid_key: invalid_label} if vocab is None else vocab
    if stable_unknown and unknown_token is not None and unknown_token not in known:
        taken = {*known.values(), invalid_label}
        index = next(n for n in range(start_label, start_label + len(taken) + 1) if n not in taken)
        known[unknown_token] = index
        index += 1
    encoded = []
    for sentence in sentences:
        numbers = []
        for token in sentence:
            word = token
            if word not in known:
                if not fresh and unknown_token is None:
                    raise InputError(f"encode_sentences: the token {token!r} is not in the vocabulary; give an "
                                     "unknown_token to stand for such tokens")
                if unknown_token is not None:
                    word = unknown_token
                if not (stable_unknown and unknown_token is not None):
                    index += index == invalid_label
                    known[word] = index
                    index += 1
            numbers.append(known[word])
        encoded.append(numbers)
    return encoded, known


@dataclass(frozen=True, slots=True, eq=False)
class SentenceBatch:
    """data and label, [batch, bucket] or, with the layout TN, [bucket, batch]; bucket_key is the bucket's length."""

    data: Array
    label: Array
    bucket_key: int


class BucketSentenceIter:
    """Batches of encoded sentences of similar length, with the next token as label; MXNet's arguments and order.

    sentences      lists of integers, as `encode_sentences` gives them
    batch_size     the sentences of a batch; what does not fill one is left out of the epoch (``left_over``)
    buckets        lengths to pad to; None: each length that at least batch_size sentences have
    invalid_label  the padding, and the label of the last step
    data_name, label_name, dtype ("float32"), layout ("NT": [batch, time], "TN": [time, batch])
    seed           of the order: what MXNet gives after random.seed(seed) and numpy.random.seed(seed); None: any order

    A sentence goes to the shortest bucket that holds it; those longer than the longest bucket are dropped, which is
    told by a warning and counted in ``discarded``. `reset` shuffles batches and sentences; the first order is
    shuffled too. The iterator ends after an epoch until it is reset.

    ``default_bucket_key`` is the longest bucket; ``provide_data`` and ``provide_label`` are (name, shape, layout) for
    it. InputError for sentences without a bucket, or arguments out of their range.

    Example:
        >>> batches = BucketSentenceIter([[1, 2, 3], [4, 5], [6, 7, 8]], 2, buckets=[3], invalid_label=0, seed=0)
        >>> batch = next(batches)
        >>> batch.bucket_key, batch.data.shape, batches.left_over
        (3, (2, 3), 1)
        >>> bool((batch.label[:, :-1] == batch.data[:, 1:]).all())
        True
    """

    def __init__(self, sentences: Sequence[Sequence[int]], batch_size: int, buckets: Sequence[int] | None = None,
                 invalid_label: int = -1, data_name: str = "data", label_name: str = "softmax_label",
                 dtype: Any = "float32", layout: str = "NT", *, seed: int | None = None) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise InputError(f"BucketSentenceIter: batch_size must be an integer >= 1, got {batch_size!r}")
        if layout not in ("NT", "TN"):
            raise InputError(f"BucketSentenceIter: layout must be 'NT' or 'TN', got {layout!r}")
        self.batch_size, self.invalid_label, self.layout = int(batch_size), invalid_label, layout
        self.data_name, self.label_name, self.dtype = data_name, label_name, np.dtype(dtype)
        self.buckets = _buckets(sentences, self.batch_size, buckets)
        self._rows = self._sorted_in(sentences)
        self.default_bucket_key = self.buckets[-1]
        starts = [range(0, len(rows) - self.batch_size + 1, self.batch_size) for rows in self._rows]
        self._places = [(bucket, start) for bucket, found in enumerate(starts) for start in found]
        self.left_over = len(sentences) - self.discarded - len(self._places) * self.batch_size
        self._order, self._rng = random.Random(seed), np.random.RandomState(seed)
        self.reset()

    def _sorted_in(self, sentences: Sequence[Sequence[int]]) -> list[Array]:
        """The padded sentences of each bucket."""
        rows: list[list[Array]] = [[] for _ in self.buckets]
        self.discarded = 0
        for sentence in sentences:
            bucket = bisect.bisect_left(self.buckets, len(sentence))
            if bucket == len(self.buckets):
                self.discarded += 1
                continue
            row = np.full(self.buckets[bucket], self.invalid_label, self.dtype)
            row[: len(sentence)] = sentence
            rows[bucket].append(row)
        if self.discarded:
            warnings.warn(f"BucketSentenceIter: dropped {self.discarded} sentences longer than the largest bucket, "
                          f"{self.buckets[-1]}", stacklevel=3)
        return [np.array(found, self.dtype).reshape(len(found), length)
                for found, length in zip(rows, self.buckets, strict=True)]

    @property
    def provide_data(self) -> list[tuple[str, tuple[int, int], str]]:
        """(name, shape, layout) of the data of the default bucket."""
        return [(self.data_name, self._shape(), self.layout)]

    @property
    def provide_label(self) -> list[tuple[str, tuple[int, int], str]]:
        """(name, shape, layout) of the labels of the default bucket."""
        return [(self.label_name, self._shape(), self.layout)]

    def _shape(self) -> tuple[int, int]:
        shape = (self.batch_size, self.default_bucket_key)
        return shape if self.layout == "NT" else (shape[1], shape[0])

    def reset(self) -> None:
        """Start an epoch: shuffle the batches, and the sentences of each bucket."""
        self._at = 0
        self._order.shuffle(self._places)
        for rows in self._rows:
            self._rng.shuffle(rows)

    def __len__(self) -> int:
        """The batches of an epoch."""
        return len(self._places)

    def __iter__(self) -> Iterator[SentenceBatch]:
        return self

    def __next__(self) -> SentenceBatch:
        if self._at == len(self._places):
            raise StopIteration
        bucket, start = self._places[self._at]
        self._at += 1
        data = self._rows[bucket][start : start + self.batch_size].copy()
        label = np.full_like(data, self.invalid_label)
        label[:, :-1] = data[:, 1:]
        if self.layout == "TN":
            data, label = data.T, label.T
        return SentenceBatch(data, label, self.buckets[bucket])


def _buckets(sentences: Sequence[Sequence[int]], batch_size: int, given: Sequence[int] | None) -> list[int]:
    """The buckets, rising; InputError when there is none."""
    if given:
        if not all(isinstance(b, int | np.integer) and not isinstance(b, bool) and b >= 1 for b in given):
            raise InputError(f"BucketSentenceIter: buckets are lengths >= 1, got {list(given)}")
        return sorted(int(b) for b in given)
    counts = np.bincount([len(s) for s in sentences]) if len(sentences) else np.zeros(0, int)
    found = [length for length, count in enumerate(counts) if count >= batch_size and length]
    if not found:
        raise InputError(f"BucketSentenceIter: no length has {batch_size} sentences, so that there is no bucket; give "
                         "buckets, or a smaller batch_size")
    return found
