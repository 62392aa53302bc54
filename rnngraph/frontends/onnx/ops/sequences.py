"""Sequences and optionals: lists of items, and items or None, that exist only while the graph is walked."""

from __future__ import annotations

import numpy as np

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.known import Known, as_ints
from rnngraph.frontends.onnx.proto import Node
from rnngraph.frontends.onnx.registry import Item, handler
from rnngraph.frontends.onnx.walker import tensor_of, walker
from rnngraph.ir import Dim, dims
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap

MAX_ELEMENTS = 4096  # of one sequence


@handler("SequenceEmpty", raw=True)
def sequence_empty(node: Node) -> tuple[Item, ...]:
    return ([],)


@handler("SequenceConstruct", raw=True)
def sequence_construct(node: Node, *elements: Item) -> tuple[Item, ...]:
    return (list(elements),)


@handler("SequenceLength", raw=True)
def sequence_length(node: Node, sequence: Item) -> Known:
    return Known(np.asarray(len(_list(node, sequence)), np.int64))


@handler("SequenceAt", raw=True)
def sequence_at(node: Node, sequence: Item, position: Item) -> Item:
    elements = _list(node, sequence)
    element: Item = elements[_position(node, position, len(elements))]
    return element


@handler("SequenceInsert", raw=True)
def sequence_insert(node: Node, sequence: Item, element: Item, position: Item = None) -> tuple[Item, ...]:
    elements = _list(node, sequence)
    at = len(elements) if position is None else _position(node, position, len(elements), end=True)
    if len(elements) >= MAX_ELEMENTS:
        raise ImportModelError(f"{node}: a sequence of more than {MAX_ELEMENTS} elements")
    return ([*elements[:at], element, *elements[at:]],)


@handler("SequenceErase", raw=True)
def sequence_erase(node: Node, sequence: Item, position: Item = None) -> tuple[Item, ...]:
    elements = _list(node, sequence)
    at = len(elements) - 1 if position is None else _position(node, position, len(elements))
    return ([*elements[:at], *elements[at + 1 :]],)


@handler("SplitToSequence", raw=True)
def split_to_sequence(node: Node, x: Item, split: Item = None) -> tuple[Item, ...]:
    """Pieces of one size (the last may be smaller), of the sizes told, or single steps, then without the axis."""
    tensor = _tensor(node, x)
    axis = axis_of(node, node.attr("axis", 0), tensor.rank)
    size = _integer(node, tensor.shape[axis])
    known = walker().known(node, split)
    if known is None:
        sizes = (1,) * min(size, MAX_ELEMENTS + 1)
    elif known.array.ndim:
        sizes = as_ints(known, str(node))
    else:
        (each,) = as_ints(known, str(node))
        if each < 1:
            raise ImportModelError(f"{node}: expected pieces of 1 or more, got {each}")
        whole = min(size // each, MAX_ELEMENTS + 1)
        sizes = (*(each,) * whole, *((size - whole * each,) if size % each else ()))
    if len(sizes) > MAX_ELEMENTS or sum(sizes) != size or any(s < 0 for s in sizes):
        raise ImportModelError(f"{node}: cannot split {size} into {len(sizes)} pieces of sizes {list(sizes[:8])}")
    pieces = _pieces(tensor, axis, sizes)
    if known is None and not node.attr("keepdims", 1):
        pieces = [ops.reshape(p, (*p.shape[:axis], *p.shape[axis + 1 :])) for p in pieces]
    return (pieces,)


@handler("ConcatFromSequence", raw=True)
def concat_from_sequence(node: Node, sequence: Item) -> Tensor:
    parts = [_tensor(node, e) for e in _list(node, sequence)]
    if not parts:
        raise ImportModelError(f"{node}: the sequence has no elements")
    new = node.attr("new_axis", 0)
    axis = axis_of(node, node.attr("axis", 0), parts[0].rank + (1 if new else 0))
    if new:
        parts = [ops.reshape(p, (*p.shape[:axis], 1, *p.shape[axis:])) for p in parts]
    return ops.concat(parts, axis) if len(parts) > 1 else parts[0]


@handler("SequenceMap", raw=True)
def sequence_map(node: Node, *inputs: Item) -> tuple[Item, ...]:
    """The body for each element of the first sequence; other sequences go along, tensors are the same for all."""
    body, count = node.graph("body"), len(_list(node, inputs[0]))
    results: list[list[Item]] = [[] for _ in body.outputs]
    for at in range(count):
        found = walker().body(body, [i[at] if isinstance(i, list) else i for i in inputs])
        for result, item in zip(results, found, strict=True):
            result.append(item)
    return tuple(results)


@handler("Optional", raw=True)
def optional(node: Node, x: Item = None) -> tuple[Item, ...]:
    return (x,)


@handler("OptionalHasElement", raw=True)
def optional_has_element(node: Node, x: Item = None) -> Known:
    return Known(np.asarray(x is not None))


@handler("OptionalGetElement", raw=True)
def optional_get_element(node: Node, x: Item) -> tuple[Item, ...]:
    if x is None:
        raise ImportModelError(f"{node}: the optional has no element")
    return (x,)


def _list(node: Node, item: Item) -> list[Item]:
    if not isinstance(item, list):
        raise ImportModelError(f"{node}: expected a sequence, got {'nothing' if item is None else 'a tensor'}")
    return item


def _tensor(node: Node, item: Item) -> Tensor:
    found = tensor_of(item)
    if found is None:
        raise ImportModelError(f"{node}: expected a tensor, got nothing")
    return found


def _position(node: Node, item: Item, size: int, *, end: bool = False) -> int:
    known = walker().known(node, item)
    at = None if known is None else as_ints(known, str(node))
    if at is None or len(at) != 1 or not -size <= at[0] < size + end:
        raise ImportModelError(f"{node}: position {at} does not fit a sequence of {size} elements")
    return at[0] + size if at[0] < 0 else at[0]


def _integer(node: Node, size: Dim) -> int:
    if not isinstance(size, int):
        raise NeedsSize(sorted(dims.symbols_of(size)), f"{node} makes a sequence of as many elements")
    return size


def _pieces(x: Tensor, axis: int, sizes: tuple[int, ...]) -> list[Tensor]:
    found: list[Tensor] = []
    start = 0
    for size in sizes:
        found.append(wrap(active().builder.slice(x.value(), axis, start, size)))
        start += size
    return found
