"""Seeded mutations of files: of bytes, and of the fields of ONNX models."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import onnx

_NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, -1, -2,
            -(2**31), -(2**63))


def mutated(data: bytes, rng: random.Random, pool: list[bytes]) -> bytes:
    """``data`` after one to four changes."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        rng.choice(_BYTES)(out, rng, pool)
    return bytes(out)


def _flip(out: bytearray, rng: random.Random, pool: list[bytes]) -> None:
    if out:
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _set(out: bytearray, rng: random.Random, pool: list[bytes]) -> None:
    if out:
        out[rng.randrange(len(out))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(out: bytearray, rng: random.Random, pool: list[bytes]) -> None:
    size = rng.choice((2, 4, 8))
    if len(out) >= size:
        at = rng.randrange(len(out) - size + 1)
        value = rng.choice(_NUMBERS) % (1 << (8 * size))
        out[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))


def _cut(out: bytearray, rng: random.Random, pool: list[bytes]) -> None:
    if out:
        del out[rng.randrange(len(out)) :]


def _remove(out: bytearray, rng: random.Random, pool: list[bytes]) -> None:
    if out:
        at = rng.randrange(len(out))
        del out[at : at + rng.choice((1, 2, 4, 8, 64))]


def _repeat(out: bytearray, rng: random.Random, pool: list[bytes]) -> None:
    if out:
        at = rng.randrange(len(out))
        part = bytes(out[at : at + rng.choice((1, 4, 16, 64, 256))])
        to = rng.randrange(len(out) + 1)
        out[to:to] = part * rng.choice((1, 1, 2, 8))


def _splice(out: bytearray, rng: random.Random, pool: list[bytes]) -> None:
    other = rng.choice(pool)
    if out and other:
        at, start = rng.randrange(len(out)), rng.randrange(len(other))
        n = rng.choice((4, 16, 64, 256))
        out[at : at + n] = other[start : start + n]


_BYTES: tuple[Callable[[bytearray, random.Random, list[bytes]], None], ...] = (
    _flip, _flip, _set, _number, _number, _cut, _remove, _repeat, _splice)


# --- fields of ONNX models --------------------------------------------------------------------------------------


def mutated_onnx(data: bytes, rng: random.Random, pool: list[bytes]) -> bytes:
    """An ONNX file after one to three changes of fields; it stays a readable protobuf."""
    model = onnx.ModelProto.FromString(data)
    graphs = _graphs(model.graph)
    for _ in range(rng.randint(1, 3)):
        rng.choice(_FIELDS)(rng.choice(graphs), model, rng)
    changed: bytes = model.SerializeToString()
    return changed


def _graphs(graph: Any) -> list[Any]:
    found = [graph]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _graphs(attribute.g)
    return found


def _names(graph: Any) -> list[str]:
    return [o for n in graph.node for o in n.output] + [i.name for i in graph.input] + [
        t.name for t in graph.initializer] + ["", "nowhere"]


def _rewire(graph: Any, model: Any, rng: random.Random) -> None:
    if graph.node:
        node = rng.choice(graph.node)
        names = rng.choice((node.input, node.input, node.output))
        if names:
            names[rng.randrange(len(names))] = rng.choice(_names(graph))


def _operands(graph: Any, model: Any, rng: random.Random) -> None:
    if graph.node:
        node = rng.choice(graph.node)
        if rng.random() < 0.5 and node.input:
            del node.input[rng.randrange(len(node.input)) :]
        else:
            node.input.append(rng.choice(_names(graph)))


def _kind(graph: Any, model: Any, rng: random.Random) -> None:
    if graph.node:
        node = rng.choice(graph.node)
        node.op_type = rng.choice([*{n.op_type for g in _graphs(model.graph) for n in g.node}, *_OPS])


_OPS = ("Reshape", "Loop", "Scan", "If", "LSTM", "Expand", "Tile", "Pad", "Conv", "TopK", "Range", "ConstantOfShape",
        "Resize", "Gather", "Slice", "OneHot", "Einsum", "Concat", "Split", "Squeeze", "ScatterND", "EyeLike")


def _attribute(graph: Any, model: Any, rng: random.Random) -> None:
    with_attributes = [n for n in graph.node if n.attribute]
    if not with_attributes:
        return
    a = rng.choice(rng.choice(with_attributes).attribute)
    if a.type == onnx.AttributeProto.INT:
        a.i = rng.choice(_NUMBERS)
    elif a.type == onnx.AttributeProto.INTS:
        if a.ints and rng.random() < 0.7:
            a.ints[rng.randrange(len(a.ints))] = rng.choice(_NUMBERS)
        else:
            a.ints.append(rng.choice(_NUMBERS))
    elif a.type == onnx.AttributeProto.FLOAT:
        a.f = rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    elif a.type == onnx.AttributeProto.STRING:
        a.s = rng.choice((b"", b"\xff", b"sideways", b"bidirectional", b"reverse", a.s * 3))
    elif a.type == onnx.AttributeProto.STRINGS:
        a.strings.append(rng.choice((b"Tanh", b"Nothing", b"\xfe")))
    if rng.random() < 0.1:
        a.type = rng.randrange(12)


def _tensor(graph: Any, model: Any, rng: random.Random) -> None:
    tensors = [*graph.initializer, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))]
    if not tensors:
        return
    t = rng.choice(tensors)
    what = rng.randrange(5)
    if what == 0 and t.dims:
        t.dims[rng.randrange(len(t.dims))] = rng.choice(_NUMBERS)
    elif what == 1:
        t.data_type = rng.randrange(25)
    elif what == 2 and t.raw_data:
        raw = bytearray(t.raw_data)
        _number(raw, rng, [])
        t.raw_data = bytes(raw)
    elif what == 3:
        t.dims.append(rng.choice(_NUMBERS))
    else:
        t.data_location = onnx.TensorProto.EXTERNAL
        entry = t.external_data.add()
        entry.key, entry.value = "location", rng.choice(("../x", "/etc/passwd", "x", "", "\0", "a" * 5000))


def _shape(graph: Any, model: Any, rng: random.Random) -> None:
    values = [*graph.input, *graph.output]
    if values:
        t = rng.choice(values).type.tensor_type
        if t.shape.dim and rng.random() < 0.7:
            d = rng.choice(t.shape.dim)
            d.dim_value = rng.choice(_NUMBERS)
        elif rng.random() < 0.5:
            t.elem_type = rng.randrange(25)
        else:
            t.shape.dim.add().dim_param = rng.choice(("n", "", "1", "a b", "x" * 1000))


def _nodes(graph: Any, model: Any, rng: random.Random) -> None:
    if graph.node:
        at = rng.randrange(len(graph.node))
        if rng.random() < 0.5:
            del graph.node[at]
        else:
            graph.node.add().CopyFrom(graph.node[at])


def _opset(graph: Any, model: Any, rng: random.Random) -> None:
    if model.opset_import:
        model.opset_import[0].version = rng.choice((*range(0, 30), *_NUMBERS))


_FIELDS: tuple[Callable[[Any, Any, random.Random], None], ...] = (
    _rewire, _rewire, _operands, _kind, _attribute, _attribute, _tensor, _tensor, _shape, _nodes, _opset)


# --- json -------------------------------------------------------------------------------------------------------


def mutated_json(data: bytes, rng: random.Random, pool: list[bytes]) -> bytes:
    """JSON after one to three changes of values; it stays JSON."""
    tree = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(tree))
        if places:
            holder, key = rng.choice(places)
            holder[key] = rng.choice(
                (None, True, "", "x", "()", "(1,", [], {}, [[0, 0, 0]], 1e300, *_NUMBERS, holder[key], [holder[key]]))
    return json.dumps(tree).encode()


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    stack = [tree]
    while stack:
        at = stack.pop()
        keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        for key in keys:
            found.append((at, key))
            stack.append(at[key])
    return found
