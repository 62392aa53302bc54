"""Checks of cells' arguments: an error names the cell, the argument, what it may be and what was given."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite
from typing import Any

from rnngraph.errors import ShapeError, TraceError
from rnngraph.nn.activations import Activation, to_activation
from rnngraph.nn.initializers import Initializer, to_initializer


def check_int(label: str, name: str, value: Any, least: int = 1) -> int:
    """An int that is at least ``least``; ShapeError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ShapeError(f"{label}: {name} must be an int >= {least}, got {value!r}")
    return value


def check_ints(label: str, name: str, values: Any, least: int = 1) -> tuple[int, ...]:
    """A list of ints that are at least ``least``; ShapeError otherwise."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ShapeError(f"{label}: {name} must be a list of ints >= {least}, got {values!r}")
    return tuple(check_int(label, f"{name}[{i}]", v, least) for i, v in enumerate(values))


def check_number(label: str, name: str, value: Any, low: float = -inf, high: float = inf, *,
                 positive: bool = False) -> float:
    """A finite number in low..high (above 0 where ``positive``); TraceError otherwise."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if not number or not low <= value <= high or (positive and value <= 0):
        wanted = "a finite number" if (low, high) == (-inf, inf) else f"a number in {low:g}..{high:g}"
        raise TraceError(f"{label}: {name} must be {wanted}{' above 0' if positive else ''}, got {value!r}")
    return float(value)


def check_clip(label: str, name: str, value: Any) -> float | None:
    """None, or a number above 0."""
    return None if value is None else check_number(label, name, value, positive=True)


def check_flag(label: str, name: str, value: Any) -> bool:
    """True or False; TraceError otherwise."""
    if not isinstance(value, bool):
        raise TraceError(f"{label}: {name} must be True or False, got {value!r}")
    return value


def check_activation(label: str, name: str, value: Any) -> Activation:
    """A function of a tensor, or the name of one; TraceError otherwise."""
    if value is not None and not isinstance(value, str) and not callable(value):
        raise TraceError(f"{label}: {name} must be a function or the name of an activation, got {value!r}")
    try:
        return to_activation(value)
    except TraceError as e:
        raise TraceError(f"{label}: {name}: {e}") from None


def check_initializer(label: str, name: str, value: Any) -> Initializer:
    """An initialiser, or the name of one; TraceError otherwise."""
    if not isinstance(value, str) and not callable(value):
        raise TraceError(f"{label}: {name} must be an initializer or the name of one, got {value!r}")
    try:
        return to_initializer(value)
    except TraceError as e:
        raise TraceError(f"{label}: {name}: {e}") from None
