"""Shapes that files name: an array of size 0 takes no bytes of a file, whatever its other axes are."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from rnngraph.errors import ImportModelError

LARGEST = 2**62  # bytes that an array's axes may span; those of size 0 count as 1


def check_span(where: str, shape: Sequence[int], itemsize: int) -> None:
    """ImportModelError for a shape that no array can have."""
    if prod(max(1, d) for d in shape) * itemsize >= LARGEST:
        raise ImportModelError(f"{where}: no array can have the shape {str(list(shape))[:80]}")


__all__ = ["check_span"]
