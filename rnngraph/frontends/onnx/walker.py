"""The walk over an ONNX graph: nodes in order, each by its handler, in the active trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rnngraph.errors import ImportModelError, SizesDiffer
from rnngraph.frontends.depends import known_value
from rnngraph.frontends.imported import expect_equal
from rnngraph.frontends.known import Known
from rnngraph.frontends.onnx.proto import Graph, Node
from rnngraph.frontends.onnx.registry import HANDLERS, SHAPE_HANDLERS, Entry, Item
from rnngraph.frontends.walk import Walk, errors_of, label, running
from rnngraph.nn.context import active
from rnngraph.nn.tensor import Tensor


class Missing(list[Any]):
    """Stands for the outputs of a node that is not supported, so that the walk can find the others."""


class MissingInput(ImportModelError):
    """A node needs what an unsupported node would have given."""


class Walker(Walk[Graph, Mapping[str, Item] | Sequence[Item], Item]):
    """One walk. Scopes map the names of values to items; a body's scope sees those around it."""

    def __init__(self) -> None:
        super().__init__()
        self.scopes: list[dict[str, Item]] = []

    def body(self, graph: Graph, inputs: Mapping[str, Item] | Sequence[Item]) -> list[Item]:
        """The outputs of a graph or body, whose nodes may use what the scopes around it hold."""
        if not isinstance(inputs, Mapping):
            inputs = dict(zip((i.name for i in graph.inputs), inputs, strict=True))
        self.scopes.append({**inputs})
        try:
            local = self.scopes[-1]
            for name, get in graph.initializers.items():
                if name not in local:
                    local[name] = _Lazy(get)
            for node in graph.needed():
                self.node(node)
            return [self.find(o.name, f"output {o.name!r}") for o in graph.outputs]
        finally:
            self.scopes.pop()

    def find(self, name: str, user: object) -> Item:
        """The item of a name, from the innermost scope that has it; ImportModelError when none does."""
        if not name:
            return None
        for scope in reversed(self.scopes):
            if name in scope:
                item = scope[name]
                if isinstance(item, _Lazy):
                    item = scope[name] = item.get()
                return item
        raise ImportModelError(f"{user}: {name!r} is made nowhere in the model")

    def node(self, node: Node) -> None:
        items = [self.find(name, node) for name in node.inputs]
        if any(isinstance(i, Missing) for i in items):
            results: tuple[Item, ...] = tuple(Missing() for _ in node.outputs)
        else:
            results = self.results(node, items)
        for name, item in zip(node.outputs, results, strict=False):
            if name:
                self.scopes[-1][name] = item
        if missing := [n for n in node.outputs[len(results):] if n]:
            raise ImportModelError(f"{node}: expected {len(results)} output(s), the file asks for {missing} besides")

    def results(self, node: Node, items: list[Item]) -> tuple[Item, ...]:
        key = (node.domain, node.op_type)
        entry = HANDLERS.get(key)
        try:
            with errors_of(node, lambda: ", ".join(map(_shown, items))), active().scope(label_of(node)):
                found = _on_shapes(node, items)
                if found is None:
                    if entry is None:
                        self.unsupported.append(str(node))
                        return tuple(Missing() for _ in node.outputs)
                    found = _result(node, entry, self.arguments(node, entry, items))
        except MissingInput:
            return tuple(Missing() for _ in node.outputs)
        return tuple(found) if isinstance(found, tuple) else (found,)

    def arguments(self, node: Node, entry: Entry, items: Sequence[Item]) -> list[Item]:
        if entry.raw:
            return list(items)
        return [self.known(node, i) if at in entry.known else tensor_of(i) for at, i in enumerate(items)]

    def known(self, node: Node, item: Item) -> Known | None:
        """The item's value; `NeedsValue` or `NeedsSize` when it depends on what only a call knows."""
        if item is None or isinstance(item, Known):
            return item
        if isinstance(item, list):
            tensor_of(item)
        assert isinstance(item, Tensor)
        return known_value(item, str(node))


class _Lazy(list[Any]):
    """An initializer that is read from the file when it is first used."""

    def __init__(self, get: Any) -> None:
        super().__init__()
        self.get = get


def walker() -> Walker:
    """The walk that runs now: for handlers of nodes with bodies."""
    found = running()
    assert isinstance(found, Walker), "handlers run within a walk"
    return found


def tensor_of(item: Item) -> Tensor | None:
    """The item as a tensor of the active trace."""
    if isinstance(item, Missing):
        raise MissingInput("it is made by a node that is not supported")
    if isinstance(item, list):
        raise ImportModelError("expected a tensor, got a sequence")
    return item.tensor() if isinstance(item, Known) else item


def required(node: Node, item: Item, what: str) -> Tensor:
    """The item as a tensor; ImportModelError where the node leaves it out."""
    found = tensor_of(item)
    if found is None:
        raise ImportModelError(f"{node}: has no {what}, which the op needs")
    return found


def _result(node: Node, entry: Entry, arguments: Sequence[Item]) -> Any:
    try:
        return entry.function(node, *arguments)
    except SizesDiffer as e:
        expect_equal(e.a, e.b, f"{node}: {e}")
        raise


def _on_shapes(node: Node, items: Sequence[Item]) -> Any:
    """What the node gives on known integers and sizes; None where it must be computed by ops."""
    function = SHAPE_HANDLERS.get((node.domain, node.op_type))
    if function is None or not items:
        return None
    if node.op_type in ("Shape", "Size"):
        return function(node, *items)
    if all(i is None or (isinstance(i, Known) and i.is_shape) for i in items):
        return _as_given(node, items, function(node, *items))
    return None


def _as_given(node: Node, items: Sequence[Item], found: Any) -> Any:
    """Integers made of sizes, of the dtype that those have: tf2onnx computes with i32."""
    source = items[1] if node.op_type == "Where" else items[0]
    if found is None or not isinstance(source, Known) or node.op_type == "ConstantOfShape":
        return found
    dtype = source.integers
    if dtype.kind == "int" and node.op_type != "Cast":
        for known in found if isinstance(found, tuple) else (found,):
            if known.symbolic:
                known.dtype = dtype
            elif known.array.dtype.kind in "iu":
                known.array = known.array.astype(dtype.numpy)
    return found


def label_of(node: Node) -> str:
    """The node's name as the layer path of its ops."""
    return label(node.label, node.op_type)


def _shown(item: Item) -> str:
    if isinstance(item, Known):
        return f"{item.array.dtype}{list(item.array.shape)}"
    return str(item.type) if isinstance(item, Tensor) else "a sequence" if isinstance(item, list) else "none"
