"""From a torch.export.ExportedProgram to `program.Program`: what is needed of the graph, in plain Python."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils import _pytree as pytree

from rnngraph.errors import ImportModelError
from rnngraph.frontends.imported import identifiers
from rnngraph.frontends.torch.inplace import functional
from rnngraph.frontends.torch.program import InputInfo, Node, Program, Ref, WeightInfo
from rnngraph.frontends.torch.sizes import Sizes
from rnngraph.ir import DTYPES, Array, DType

_DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16", torch.int8: "i8",
           torch.int32: "i32", torch.int64: "i64", torch.bool: "bool"}
# what says where and how a tensor lies in memory, and so nothing about its value
_PLACEMENT = {"layout", "device", "pin_memory", "memory_format", "non_blocking", "copy", "generator", "requires_grad"}
_NONE = object()  # the default of what has none
_INLINED = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}  # regions whose body stands at this argument
_OPERATORS = {"torch.sym_max": "operator.max", "torch.sym_min": "operator.min", "torch.sym_float": "operator.float",
              "torch.sym_int": "operator.int", "torch.sym_not": "operator.not_"}


def read(exported: ExportedProgram, names: dict[str, str] | None = None, name: str = "") -> Program:
    """The program; ``names`` are the symbols' names that the caller gave, by PyTorch's.

    Raises ImportModelError for inputs without an IR dtype, and for a module that changes its own buffers.
    """
    exported = functional(exported)
    signature, sizes = exported.graph_signature, Sizes(exported, names or {})
    graph_inputs = {n.name: n for n in exported.graph.nodes if n.op == "placeholder"}
    inputs: list[InputInfo] = []
    weights: dict[str, WeightInfo] = {}
    for spec in signature.input_specs:
        node = graph_inputs[spec.arg.name]
        if spec.kind is InputKind.USER_INPUT:
            if isinstance(spec.arg, TensorArgument):
                value = node.meta["val"]
                inputs.append(InputInfo(node.name, _known_dtype(value.dtype, node.name), sizes.shape(value)))
            elif not isinstance(node.meta.get("val"), bool | int | float | str | None):
                raise ImportModelError(f"input {node.name!r}: expected a tensor, got {type(node.meta['val']).__name__}")
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            weights[node.name] = _weight(exported, spec.kind, str(spec.target))
        else:
            raise ImportModelError(f"input {node.name!r}: {spec.kind.name.lower()} is not supported")
    if changed := [str(s.target) for s in signature.output_specs
                   if s.kind in (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION)]:
        raise ImportModelError(f"forward changes {', '.join(changed)} in place, and a compiled model keeps no such "
                               "state: take the state as an input of forward and return it")
    nodes: list[Node] = []
    _nodes(exported.graph_module, {}, nodes, weights, "")
    outputs, packed = _outputs(exported)
    return Program(name, nodes, inputs, weights, outputs, packed)


def _weight(exported: ExportedProgram, kind: InputKind, target: str) -> WeightInfo:
    stored = exported.state_dict if target in exported.state_dict else exported.constants
    tensor = stored[target]
    if not isinstance(tensor, torch.Tensor):
        raise ImportModelError(f"{target}: expected a tensor, got {type(tensor).__name__}")
    return weight_of(target, tensor)


def weight_of(name: str, tensor: torch.Tensor) -> WeightInfo:
    """A tensor as a weight; it is copied when the array is asked for."""
    return WeightInfo(name, _known_dtype(tensor.dtype, name), tuple(tensor.shape), lambda: array_of(tensor))


def array_of(tensor: torch.Tensor) -> Array:
    """The values of a tensor on any device, dense; bf16 as float32."""
    dense = tensor.detach().to_dense() if tensor.layout is not torch.strided else tensor.detach()
    dense = dense.float() if dense.dtype is torch.bfloat16 else dense
    return np.array(dense.cpu().resolve_conj().resolve_neg().numpy(), order="C")


def _known_dtype(dtype: torch.dtype, what: str) -> DType:
    if dtype not in _DTYPES:
        raise ImportModelError(f"{what}: dtype {dtype} is not supported; expected one of "
                               f"{', '.join(str(d).removeprefix('torch.') for d in _DTYPES)}")
    return DTYPES[_DTYPES[dtype]]


def arrays_in(value: Any) -> list[Array]:
    """The arrays of the tensors in nested example inputs; a packed sequence padded, [batch, time, ...]."""
    leaves = pytree.tree_leaves(value, is_leaf=lambda x: isinstance(x, PackedSequence))
    padded = (pad_packed_sequence(x, batch_first=True)[0] if isinstance(x, PackedSequence) else x for x in leaves)
    return [x if isinstance(x, np.ndarray) else array_of(x) for x in padded if isinstance(x, np.ndarray | torch.Tensor)]


def arrays_by_name(values: Mapping[str, Any]) -> dict[str, Array]:
    """The same of example inputs by name, under the names that torch.export gives nested ones: ``state_0``."""
    leaves = pytree.tree_leaves_with_path(dict(values), is_leaf=lambda x: isinstance(x, PackedSequence))
    named = (("_".join(_part(key) for key in path), arrays_in([leaf])) for path, leaf in leaves)
    return {name: arrays[0] for name, arrays in named if arrays}


def _part(key: Any) -> str:
    """A key as torch.export writes it into the name of an input."""
    text = str(key.key if isinstance(key, pytree.MappingKey) else key.name if isinstance(key, pytree.GetAttrKey) else
               key.idx)
    return re.sub(r"[^a-zA-Z0-9]", "_", text).lower()


# --- nodes --------------------------------------------------------------------------------------------------------


def _nodes(module: torch.fx.GraphModule, outer: dict[str, Any], found: list[Node], weights: dict[str, WeightInfo],
           prefix: str) -> Any:
    """Append the nodes of a graph, bodies of regions that change no value inlined; returns the graph's outputs."""
    env = dict(outer)
    for node in module.graph.nodes:
        name = f"{prefix}{node.name}"
        if node.op == "placeholder":
            env.setdefault(node.name, Ref(name))
        elif node.op == "get_attr":
            value = _attribute(module, str(node.target))
            env[node.name] = value
            if isinstance(value, torch.Tensor):
                weights[name], env[node.name] = weight_of(str(node.target), value), Ref(name)
        elif node.op == "call_function":
            target = getattr(node.target, "__name__", str(node.target))
            if target in _INLINED:
                at = _INLINED[target]
                body, given = env[node.args[at].name], [_argument(a, env) for a in node.args[at + 1:]]
                inputs = [n.name for n in body.graph.nodes if n.op == "placeholder"]
                env[node.name] = _nodes(body, dict(zip(inputs, given, strict=True)), found, weights, f"{name}_")
            else:
                made = _node(node, name, env)
                env[node.name] = made if not isinstance(made, Node) else Ref(name)
                if isinstance(made, Node):
                    found.append(made)
        elif node.op == "output":
            return _argument(node.args[0], env)
    return None


def _node(node: torch.fx.Node, name: str, env: dict[str, Any]) -> Any:
    """The call as a Node; the item itself where it only takes one from a list."""
    target: Any = node.target
    value: Any = node.meta.get("val")
    first: Any = value[0] if isinstance(value, list | tuple) and value else value
    tensor = isinstance(first, torch.Tensor)
    dtype = DTYPES.get(_DTYPES.get(first.dtype, "")) if tensor else None
    dtype_name = str(first.dtype).removeprefix("torch.") if tensor else ""
    if isinstance(target, torch._ops.OpOverload):
        arguments = _by_schema(target, node, env)
        namespace, _, rest = target._schema.name.partition("::")
        op, overload = f"{namespace}.{rest}", str(target._overloadname)
    else:
        module, short = getattr(target, "__module__", ""), getattr(target, "__name__", str(target))
        if target is operator.getitem:
            source = _argument(node.args[0], env)
            if isinstance(source, list | tuple):
                return source[_argument(node.args[1], env)]
        op, overload = f"{'operator' if module == '_operator' else module}.{short}", ""
        op = _OPERATORS.get(op, op)
        arguments = {str(i): _argument(a, env) for i, a in enumerate(node.args)}
    return Node(name, op, overload, arguments, _path(node), dtype, dtype_name)


def _by_schema(target: Any, node: torch.fx.Node, env: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, without the schema's defaults and those that only place a tensor in memory."""
    arguments: dict[str, Any] = {}
    for at, formal in enumerate(target._schema.arguments):
        if formal.name in _PLACEMENT:
            continue
        if at < len(node.args):
            given: Any = node.args[at]
        elif formal.name in node.kwargs:
            given = node.kwargs[formal.name]
        else:
            continue
        default = formal.default_value if formal.has_default_value() else _NONE
        if type(given) is not type(default) or given != default:
            arguments[formal.name] = _argument(given, env)
    return arguments


def _argument(value: Any, env: dict[str, Any]) -> Any:
    if isinstance(value, torch.fx.Node):
        return env[value.name]
    if isinstance(value, list | tuple):
        return [_argument(v, env) for v in value]
    if isinstance(value, torch.dtype):
        return DTYPES[_DTYPES[value]] if value in _DTYPES else str(value)
    if isinstance(value, torch.device | torch.layout | torch.memory_format):
        return str(value)
    return value


def _attribute(module: torch.nn.Module, path: str) -> Any:
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _path(node: torch.fx.Node) -> str:
    """The module that made the node: the innermost on its stack."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values() if not str(entry[0]).startswith("_empty_nn_module")]
    path = paths[-1] if paths else ""
    for start in ("L['self'].", "L__self___"):
        path = path.removeprefix(start)
    return path.replace("@", "_").replace("/", ".")


# --- outputs ------------------------------------------------------------------------------------------------------


def _outputs(exported: ExportedProgram) -> tuple[list[tuple[str, Any]], frozenset[str]]:
    """The outputs with names: the keys of dicts and named tuples, else y, or y0, y1, ...; None is no output.

    Of a PackedSequence the data is the output; the names of these, too.
    """
    output = next(n for n in exported.graph.nodes if n.op == "output")
    values = [_argument(v, _Names()) for v in output.args[0]]
    marks = [torch.empty(0) for _ in values]
    structure = pytree.tree_unflatten(marks, exported.call_spec.out_spec)
    leaves = pytree.tree_leaves_with_path(structure, is_leaf=lambda x: isinstance(x, PackedSequence))
    numbers = {id(mark): i for i, mark in enumerate(marks)}
    found = [(path, values[numbers[id(leaf.data if isinstance(leaf, PackedSequence) else leaf)]],
              isinstance(leaf, PackedSequence)) for path, leaf in leaves]
    kept = [(_keys(path), value, packed) for path, value, packed in found if value is not None]
    plain = sum(not keys for keys, *_ in kept)
    numbered = iter(["y"] if plain == 1 else [f"y{i}" for i in range(plain)])
    names = [".".join(keys) if keys else next(numbered) for keys, *_ in kept]
    unique = identifiers(f"{n}\0{i}" if n in names[:i] else n for i, n in enumerate(names)).values()
    return ([(name, value) for name, (_, value, _) in zip(unique, kept, strict=True)],
            frozenset(name for name, (*_, packed) in zip(unique, kept, strict=True) if packed))


class _Names(dict[str, Any]):
    """Every node by its own name."""

    def __missing__(self, name: str) -> Ref:
        return Ref(name)


def _keys(path: Sequence[Any]) -> list[str]:
    """The parts of a place in the outputs' structure, if any of them has a name."""
    if not any(isinstance(k, pytree.MappingKey | pytree.GetAttrKey) for k in path):
        return []
    return [str(k.key if isinstance(k, pytree.MappingKey) else k.name if isinstance(k, pytree.GetAttrKey) else k.idx)
            for k in path]
