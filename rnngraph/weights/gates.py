"""Gates of the modes, and their order in the arrays of other systems."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from rnngraph.errors import ConversionError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

# mode -> the gates in the order of the rows: input, forget, candidate, output; reset, update, candidate
GATES: dict[str, str] = {"lstm": "ifgo", "gru": "rzn", "rnn_tanh": "h", "rnn_relu": "h"}
PEEPHOLES = "ifo"


def split(array: Array, gates: str, axis: int = 0) -> dict[str, Array]:
    """Equal parts along ``axis``, by gate; ConversionError when the gates do not divide it.

    >>> {g: a.tolist() for g, a in split(np.arange(6), "rzn").items()}
    {'r': [0, 1], 'z': [2, 3], 'n': [4, 5]}
    """
    if array.ndim <= axis or array.shape[axis] % len(gates):
        raise ConversionError(f"{len(gates)} gates do not divide axis {axis} of {list(array.shape)}")
    return dict(zip(gates, np.split(array, len(gates), axis), strict=True))


def join(parts: dict[str, Array], gates: str, axis: int = 0) -> Array:
    """The parts one after the other, in the order of ``gates``."""
    return np.concatenate([parts[g] for g in gates], axis)


def reorder(array: Array, source: str, target: str, axis: int = 0) -> Array:
    """The gates along ``axis`` brought from one order to another.

    >>> reorder(np.arange(6), "rzn", "zrn").tolist()
    [2, 3, 0, 1, 4, 5]
    """
    return join(split(array, source, axis), target, axis)
