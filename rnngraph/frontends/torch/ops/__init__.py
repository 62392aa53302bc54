"""The handlers of ATen operators, one family a file. A file is listed here once: importing it fills the table."""

from __future__ import annotations

from importlib import import_module

FAMILIES = (
    "activations",
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "norms",
    "packing",
    "products",
    "recurrent",
    "reductions",
    "shapes",
    "sizes",
)


def register() -> None:
    """Import all families."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
