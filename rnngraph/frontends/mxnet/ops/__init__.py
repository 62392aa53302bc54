"""The handlers of MXNet ops, one family a file. A file is listed here once; importing it registers its handlers."""

from __future__ import annotations

from importlib import import_module

FAMILIES = (
    "control",
    "convolution",
    "elementwise",
    "indexing",
    "layers",
    "losses",
    "movement",
    "normalization",
    "products",
    "reductions",
    "rnn",
    "sequences",
    "unary",
    "values",
)


def register() -> None:
    """Import all families."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
