"""How much a node may make out of little: a file of a few bytes can ask for any size."""

from __future__ import annotations

from math import prod

from rnngraph.errors import ImportModelError
from rnngraph.frontends.onnx.proto import Node
from rnngraph.ir import Shape

MAX_ELEMENTS = 2**31  # that a node may make out of one


def bounded(node: Node, shape: Shape) -> Shape:
    """The shape; ImportModelError when its known sizes alone make it larger than any value of a real model."""
    if prod(d for d in shape if isinstance(d, int)) > MAX_ELEMENTS:
        raise ImportModelError(f"{node}: a result of shape {list(shape)} is too large")
    return shape
