"""to_model: a graph of the IR as an onnx.ModelProto."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rnngraph.errors import ExportError
from rnngraph.frontends.onnx.reader import onnx_module
from rnngraph.frontends.to_onnx import elementwise as el
from rnngraph.frontends.to_onnx import grids, movement
from rnngraph.frontends.to_onnx.emitter import LAZY, Emitter
from rnngraph.frontends.to_onnx.lowering import lower
from rnngraph.frontends.to_onnx.recurrent import rnn
from rnngraph.ir import BOOL, I64, Block, Graph, Op, Scan, TensorType, Value
from rnngraph.ir.dims import is_symbol

OLDEST_OPSET, NEWEST_OPSET = 18, 23  # 18: axes of all reductions are inputs
MAX_BYTES = 2**31 - 2**24  # what protobuf holds, with room for the rest
Lowering: TypeAlias = Callable[[Emitter, Op], list[str]]


def to_model(graph: Graph, opset: int | None = None, names: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
             ) -> Any:
    """An onnx.ModelProto that computes ``graph``, which is not changed.

    opset  that of the model, 18 to 23 (default: the newest); ``names``: other names for inputs and outputs, by theirs
    Raises ExportError that names every op that cannot be written, MissingExtraError without the package onnx.
    """
    onnx = onnx_module()
    version = NEWEST_OPSET if opset is None else opset
    if isinstance(version, bool) or not isinstance(version, int) or not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise ExportError(f"opset must be in {OLDEST_OPSET}..{NEWEST_OPSET}, got {opset!r}")
    if unknown := sorted({f"{op.name} of layer {op.layer!r}" for op in graph.walk()
                          if op.name not in LOWERINGS and op.name not in LAZY and not op.opdef.terminator}):
        raise ExportError(f"{len(unknown)} op(s) cannot be written as ONNX: {'; '.join(unknown[:20])}")
    graph = graph.clone()
    lower(graph)
    e = Emitter(onnx, version)
    inputs = [_input(e, v, names[0].get(n, n)) for n, v in zip(graph.input_names, graph.inputs, strict=True)]
    e.scopes[graph.block] = []
    _emit(e, graph.block)
    outputs = [_output(e, v, names[1].get(n, n)) for n, v in zip(graph.output_names, graph.outputs, strict=True)]
    size = sum(literal.array.nbytes for literal in e.initializers)
    if size > MAX_BYTES:
        raise ExportError(f"the weights have {size} bytes; an ONNX model holds at most 2 GiB")
    made = onnx.helper.make_graph(e.scopes[graph.block], graph.name, inputs, outputs, list(e.initializers.values()))
    opsets = [onnx.helper.make_opsetid("", version)]
    return onnx.helper.make_model(made, opset_imports=opsets, producer_name="rnngraph",
                                  ir_version=onnx.helper.find_min_ir_version_for(opsets))


def _input(e: Emitter, value: Value, name: str) -> Any:
    e.names[value] = e.fresh(name, exact=True)
    for axis, d in enumerate(value.shape):
        if isinstance(d, str) and is_symbol(d):
            e.symbols.setdefault(d, (e.names[value], axis))
    return e.info(e.names[value], value.type)


def _output(e: Emitter, value: Value, name: str) -> Any:
    """An output has a name of its own: the value's, or that of a copy where it is an input, a constant or an output."""
    own, made = e.fresh(name, exact=True), e.name(value)
    if any(made in node.output for node in e.scopes[e.block]) and made not in e.outputs:
        _rename(e.scopes[e.block], made, own)
        e.names = {v: own if n == made else n for v, n in e.names.items()}
    else:
        copy = e.onnx.helper.make_node("Identity", [made], [own], name=e.fresh(f"{name}/Identity"))
        e.scopes[e.block].append(copy)
    e.outputs.add(own)
    return e.info(own, value.type)


def _rename(nodes: Sequence[Any], old: str, new: str) -> None:
    """A value's name, wherever it is used: names are unique in the whole model."""
    for node in nodes:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g.node, old, new)


def _emit(e: Emitter, block: Block) -> None:
    """Write the ops of a block."""
    outer, e.block = e.block, block
    for op in block.body:
        if op.name in LAZY:
            continue
        e.layer = op.layer
        for value, name in zip(op.results, LOWERINGS[op.name](e, op), strict=True):
            e.names[value] = name
    e.block = outer if outer is not None else block


def scan(e: Emitter, op: Op) -> list[str]:
    """A plain scan as Scan: the directions of time are attributes."""
    s = Scan(op)
    if s.until is not None:
        return loop(e, op)
    layer, direction = op.layer, int(s.attrs.reverse)
    starts = e.operands(op)
    e.scopes[s.body] = []
    inputs = []
    for v, hint in zip(s.body.args, (*s.attrs.carries, *s.attrs.xs), strict=True):
        e.names[v] = e.fresh("/".join(p for p in (layer, hint) if p))
        inputs.append(e.info(e.names[v], v.type))
    _emit(e, s.body)
    outer, e.block, e.layer = e.block, s.body, layer
    outputs = []
    for v in s.body.terminator.operands:
        name = e.node("Identity", [e.name(v)], "step")
        outputs.append(e.info(name, v.type))
    e.block = outer
    body = e.onnx.helper.make_graph(e.scopes.pop(s.body), e.fresh(f"{layer}/body"), inputs, outputs)
    xs, ys = len(s.attrs.xs), len(s.attrs.ys)
    return e.nodes("Scan", starts, [r.hint or "last" for r in op.results], body=body, num_scan_inputs=xs,
                   scan_input_directions=[direction] * xs, scan_output_directions=[direction] * ys if ys else None)


def loop(e: Emitter, op: Op) -> list[str]:
    """A scan of states alone as Loop, which ends when all rows are done."""
    s = Scan(op)
    assert s.until is not None
    starts, done, boolean = e.operands(op), s.inits[s.until], TensorType(BOOL, ())
    first = _some_runs(e, e.name(done), done)
    e.scopes[s.body] = []
    inputs = [e.info(e.fresh("step"), TensorType(I64, ())), e.info(e.fresh("go"), boolean)]
    for v, hint in zip(s.body.args, s.attrs.carries, strict=True):
        e.names[v] = e.fresh(hint)
        inputs.append(e.info(e.names[v], v.type))
    _emit(e, s.body)
    outer, e.block, e.layer = e.block, s.body, op.layer
    states = [e.node("Identity", [e.name(v)], "state") for v in s.body.terminator.operands]
    outputs = [e.info(_some_runs(e, states[s.until], done), boolean),
               *(e.info(n, v.type) for n, v in zip(states, s.body.terminator.operands, strict=True))]
    e.block = outer
    body = e.onnx.helper.make_graph(e.scopes.pop(s.body), e.fresh(f"{op.layer}/body"), inputs, outputs)
    most = e.node("Squeeze", [e.size(s.attrs.steps), e.ints([0])])
    return e.nodes("Loop", [most, first, *starts], [r.hint or "last" for r in op.results], body=body)


def _some_runs(e: Emitter, name: str, done: Value) -> str:
    """bool[]: whether some row is not done."""
    flag = e.node("Not", [name]) if done.type.dtype is BOOL else e.node(
        "Equal", [name, e.constant(np.zeros((), done.type.dtype.numpy))])
    number = e.node("ReduceMax", [e.node("Cast", [flag], to=6)], keepdims=0)
    return e.node("Cast", [number], to=9)


LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys(el.PLAIN, el.plain), **dict.fromkeys(el.REDUCTIONS, el.reduction), "ne": el.not_equal,
    "mod": el.remainder, "rem": el.remainder, "shift_left": el.shift, "shift_right": el.shift, "cast": el.cast,
    "matmul": el.matmul, "softmax": el.softmax, "argmax": el.arg, "argmin": el.arg, "top_k": el.top_k,
    "cumsum": el.cumsum, "reshape": movement.reshape, "transpose": movement.transpose, "concat": movement.concat,
    "slice": movement.slice_, "reverse": movement.reverse, "gather": movement.gather, "take": movement.take,
    "gather_elements": movement.gather_elements, "gather_nd": movement.gather_nd,
    "scatter_elements": movement.scatter_elements, "scatter_nd": movement.scatter_nd, "iota": movement.iota,
    "size": movement.size, "conv": grids.conv, "pool": grids.pool, "pad": grids.pad, "rnn": rnn, "scan": scan,
}
