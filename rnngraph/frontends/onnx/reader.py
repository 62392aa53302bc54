"""From bytes to `proto.Graph`: every number in the file is checked before it is believed. Nothing is ever executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from rnngraph.errors import ImportModelError, MissingExtraError
from rnngraph.frontends.known import Known
from rnngraph.frontends.onnx.proto import Graph, Node, ValueInfo
from rnngraph.ir import BF16

OLDEST = 7  # before, broadcasting had an attribute `axis`
MAX_DEPTH = 32  # of bodies in bodies
NAMELESS = ("", "?", "-1", "None", "none")  # what exporters write for open dims that need not be equal
MAX_BYTES = 2**31  # what protobuf can hold

# the IR dtypes of onnx.TensorProto.DataType
CODES = {1: "f32", 2: "u8", 3: "i8", 4: "u16", 5: "i16", 6: "i32", 7: "i64", 9: "bool", 10: "f16", 11: "f64",
         12: "u32", 13: "u64", 16: "bf16"}
_NUMPY = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 12: "<u4",
          13: "<u8", 16: "<u2"}


def onnx_module() -> Any:
    """The onnx package; MissingExtraError when it is not installed."""
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("reading ONNX models needs the package onnx: pip install 'rnngraph[onnx]'") from None
    return onnx


def read(source: object) -> Graph:
    """The main graph of a file, or of an onnx.ModelProto; ImportModelError when it is not a sound ONNX model."""
    onnx = onnx_module()
    if isinstance(source, str | Path):
        path = Path(source)
        model, folder = _parse(onnx, path), path.resolve().parent
    else:
        model, folder = source, None
    if not isinstance(model, onnx.ModelProto):
        raise ImportModelError(f"expected the path of an .onnx file or an onnx.ModelProto, got {type(source).__name__}")
    if not model.graph.node and not model.graph.output:
        raise ImportModelError(f"{source if folder else 'the ModelProto'}: not an ONNX model, its graph is empty")
    versions = _versions(onnx, model)
    if model.functions:
        model = _inlined(model)
    return _Reader(onnx, versions, folder).graph(model.graph, 0)


def _parse(onnx: Any, path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImportModelError(f"{path}: {size} bytes; an ONNX file has less than 2 GiB (larger weights stand in "
                                   "files beside it)")
        data = path.read_bytes()
    except OSError as e:
        raise ImportModelError(f"{path}: {e.strerror or e}") from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as e:  # the error's class depends on the protobuf in use
        raise ImportModelError(f"{path}: not an ONNX file, or a broken one: {e}") from None
    return model


def _versions(onnx: Any, model: Any) -> dict[str, int]:
    """The opset version of each domain."""
    found: dict[str, int] = {}
    for entry in model.opset_import:
        domain = _domain(entry.domain)
        found[domain] = max(int(entry.version), found.get(domain, 0))
    version, newest = found.setdefault("", 1), onnx.defs.onnx_opset_version()
    if not OLDEST <= version <= newest:
        raise ImportModelError(f"the model has opset {version}; expected {OLDEST}..{newest} (convert it with "
                               "onnx.version_converter, or install a newer onnx)")
    return found


def _inlined(model: Any) -> Any:
    from onnx import inliner  # with the extra

    try:
        return inliner.inline_local_functions(model)
    except Exception as e:  # whatever the C++ side throws for functions that are not sound
        raise ImportModelError(f"the model's local functions cannot be inlined: {e}") from None


class _Reader:
    def __init__(self, onnx: Any, versions: Mapping[str, int], folder: Path | None) -> None:
        self.onnx = onnx
        self.versions = versions
        self.folder = folder
        self.labels: set[str] = set()

    def graph(self, g: Any, depth: int) -> Graph:
        if depth > MAX_DEPTH:
            raise ImportModelError(f"graph {g.name!r}: bodies are nested more than {MAX_DEPTH} deep")
        initializers = {name_of(t.name): self.lazy(t) for t in g.initializer}
        initializers |= {name_of(s.values.name): self.lazy_sparse(s) for s in g.sparse_initializer}
        inputs = [self.info(i) for i in g.input if i.name not in initializers or depth]
        nodes = [self.node(n, depth) for n in g.node]
        graph = Graph(name_of(g.name), inputs, [self.info(o) for o in g.output], nodes, initializers)
        _check_names(graph)
        return graph

    def node(self, n: Any, depth: int) -> Node:
        domain, outputs = _domain(n.domain), tuple(map(name_of, n.output))
        label = base = name_of(n.name) or next((o for o in outputs if o), name_of(n.op_type))
        number = 1
        while label in self.labels:
            number += 1
            label = f"{base}_{number}"
        self.labels.add(label)
        attributes = {name_of(a.name): self.attribute(a, label, depth) for a in n.attribute}
        return Node(name_of(n.op_type), domain, label, tuple(map(name_of, n.input)), outputs, attributes,
                    self.versions.get(domain, 1))

    def attribute(self, a: Any, label: str, depth: int) -> Any:
        kinds = self.onnx.AttributeProto
        if a.ref_attr_name:
            raise ImportModelError(f"node {label!r}: attribute {a.name} refers to a function's attribute "
                                   f"{a.ref_attr_name!r} outside of a function")
        scalar = {kinds.FLOAT: "f", kinds.INT: "i"}
        several = {kinds.FLOATS: "floats", kinds.INTS: "ints"}
        if a.type in scalar:
            return getattr(a, scalar[a.type])
        if a.type in several:
            return list(getattr(a, several[a.type]))
        if a.type == kinds.STRING:
            return _text(a.s, label)
        if a.type == kinds.STRINGS:
            return [_text(s, label) for s in a.strings]
        if a.type == kinds.TENSOR:
            return self.lazy(a.t)()
        if a.type == kinds.SPARSE_TENSOR:
            return self.lazy_sparse(a.sparse_tensor)()
        if a.type == kinds.GRAPH:
            return self.graph(a.g, depth + 1)
        return None  # types of optional and sequence values, lists of graphs: no handler reads them

    def info(self, v: Any) -> ValueInfo:
        name, kind, t = name_of(v.name), "tensor", v.type
        which = t.WhichOneof("value")
        for _ in range(MAX_DEPTH):
            if which not in ("sequence_type", "optional_type"):
                break
            kind, t = which.removesuffix("_type"), getattr(t, which).elem_type
            which = t.WhichOneof("value")
        if which != "tensor_type":
            return ValueInfo(name, "", None, kind if which is None else which.removesuffix("_type"))
        tensor = t.tensor_type
        dtype = CODES.get(tensor.elem_type, self.dtype_name(tensor.elem_type))
        if not tensor.HasField("shape"):
            return ValueInfo(name, dtype, None, kind)
        return ValueInfo(name, dtype, tuple(self.dim(name, d) for d in tensor.shape.dim), kind)

    def dim(self, name: str, d: Any) -> int | str | None:
        which = d.WhichOneof("value")
        if which == "dim_value":
            if d.dim_value < -1:
                raise ImportModelError(f"{name!r}: a dim must be >= 0, or -1 for an open one, got {d.dim_value}")
            return int(d.dim_value) if d.dim_value >= 0 else None  # Paddle's exporter writes open dims as -1
        return name_of(d.dim_param) if which == "dim_param" and d.dim_param not in NAMELESS else None

    def dtype_name(self, code: int) -> str:
        try:
            return str(self.onnx.TensorProto.DataType.Name(code)).lower()
        except ValueError:
            raise ImportModelError(f"unknown element type {code}") from None

    # --- tensors ------------------------------------------------------------------------------------------------

    def lazy(self, t: Any) -> Callable[[], Known]:
        found: list[Known] = []

        def get() -> Known:
            if not found:
                found.append(self.tensor(t))
            return found[0]

        return get

    def lazy_sparse(self, s: Any) -> Callable[[], Known]:
        return lambda: self.sparse(s)

    def tensor(self, t: Any) -> Known:
        """The array of a TensorProto; ImportModelError when its data are not as long as its dims say."""
        where = f"tensor {t.name!r}"
        if t.data_type not in CODES:
            raise ImportModelError(f"{where}: elements of type {self.dtype_name(t.data_type)} are not supported")
        shape = tuple(int(d) for d in t.dims)
        if any(d < 0 for d in shape):
            raise ImportModelError(f"{where}: dims must be >= 0, got {list(shape)}")
        dtype, count = np.dtype(_NUMPY[t.data_type]), prod(shape)
        if t.data_location == self.onnx.TensorProto.EXTERNAL:
            array = self.external(t, dtype, count)
        elif t.HasField("raw_data"):
            if len(t.raw_data) != count * dtype.itemsize:
                raise ImportModelError(f"{where}: {list(shape)} needs {count * dtype.itemsize} bytes, got "
                                       f"{len(t.raw_data)}")
            array = np.frombuffer(t.raw_data, dtype)
        else:
            array = _typed(t, dtype, count, where)
        array = array.reshape(shape).astype(dtype.newbyteorder("="), copy=False)
        if t.data_type == 16:
            return Known((array.astype(np.uint32) << 16).view(np.float32), BF16)
        return Known(array)

    def external(self, t: Any, dtype: np.dtype[Any], count: int) -> np.ndarray[Any, np.dtype[Any]]:
        where, entries = f"tensor {t.name!r}", {name_of(e.key): name_of(e.value) for e in t.external_data}
        if self.folder is None:
            raise ImportModelError(f"{where}: its data stand in a file; give the path of the .onnx file beside it, or "
                                   "load the model with its data (onnx.load)")
        location = entries.get("location", "")
        path = _inside(self.folder, location)
        if path is None:
            raise ImportModelError(f"{where}: its data must stand in a file in the model's folder, got "
                                   f"{location[:100]!r}")
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", count * dtype.itemsize))
        except ValueError:
            raise ImportModelError(f"{where}: bad offset or length of external data: {entries}") from None
        if offset < 0 or length != count * dtype.itemsize or offset + length > path.stat().st_size:
            raise ImportModelError(f"{where}: needs {count * dtype.itemsize} bytes, but {location!r} gives {length} at "
                                   f"{offset} of {path.stat().st_size}")
        return np.fromfile(path, dtype, count, offset=offset)

    def sparse(self, s: Any) -> Known:
        where = f"sparse tensor {s.values.name!r}"
        values, indices = self.tensor(s.values).array, self.tensor(s.indices).array
        shape = tuple(int(d) for d in s.dims)
        if any(d < 0 for d in shape) or prod(shape) > 2**28:
            raise ImportModelError(f"{where}: dims {list(shape)} are not sizes, or too large to fill")
        try:
            flat = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
            out = np.zeros(prod(shape), values.dtype)
            if flat.size and int(flat.min()) < 0:
                raise IndexError("negative index")
            out[flat] = values
        except (ValueError, IndexError, TypeError) as e:
            raise ImportModelError(f"{where}: {e}") from None
        return Known(out.reshape(shape))


def _inside(folder: Path, location: str) -> Path | None:
    """The file of that name, if it lies in the folder, links followed."""
    try:
        path = (folder / location).resolve()
        return path if location and path.is_relative_to(folder) and path.is_file() else None
    except (OSError, ValueError):  # names that no file can have
        return None


def _typed(t: Any, dtype: np.dtype[Any], count: int, where: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Data in one of the typed fields."""
    fields = {1: "float_data", 11: "double_data", 7: "int64_data", 12: "uint64_data", 13: "uint64_data"}
    data = getattr(t, fields.get(t.data_type, "int32_data"))
    if len(data) != count:
        raise ImportModelError(f"{where}: {list(t.dims)} needs {count} elements, got {len(data)}")
    array = np.array(data, np.dtype("f4") if t.data_type == 1 else np.dtype("f8") if t.data_type == 11 else
                     np.dtype("u8") if t.data_type in (12, 13) else np.dtype("i8"))
    if t.data_type == 10:  # the bits of half floats, in integers
        return array.astype(np.uint16).view(np.float16)
    return array.astype(dtype)


def name_of(text: str | bytes) -> str:
    """A name; protobuf gives the bytes where they are not UTF-8."""
    if isinstance(text, bytes):
        raise ImportModelError(f"a name in the file is not UTF-8 text: {text[:40]!r}")
    return text


def _domain(text: str | bytes) -> str:
    name = name_of(text)
    return "" if name == "ai.onnx" else name


def _text(data: bytes, label: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ImportModelError(f"node {label!r}: an attribute is not UTF-8 text") from None


def _check_names(graph: Graph) -> None:
    """Each name is made once, and before it is used where the graph itself makes it: so there are no cycles."""
    inputs = [i.name for i in graph.inputs]
    if twice := [n for n in inputs if inputs.count(n) > 1]:
        raise ImportModelError(f"graph {graph.name!r}: two inputs are named {twice[0]!r}")
    made = {*inputs, *graph.initializers}
    later = {o for n in graph.nodes for o in n.outputs if o}
    for node in graph.nodes:
        if wrong := [i for i in node.inputs if i in later and i not in made]:
            raise ImportModelError(f"{node}: input {wrong[0]!r} is made only by a later node; nodes stand in order")
        for out in node.outputs:
            if out and out in made:
                raise ImportModelError(f"{node}: {out!r} is made twice")
            made.add(out)
