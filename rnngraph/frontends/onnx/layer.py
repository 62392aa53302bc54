"""OnnxModel: an ONNX graph as a layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from rnngraph.errors import ImportModelError, ShapeError
from rnngraph.frontends.imported import ImportedModel, Names, identifiers
from rnngraph.frontends.known import Known
from rnngraph.frontends.load import expected, given_list, is_shape, shaped
from rnngraph.frontends.onnx.boundary import Parts, elements, flat_outputs, untold
from rnngraph.frontends.onnx.ops import register
from rnngraph.frontends.onnx.proto import Graph, ValueInfo
from rnngraph.frontends.onnx.reader import read
from rnngraph.frontends.onnx.registry import Item
from rnngraph.frontends.onnx.walker import Walker, label_of
from rnngraph.ir import DTYPES, Array, Dim
from rnngraph.ir.dims import substitute
from rnngraph.nn import Input
from rnngraph.nn.tensor import Tensor


class OnnxModel(ImportedModel):
    """An ONNX graph: each call walks it and emits its ops, which carry the names of its nodes."""

    def __init__(self, graph: Graph, infos: Sequence[ValueInfo], inputs: Sequence[Input], outputs: Sequence[str],
                 names: Names, values: Mapping[str, Array], parts: Mapping[str, Parts]) -> None:
        super().__init__(inputs, outputs, names=names)
        self.graph = graph
        self.infos = list(infos)
        self.values = dict(values)
        self.parts = dict(parts)
        self._outputs = tuple(outputs)

    def call(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        given: dict[str, Item] = dict(zip((x.name for x in self.inputs), inputs, strict=True))
        given |= {name: Known(array) for name, array in self.values.items()}
        own = {foreign: graph_name for graph_name, foreign in self.names.inputs.items()}
        items = Walker().run(self.graph, {i.name: self.parts[i.name].item(given) if i.name in self.parts else
                                          given[own.get(i.name, i.name)] for i in self.infos})
        outputs = flat_outputs(self._outputs, items)
        self.output_names = tuple(outputs)  # how many elements a sequence has is known only now
        return next(iter(outputs.values())) if len(outputs) == 1 else tuple(outputs.values())

    def origins(self) -> dict[str, str]:
        return dict(_origins(self.graph, ""))

    def specialized(self, values: Mapping[str, Array], sizes: Mapping[str, Dim]) -> Self:
        known = dict(sizes)
        inputs = [Input(tuple(substitute(d, known) for d in x.shape), x.dtype, x.name)
                  for x in self.inputs if x.name not in values]
        return type(self)(self.graph, self.infos, inputs, self._outputs, self.names,
                          {**self.values, **{n: np.asarray(a) for n, a in values.items()}}, self.parts)


def _origins(graph: Graph, prefix: str) -> Iterator[tuple[str, str]]:
    """The ops of the nodes, and of those in their bodies, by the layers that they make."""
    for node in graph.nodes:
        layer = prefix + label_of(node)
        yield layer, node.op_type
        for body in node.attributes.values():
            if isinstance(body, Graph):
                yield from _origins(body, f"{layer}/")


def from_onnx(source: object, inputs: Any = None, example_inputs: Sequence[Any] | None = None) -> OnnxModel:
    """The layer of an .onnx file (path) or an onnx.ModelProto.

    inputs  `rnngraph.Input`s by name or by place, for those whose shape the file does not tell, or to say more; for a
            sequence ``x`` a list of them, which become the inputs ``x.0``, ``x.1``, ...; for an optional what it holds,
            or None
    Sizes that must be equal have one name among the layer's inputs. Raises ImportModelError for files that are broken
    or not supported, MissingExtraError without the package onnx.
    """
    return load(source, inputs, example_inputs).settled()


def load(source: object, inputs: Any = None, example_inputs: Sequence[Any] | None = None) -> OnnxModel:
    """As `from_onnx`, for who traces the layer: sizes have the names in the file, see `settling`."""
    graph = read(source)
    if not graph.outputs:
        raise ImportModelError("the model has no outputs")
    register()
    names = identifiers(i.name for i in graph.inputs)
    outputs = identifiers((o.name for o in graph.outputs), "y")
    given = given_list(inputs)
    symbols = _symbols(graph, names)
    made: list[Input] = []
    parts: dict[str, Parts] = {}
    for at, info in enumerate(graph.inputs):
        name = names[info.name]
        key = info.name if info.name in given else at
        if info.kind == "tensor":
            said = given.get(key)
            if is_shape(said) and info.dtype in DTYPES:
                said = shaped(info.name, said, info.dtype, name)
            if said is not None and not isinstance(said, Input):
                raise ImportModelError(f"inputs: {expected(info.name)}, got {said!r}")
            made.append(_input(info, name, said, symbols))
        elif key not in given:
            raise untold(info)
        else:
            parts[info.name], found = elements(info, name, given[key], lambda i, n, e: _input(i, n, e, symbols))
            made += found
    if unknown := [n for n in given if isinstance(n, str) and n not in names]:
        raise ImportModelError(f"inputs: the model has no input {unknown[0]!r}; it has {list(names)}")
    foreign = Names(*({n: name for name, n in table.items() if n != name} for table in (names, outputs)))
    return OnnxModel(graph, graph.inputs, made, list(outputs.values()), foreign, {}, parts)


def _symbols(graph: Graph, names: Mapping[str, str]) -> dict[tuple[str, int], str]:
    """A symbol for each open dim: the file's name for it, made an identifier, or one of the input and axis."""
    params = [d for i in graph.inputs for d in i.shape or () if isinstance(d, str)]
    chosen = {p: s.replace(".", "_").replace("-", "_") for p, s in identifiers(dict.fromkeys(params), "d").items()}
    chosen = {p: s if not s[0].isdigit() else f"d{s}" for p, s in chosen.items()}
    taken = set(chosen.values())
    found: dict[tuple[str, int], str] = {}
    for info in graph.inputs:
        for axis, d in enumerate(info.shape or ()):
            if isinstance(d, str):
                found[info.name, axis] = chosen[d]
            elif d is None:
                base = f"{names[info.name]}_{axis}".replace(".", "_").replace("-", "_")
                name = base = base if not base[0].isdigit() else f"d{base}"
                number = 1
                while name in taken:
                    number += 1
                    name = f"{base}_{number}"
                taken.add(name)
                found[info.name, axis] = name
    return found


def _input(info: ValueInfo, name: str, given: Input | None, symbols: Mapping[tuple[str, int], str]) -> Input:
    if info.kind != "tensor" or info.dtype not in DTYPES:
        what = f"a {info.kind}" if info.kind != "tensor" else f"of {info.dtype or 'unknown'} elements"
        raise ImportModelError(f"input {info.name!r}: expected a tensor of {', '.join(DTYPES)}, the file has "
                               f"one {what}")
    if given is not None:
        if given.dtype.name != info.dtype:
            raise ImportModelError(f"input {info.name!r}: the file has {info.dtype}, inputs= says {given.dtype}")
        if info.shape is not None and (len(info.shape) != given.rank or any(
                isinstance(a, int) and a != b for a, b in zip(info.shape, given.shape, strict=True))):
            raise ImportModelError(f"input {info.name!r}: the file has shape {list(info.shape)}, inputs= says "
                                   f"{list(given.shape)}")
        return Input(given.shape, info.dtype, name)
    if info.shape is None:
        raise ImportModelError(f"input {info.name!r}: the file does not tell its shape; give it as inputs="
                               f"{{{info.name!r}: rnngraph.Input((...), dtype={info.dtype!r})}}")
    shape = tuple(d if isinstance(d, int) else symbols[info.name, axis] for axis, d in enumerate(info.shape))
    try:
        return Input(shape, info.dtype, name)
    except ShapeError as e:
        raise ImportModelError(f"input {info.name!r}: {e}") from None


__all__ = ["OnnxModel", "load"]
