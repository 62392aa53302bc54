"""numpy's broadcasting where dims may be symbols: what is not known to fit is taken to be equal, or asked for."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.frontends.imported import NeedsSize, expect_equal
from rnngraph.frontends.onnx.proto import Node
from rnngraph.ir import Dim, Shape, dims
from rnngraph.ir.builder import broadcast_shapes


def common_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """The shape that all broadcast to; see `needed` for sizes that differ of which one is a symbol."""
    rank = max(len(s) for s in shapes)
    for i in range(rank):
        found = dict.fromkeys(s[i - rank + len(s)] for s in shapes if i - rank + len(s) >= 0)
        needed(node, [d for d in found if d != 1], f"{node} broadcasts")
    return broadcast_shapes(shapes)


def needed(node: Node, sizes: Sequence[Dim], what: str) -> None:
    """What to do where sizes that must be equal differ, and some are symbols.

    Symbols alone are taken to be equal (`NeedsEqual`): files name the batch of each input by itself. Others, such as
    time-1 and 5, are asked for (`NeedsSize`).
    """
    symbols = {s for d in sizes for s in dims.symbols_of(d)}
    if len(set(sizes)) > 1 and symbols:
        for d in sizes[1:]:
            if dims.is_symbol(d) and dims.is_symbol(sizes[0]):
                expect_equal(sizes[0], d, f"{what} {' and '.join(map(str, sizes))}")
        raise NeedsSize(sorted(symbols), f"{what} {' and '.join(map(str, sizes))}")
