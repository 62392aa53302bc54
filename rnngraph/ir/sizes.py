"""The computed sizes that a graph mentions, and sizes of symbols under which it can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from rnngraph.errors import InputError, IRError
from rnngraph.ir.core import Graph, Op
from rnngraph.ir.dims import is_symbol, symbols_of
from rnngraph.ir.ops import SliceAttrs
from rnngraph.ir.types import Dim, Dims, size_of

ATTEMPTS = 24  # of `sizes_for`: each makes the unknown sizes half as large again


def expressions(graph: Graph) -> tuple[str, ...]:
    """The dims that are neither numbers nor symbols, in types and attributes, each once."""
    attributes = [d for op in graph.walk() for d in _of_attributes(op) if isinstance(d, str) and not is_symbol(d)]
    return tuple(dict.fromkeys((*computed_shapes(graph), *attributes)))


def computed_shapes(graph: Graph) -> tuple[str, ...]:
    """Those of `expressions` that are dims of values."""
    found = dict.fromkeys(d for v in graph.inputs for d in v.shape)
    for op in graph.walk():
        for b in op.blocks:
            found.update(dict.fromkeys(d for v in b.args for d in v.shape))
        found.update(dict.fromkeys(d for r in op.results for d in r.shape))
    return tuple(d for d in found if isinstance(d, str) and not is_symbol(d))


def _of_attributes(op: Op) -> Iterator[Dim]:
    for f in fields(op.attrs):
        if f.type == "Dim":
            yield getattr(op.attrs, f.name)
        elif f.type == "Shape":
            yield from getattr(op.attrs, f.name)


def check_bound(graph: Graph) -> None:
    """IRError when the symbols of some computed size are dims of no input."""
    known = set(graph.symbols())
    for dim in expressions(graph):
        if missing := sorted(symbols_of(dim) - known):
            raise IRError(f"graph {graph.name!r} computes the size {dim}, but {missing[0]!r} is a dim of no input: "
                          f"expected one of {sorted(known)}, or an input that has {missing[0]!r} as a dim of its own")


def sizes_for(graph: Graph, wanted: Dims, known: Mapping[str, int]) -> Dims:
    """``wanted``, those not in ``known`` made larger until every computed size is above 0 and every slice fits."""
    sizes = {**wanted, **known}
    dims, slices = expressions(graph), [op for op in graph.walk() if isinstance(op.attrs, SliceAttrs)]
    for _ in range(ATTEMPTS):
        if all(_at_least(d, 1, sizes) for d in dims) and all(_fits(op, sizes) for op in slices):
            break
        sizes = {s: n if s in known else n + (n + 1) // 2 for s, n in sizes.items()}
    return sizes


def _at_least(dim: Dim, least: int, sizes: Dims) -> bool:
    try:
        return size_of(dim, sizes) >= least
    except InputError:
        return False


def _fits(op: Op, sizes: Dims) -> bool:
    a = op.attrs
    assert isinstance(a, SliceAttrs)
    dim = op.operands[0].shape[a.axis]
    if all(isinstance(d, int) for d in (dim, a.start, a.size)) or not symbols_of(dim) <= sizes.keys():
        return True
    if not all(_at_least(d, 0, sizes) for d in (dim, a.size)):
        return False
    have, size = size_of(dim, sizes), size_of(a.size, sizes)
    start = a.start + have if isinstance(a.start, int) and a.start < 0 else size_of(a.start, sizes)
    return start >= 0 and (not size or start + (size - 1) * a.step < have)
