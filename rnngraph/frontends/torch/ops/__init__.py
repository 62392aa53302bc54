"""The handlers of ATen operators, one family a file."""

from __future__ import annotations

from importlib import import_module

_FAMILIES = ("activations", "convolution", "creation", "elementwise", "indexing", "norms", "packing", "products",
             "recurrent", "reductions", "shapes", "sizes")


def register() -> None:
    """Fill the table of handlers."""
    for family in _FAMILIES:
        import_module(f"rnngraph.frontends.torch.ops.{family}")
