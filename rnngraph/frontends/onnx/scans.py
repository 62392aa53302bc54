"""Scan, of opset 8 and since opset 9, as scans of the IR."""

from __future__ import annotations

from collections.abc import Sequence

from rnngraph.errors import ImportModelError
from rnngraph.frontends.axes import axis_of
from rnngraph.frontends.imported import NeedsSize
from rnngraph.frontends.known import as_dims
from rnngraph.frontends.onnx.proto import Graph, Node
from rnngraph.frontends.onnx.registry import Item
from rnngraph.frontends.onnx.scan_body import Body, tensors_of
from rnngraph.frontends.onnx.walker import walker
from rnngraph.ir import Dim, dims
from rnngraph.nn import ops
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor, wrap


def scan_9(node: Node, inputs: Sequence[Item]) -> tuple[Item, ...]:
    """States, then sequences along their axes and in their directions."""
    body, count = node.graph("body"), node.attr("num_scan_inputs", 0)
    tensors = tensors_of(node, inputs)
    if not 0 < count <= len(tensors) or len(body.inputs) != len(tensors):
        raise ImportModelError(f"{node}: num_scan_inputs is {count}, with {len(tensors)} inputs and a body that takes "
                               f"{len(body.inputs)}")
    states, sequences = tensors[:-count], tensors[-count:]
    outputs = len(body.outputs) - len(states)
    axes, directions = _each(node, "scan_input_axes", count), _each(node, "scan_input_directions", count)
    out_axes, out_directions = _each(node, "scan_output_axes", outputs), _each(node, "scan_output_directions", outputs)
    reverse = all(directions)
    moved = []
    for x, axis, backwards in zip(sequences, axes, directions, strict=True):
        x = moved_axis(x, axis_of(node, axis, x.rank), 0)
        moved.append(ops.reverse(x, 0) if backwards and not reverse else x)
    finals, ys = _scanned(node, body, states, moved, moved[0].shape[0], reverse=reverse)
    found = []
    for y, axis, backwards in zip(ys, out_axes, out_directions, strict=True):
        y = ops.reverse(y, 0) if bool(backwards) != reverse else y
        found.append(moved_axis(y, 0, axis_of(node, axis, y.rank)))
    return (*finals, *found)


def scan_8(node: Node, inputs: Sequence[Item]) -> tuple[Item, ...]:
    """As opset 8 has it: everything has the batch in front, the body does not, and rows may have lengths."""
    body, count = node.graph("body"), node.attr("num_scan_inputs", 0)
    lengths = walker().known(node, inputs[0]) if inputs and inputs[0] is not None else None
    tensors = tensors_of(node, inputs[1:])
    if not 0 < count <= len(tensors) or len(body.inputs) != len(tensors):
        raise ImportModelError(f"{node}: num_scan_inputs is {count}, with {len(tensors)} inputs")
    batch, steps = tensors[-1].shape[0], tensors[-1].shape[1]
    if not isinstance(batch, int):
        raise NeedsSize(sorted(dims.symbols_of(batch)), f"{node} runs its body for each row by itself")
    rows = [steps] * batch if lengths is None else list(as_dims(lengths, str(node)))
    directions = _each(node, "directions", count)
    results = []
    for row, length in enumerate(rows):
        own = [ops.reshape(t[row : row + 1], t.shape[1:]) for t in tensors]
        sequences = [_cut(x, length) for x in own[-count:]]
        sequences = [ops.reverse(x, 0) if d else x for x, d in zip(sequences, directions, strict=True)]
        finals, ys = _scanned(node, body, own[:-count], sequences, length)
        results.append([*finals, *(_padded(y, steps) for y in ys)])
    stacked = zip(*results, strict=True)
    return tuple(ops.concat([ops.reshape(t, (1, *t.shape)) for t in parts], 0) if batch > 1 else
                 ops.reshape(parts[0], (1, *parts[0].shape)) for parts in stacked)


def _cut(x: Tensor, length: Dim) -> Tensor:
    return wrap(active().builder.slice(x.value(), 0, 0, length))


def _padded(y: Tensor, steps: Dim) -> Tensor:
    """Zeros behind a row's length."""
    rest = dims.sub(steps, y.shape[0])
    if rest == 0:
        return y
    b = active().builder
    return ops.concat([y, wrap(b.zeros(y.type.with_shape((rest, *y.shape[1:]))))], 0)


def _each(node: Node, name: str, count: int) -> list[int]:
    values = node.ints(name, [0] * count)
    if values is None or len(values) != count:
        raise ImportModelError(f"{node}: expected {count} numbers as {name}, got {values}")
    return list(values)


def moved_axis(x: Tensor, source: int, target: int) -> Tensor:
    """The tensor with one axis moved."""
    order = [i for i in range(x.rank) if i != source]
    order.insert(target, source)
    return ops.transpose(x, order)


def _scanned(node: Node, body: Graph, states: Sequence[Tensor], sequences: Sequence[Tensor], steps: Dim, *,
             reverse: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """One scan over axis 0 of ``sequences``: the final states and the output sequences."""
    traced = Body(steps, states, sequences)
    with traced.open():
        items = walker().body(body, [*traced.states, *traced.sequences])
        tensors = tensors_of(node, items)
    return traced.close(node, tensors[: len(states)], tensors[len(states) :], reverse=reverse)
