"""Symbols: the tensors of a model under composition. They record calls; each trace runs the record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rnngraph.errors import TraceError
from rnngraph.ir import DTYPES, Dim, DType, Graph, Shape, TensorType, Value, dims
from rnngraph.nn.context import Options, Trace, activate
from rnngraph.nn.tensor import Tensor, Traced, map_tensors, tensors_in
from rnngraph.nn.weights import NAME


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One recorded call: of a layer, or of a function of `rnngraph.nn.ops`."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def inputs(self) -> list[Symbol]:
        return [t for t in tensors_in([*self.args, *self.kwargs.values()]) if isinstance(t, Symbol)]


class Symbol(Tensor):
    """A tensor of a model under composition: result ``index`` of ``node``; an Input has no node."""

    deferred = True

    def __init__(self, type: TensorType, node: Node | None = None, index: int = 0) -> None:
        self._type = type
        self.node = node
        self.index = index

    @property
    def type(self) -> TensorType:
        return self._type

    def value(self) -> Value:
        raise TraceError(f"{self!r} is not part of the model that is traced; "
                         "a Model's outputs must follow from its inputs alone, and a cell must not use outer "
                         "Inputs")

    def defer(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Record a call; returns symbols in the structure (one tensor or a tuple) that the call returns."""
        node = Node(function, args, kwargs)
        with abstract_trace() as trace:
            stand_ins: dict[int, Traced] = {}

            def stand_in(t: Tensor) -> Tensor:
                if not isinstance(t, Symbol):
                    return t
                if id(t) not in stand_ins:
                    stand_ins[id(t)] = Traced(trace, trace.graph.block.add_arg(t.type))
                return stand_ins[id(t)]

            result = function(*map_tensors(stand_in, args), **map_tensors(stand_in, dict(kwargs)))
        if isinstance(result, tuple):
            return tuple(Symbol(t.type, node, i) for i, t in enumerate(result))
        return Symbol(result.type, node)


class Input(Symbol):
    """A model's input: batch-major shape with the batch, dims being integers or symbols.

    Example:
        >>> Input(("batch", "time", 80))
        <Input x: f32[batch,time,80]>
        >>> Input(("batch", "time"), dtype="i32", name="words")
        <Input words: i32[batch,time]>
    """

    def __init__(self, shape: Shape, dtype: str | DType = "f32", name: str = "x") -> None:
        if isinstance(dtype, str) and dtype not in DTYPES:
            raise TraceError(f"Input {name!r}: expected a dtype of {', '.join(DTYPES)}, got {dtype!r}")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise TraceError(f"an Input's name is made of letters, digits, '_', '-' and '.', got {name!r}")
        if not isinstance(shape, tuple | list):
            raise TraceError(f"Input {name!r}: expected a shape such as ('batch', 'time', 80), got {shape!r}")
        super().__init__(TensorType(DTYPES[dtype] if isinstance(dtype, str) else dtype, tuple(_dim(d) for d in shape)))
        self.name = name

    def __repr__(self) -> str:
        return f"<Input {self.name}: {self.type}>"


def _dim(dim: Dim) -> Dim:
    return dims.parse(dim) if isinstance(dim, str) else dim


def abstract_trace() -> Any:
    """A context with a trace for types only: weights get no values."""
    return activate(Trace(Graph("abstract"), Options(abstract=True)))


def symbolic_shape(shape: tuple[Dim | None, ...]) -> Shape:
    """A shape with the symbols batch, time, d2, d3, ... in place of Keras's None."""
    names = ("batch", "time", *(f"d{i}" for i in range(2, len(shape))))
    return tuple(n if d is None else d for d, n in zip(shape, names, strict=False))


def nodes_before(outputs: list[Symbol]) -> list[Node]:
    """The nodes that ``outputs`` follow from, each once, operands first."""
    done: dict[int, Node] = {}
    stack: list[tuple[Node, bool]] = [(s.node, False) for s in reversed(outputs) if s.node is not None]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done[id(node)] = node
            continue
        stack.append((node, True))
        stack.extend((s.node, False) for s in reversed(node.inputs) if s.node is not None)
    return list(done.values())
