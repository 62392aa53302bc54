"""The handlers of ONNX ops, one family a file. A file is listed here once; importing it registers its handlers."""

from __future__ import annotations

from importlib import import_module

FAMILIES = (
    "activations",
    "arithmetic",
    "constants",
    "contrib",
    "control",
    "convolution",
    "indexing",
    "matrices",
    "movement",
    "normalization",
    "pooling",
    "quantization",
    "quantized_recurrent",
    "recurrent",
    "reductions",
    "sequences",
    "shape_values",
)


def register() -> None:
    """Import all families."""
    for family in FAMILIES:
        import_module(f"{__name__}.{family}")
