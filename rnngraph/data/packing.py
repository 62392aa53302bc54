"""Sequences of different lengths without padding: PyTorch's torch.nn.utils.rnn, on numpy arrays.

The steps of all sequences stand in one array, first all first steps, then all second ones; sequences are sorted by
falling length, so that step t holds the first ``batch_sizes[t]`` of them. CNTK packs its minibatches for the same
reason. A compiled model takes a `PackedSequence` in place of an input [batch, time, ...].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from rnngraph.errors import InputError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class PackedSequence(NamedTuple):
    """Sequences packed; the fields and their order are PyTorch's.

    data              [N, ...]: N is the sum of the lengths
    batch_sizes       i64[steps]: how many sequences have a step t; never growing
    sorted_indices    i64[batch]: the sequences in the order in which they are packed; None: as they were given
    unsorted_indices  i64[batch]: the inverse; None with sorted_indices

    What PyTorch packed becomes one by ``PackedSequence(*(None if t is None else t.numpy() for t in packed))``.

    Example:
        >>> import numpy as np
        >>> packed = pack_sequence([np.array([1, 2]), np.array([3, 4, 5])], enforce_sorted=False)
        >>> packed.data, packed.batch_sizes, packed.sorted_indices
        (array([3, 1, 4, 2, 5]), array([2, 2, 1]), array([1, 0]))
    """

    data: Array
    batch_sizes: Array
    sorted_indices: Array | None = None
    unsorted_indices: Array | None = None

    @property
    def lengths(self) -> Array:
        """The lengths of the sequences as they are packed, falling: i64[batch]."""
        sizes = np.asarray(self.batch_sizes)
        batch = int(sizes[0]) if len(sizes) else 0
        return np.asarray((sizes[None, :] > np.arange(batch)[:, None]).sum(1), np.int64)

    def checked(self) -> PackedSequence:
        """The same with arrays for fields; InputError when they contradict each other."""
        data, sizes = np.asarray(self.data), np.asarray(self.batch_sizes)
        if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not len(sizes):
            raise InputError(f"PackedSequence: batch_sizes must be integers [steps], got {sizes.dtype}"
                             f"{list(sizes.shape)}")
        if (sizes < 1).any() or (np.diff(sizes) > 0).any():
            raise InputError("PackedSequence: batch_sizes must be at least 1 and never grow, got "
                             f"{_short(sizes.tolist())}")
        if data.ndim < 1 or len(data) != sizes.sum():
            raise InputError(f"PackedSequence: data must have {sizes.sum()} steps, the sum of batch_sizes, got the "
                             f"shape {list(data.shape)}")
        order = self.sorted_indices
        if order is None:
            return PackedSequence(data, sizes)
        order = np.asarray(order)
        if order.dtype.kind not in "iu" or sorted(order.tolist()) != list(range(int(sizes[0]))):
            raise InputError(f"PackedSequence: sorted_indices must hold 0..{int(sizes[0]) - 1} once each, got "
                             f"{_short(order.tolist())}")
        return PackedSequence(data, sizes, order, np.argsort(order))


def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """Pack a padded array [time, batch, ...] ([batch, time, ...] with batch_first).

    lengths         integers [batch], each in 1..time
    enforce_sorted  expect the lengths to fall; else the sequences are sorted, and `pad_packed_sequence` and a model
                    give results in the order of ``input``

    Raises InputError, as torch.nn.utils.rnn.pack_padded_sequence raises, for lengths that do not fit.

    Example:
        >>> import numpy as np
        >>> packed = pack_padded_sequence(np.array([[1, 2, 3], [4, 5, 0]]), [3, 2], batch_first=True)
        >>> packed.data, packed.batch_sizes
        (array([1, 4, 2, 5, 3]), array([2, 2, 1]))
    """
    padded = _time_major("pack_padded_sequence", input, batch_first)
    sizes = _lengths("pack_padded_sequence", lengths, padded.shape[1])
    if sizes.size and sizes.max() > len(padded):
        raise InputError(f"pack_padded_sequence: expected lengths of at most {len(padded)} (the steps of the input), "
                         f"got {sizes.max()}")
    order = None
    if not enforce_sorted:
        order = np.argsort(-sizes, kind="stable")
        padded, sizes = padded[:, order], sizes[order]
    elif (np.diff(sizes) > 0).any():
        raise InputError(f"pack_padded_sequence: expected falling lengths, got {_short(sizes.tolist())}; sort the "
                         "sequences, or pass enforce_sorted=False")
    there = np.arange(int(sizes[0]))[:, None] < sizes
    return PackedSequence(padded[: len(there)][there], there.sum(1), order,
                          None if order is None else np.argsort(order))


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Array, Array]:
    """The padded array [time, batch, ...] ([batch, time, ...] with batch_first), and the lengths i64[batch].

    Sequences stand in the order in which they were given to the packing. ``total_length`` pads to that many steps;
    InputError when the longest sequence is longer.

    Example:
        >>> import numpy as np
        >>> packed = pack_sequence([np.array([1, 2]), np.array([3, 4, 5])], enforce_sorted=False)
        >>> pad_packed_sequence(packed, batch_first=True, padding_value=-1)
        (array([[ 1,  2, -1],
               [ 3,  4,  5]]), array([2, 3]))
    """
    packed = sequence.checked()
    steps = len(packed.batch_sizes)
    if total_length is not None and total_length < steps:
        raise InputError("pad_packed_sequence: expected total_length to be at least the length of the longest "
                         f"sequence, {steps}, got {total_length}")
    lengths = packed.lengths
    padded = np.full((steps if total_length is None else total_length, len(lengths), *packed.data.shape[1:]),
                     padding_value, packed.data.dtype)
    padded[np.arange(len(padded))[:, None] < lengths] = packed.data
    if packed.unsorted_indices is not None:
        padded, lengths = padded[:, packed.unsorted_indices], lengths[packed.unsorted_indices]
    return (padded.swapaxes(0, 1) if batch_first else padded), lengths


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack arrays [length, ...]; see `pack_padded_sequence`.

    Example:
        >>> import numpy as np
        >>> pack_sequence([np.array([4, 5, 6]), np.array([1])]).data
        array([4, 1, 5, 6])
    """
    arrays = _sequences("pack_sequence", sequences)
    return pack_padded_sequence(pad_sequence(arrays), [len(a) for a in arrays], enforce_sorted=enforce_sorted)


def pad_sequence(sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Array:
    """Arrays [length, ...] as one [time, batch, ...] ([batch, time, ...]), padded at the "right" or "left".

    Example:
        >>> import numpy as np
        >>> pad_sequence([np.array([1, 2]), np.array([3, 4, 5])], batch_first=True, padding_side="left")
        array([[0, 1, 2],
               [3, 4, 5]])
    """
    if padding_side not in ("left", "right"):
        raise InputError(f"pad_sequence: padding_side must be 'left' or 'right', got {padding_side!r}")
    arrays = _sequences("pad_sequence", sequences)
    steps = max(map(len, arrays))
    out = np.full((len(arrays), steps, *arrays[0].shape[1:]), padding_value, np.result_type(*arrays))
    for row, a in zip(out, arrays, strict=True):
        start = steps - len(a) if padding_side == "left" else 0
        row[start : start + len(a)] = a
    return out if batch_first else out.swapaxes(0, 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Array]:
    """The sequences of a padded array, each [length, ...]: the inverse of `pad_sequence`.

    Example:
        >>> import numpy as np
        >>> unpad_sequence(np.array([[1, 2, 0], [3, 4, 5]]), [2, 3], batch_first=True)
        [array([1, 2]), array([3, 4, 5])]
    """
    padded = _time_major("unpad_sequence", padded_sequences, batch_first)
    return [padded[:n, k] for k, n in enumerate(_lengths("unpad_sequence", lengths, padded.shape[1]).tolist())]


def unpack_sequence(packed_sequences: PackedSequence) -> list[Array]:
    """The sequences of a `PackedSequence`, in the order in which they were given: the inverse of `pack_sequence`.

    Example:
        >>> import numpy as np
        >>> unpack_sequence(pack_sequence([np.array([4, 5, 6]), np.array([1])]))
        [array([4, 5, 6]), array([1])]
    """
    return unpad_sequence(*pad_packed_sequence(packed_sequences))


def _time_major(what: str, given: Any, batch_first: bool) -> Array:
    padded = np.asarray(given)
    if padded.ndim < 2:
        layout = "[batch, time, ...]" if batch_first else "[time, batch, ...]"
        raise InputError(f"{what}: expected an array {layout}, got the shape {list(padded.shape)}")
    return padded.swapaxes(0, 1) if batch_first else padded


def _lengths(what: str, given: Any, batch: int) -> Array:
    lengths = np.asarray(given)
    if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
        raise InputError(f"{what}: expected lengths as integers [{batch}], got {lengths.dtype}{list(lengths.shape)}")
    if not batch or lengths.min() < 1:
        raise InputError(f"{what}: expected at least one sequence, and lengths of at least 1, got "
                         f"{_short(lengths.tolist())}")
    return lengths.astype(np.int64)


def _sequences(what: str, sequences: Sequence[Any]) -> list[Array]:
    arrays = [np.asarray(s) for s in sequences]
    if not arrays or any(a.ndim < 1 or a.shape[1:] != arrays[0].shape[1:] for a in arrays):
        raise InputError(f"{what}: expected arrays [length, ...] that differ in their length alone, got the shapes "
                         f"{_short([list(a.shape) for a in arrays])}")
    return arrays


def _short(values: list[Any]) -> str:
    return str(values) if len(values) <= 8 else f"[{', '.join(map(str, values[:8]))}, ...]"
