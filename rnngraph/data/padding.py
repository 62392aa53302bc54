"""pad_sequences: sequences of different lengths as one array, Keras's keras.utils.pad_sequences."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any, TypeAlias

import numpy as np

from rnngraph.errors import InputError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
SIDES = ("pre", "post")


def pad_sequences(sequences: Sequence[Any], maxlen: int | None = None, dtype: Any = "int32", padding: str = "pre",
                  truncating: str = "pre", value: Any = 0.0) -> Array:
    """Sequences [steps, ...] as one array [batch, maxlen, ...]; arguments and defaults are Keras's.

    maxlen      the steps of the result; None: those of the longest sequence
    dtype       of the result; values are cast to it as numpy does, so that floats lose their fraction in "int32"
    padding     "pre" (default): ``value`` stands in front; "post": behind, as lengths and packing want it
    truncating  "pre" (default): of longer sequences the last steps stay; "post": the first ones
    value       what is filled in; a text needs dtype=object or a dtype of texts

    Unlike PyTorch's `pad_sequence`, which is in this package too, it truncates, and pads in front by default.
    InputError for no sequences, what is none, steps of different shapes, or maxlen below 1.

    Example:
        >>> pad_sequences([[1], [2, 3], [4, 5, 6]], maxlen=2)
        array([[0, 1],
               [2, 3],
               [5, 6]], dtype=int32)
    """
    for name, side in (("padding", padding), ("truncating", truncating)):
        if side not in SIDES:
            raise InputError(f"pad_sequences: {name} is 'pre' or 'post', got {side!r}")
    lengths = _lengths(sequences)
    steps = max(lengths) if maxlen is None else _size(maxlen)
    shape = next((np.asarray(s).shape[1:] for s in sequences if len(s)), ())
    out = _filled((len(sequences), steps, *shape), value, dtype)
    for number, sequence in enumerate(sequences):
        if not len(sequence):
            continue
        kept = _cast(sequence[-steps:] if truncating == "pre" else sequence[:steps], dtype, number)
        if kept.shape[1:] != shape:
            raise InputError(f"pad_sequences: the steps of sequence {number} have the shape {list(kept.shape[1:])}, "
                             f"those before it {list(shape)}")
        out[number, slice(None, len(kept)) if padding == "post" else slice(steps - len(kept), None)] = kept
    return out


def _lengths(sequences: Sequence[Any]) -> list[int]:
    if not isinstance(sequences, Sized) or not len(sequences):
        raise InputError(f"pad_sequences: expected a list of sequences, got {type(sequences).__name__} "
                         f"{'without any' if isinstance(sequences, Sized) else repr(sequences)[:60]}")
    for number, sequence in enumerate(sequences):
        if not isinstance(sequence, Sized):
            raise InputError(f"pad_sequences: expected sequences, got {str(sequence)[:60]} at {number}")
    try:
        return [len(sequence) for sequence in sequences]
    except TypeError:  # an array without axes
        raise InputError("pad_sequences: expected sequences, got an array without axes") from None


def _size(maxlen: Any) -> int:
    if isinstance(maxlen, bool) or not isinstance(maxlen, int | np.integer) or maxlen < 1:
        raise InputError(f"pad_sequences: maxlen must be an integer >= 1, got {maxlen!r}")
    return int(maxlen)


def _filled(shape: tuple[int, ...], value: Any, dtype: Any) -> Array:
    try:
        kind = np.dtype(dtype)
        if isinstance(value, str) and kind.kind not in "OUS":
            raise InputError(f"pad_sequences: the value {value!r} is text, the dtype {kind}; give dtype=object")
        return np.full(shape, value, kind)
    except (TypeError, ValueError, OverflowError) as e:
        raise InputError(f"pad_sequences: value {value!r} of dtype {dtype!r}: {e}") from None


def _cast(steps: Any, dtype: Any, number: int) -> Array:
    try:
        return np.asarray(steps, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as e:
        raise InputError(f"pad_sequences: sequence {number} as {dtype!r}: {e}") from None
